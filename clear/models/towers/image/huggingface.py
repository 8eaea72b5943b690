"""Image encoders made from transformers: vision networks, and the image side of two-tower models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clear.core.checks import check_flag
from clear.core.errors import ConfigError
from clear.models.towers.hugging_face import HubSource, config_identity
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.open_clip import CLIP_MEAN, CLIP_STD
from clear.models.towers.image.preprocess import IMAGENET_MEAN, IMAGENET_STD, INTERPOLATIONS, Preprocess
from clear.registry import MODELS

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from clear.core.types import Options

_TWO_TOWERS = ('clip', 'metaclip_2', 'altclip', 'chinese_clip', 'siglip')
_ALONE = {'clip_vision_model': 'CLIPVisionModelWithProjection', 'siglip_vision_model': 'SiglipVisionModel'}
# PIL's numbers in `preprocessor_config.json`.
RESAMPLE = ('nearest', 'lanczos', 'bilinear', 'bicubic', 'box', 'hamming')
_OTHER_SIDE = ('text_model.', 'text_projection.', 'logit_')


@MODELS.register_module()
class HuggingFaceImageEncoder(ImageEncoder):
    """A vision network of transformers, e.g. `HuggingFaceImageEncoder('weights/dinov2')`.

    Of a model with two towers (CLIP, SigLIP, AltCLIP, Chinese-CLIP) it is the image side with its projection, in the
    space shared with text and not normalised. Of others it is the pooled output where the pooling has no weights
    (ResNet, ConvNeXt, Swin, DINOv2), else the first token's last state: a pooler of weights (ViT) belongs to its own
    pretraining and is taken off.

    Args:
        model: a folder, or a name on the hub: see `HubSource`.
        preprocess: values that replace some of those in `preprocessor_config.json`. A processor that squashes images
            to a square (ViT, SigLIP) is read as resize and central crop, as with `TimmEncoder`.
        pretrained: False builds the network from the folder's config with random weights.
        allow_network, cache_dir: see `HubSource`.
        trainable: see `ImageEncoder`.

    Raises:
        ConfigError: if the folder or name cannot be read, or is no vision network.
        CheckpointError: if weights are missing that would then be random.
    """

    def __init__(self, model: str | Path, preprocess: Options | Preprocess | None = None,
                 pretrained: bool = True, allow_network: bool = False, cache_dir: str | None = None,
                 trainable: bool | Options = False):
        check_flag('pretrained', pretrained)
        source = HubSource(model, type(self).__name__, allow_network=allow_network, cache_dir=cache_dir)
        config = source.config()
        vision = getattr(config, 'vision_config', config)
        network = _load(source, config, pretrained)
        if isinstance(network, ImageSide):
            # Chinese-CLIP's own training draws nothing.
            self.augmentation = 'none' if config.model_type == 'chinese_clip' else 'crop'
        super().__init__(network, preprocess=_published(source, config, vision).changed(preprocess), classifier=None,
                         identity=dict(config=config_identity(config)), trainable=trainable)


class ImageSide(nn.Module):
    """Images -> embedding by the image half of a two-tower model, under the names of the whole."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.vision_model = model.vision_model
        self.visual_projection = getattr(model, 'visual_projection', None)
        self.config = model.config

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.vision_model(pixel_values=images).pooler_output
        return pooled if self.visual_projection is None else self.visual_projection(pooled)


class _Vision(nn.Module):
    """Images -> embedding by a vision network."""

    def __init__(self, network: nn.Module):
        super().__init__()
        pooler = getattr(network, 'pooler', None)
        self.reads_first_token = pooler is not None and any(True for _ in pooler.parameters())
        if self.reads_first_token:
            network.pooler = None
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.network(pixel_values=images)
        pooled = None if self.reads_first_token else getattr(outputs, 'pooler_output', None)
        if pooled is None:
            states = outputs.last_hidden_state
            return states[:, 0] if states.ndim == 3 else states
        return pooled


def _load(source: HubSource, config: PretrainedConfig, pretrained: bool) -> nn.Module:
    kind = config.model_type
    if kind in _TWO_TOWERS or kind in _ALONE:
        cls = getattr(source.library, _ALONE[kind]) if kind in _ALONE else source.library.AutoModel
        model, _ = source.model(cls, config, pretrained, may_lack=_OTHER_SIDE)
        return ImageSide(model)
    if hasattr(config, 'text_config') or not (hasattr(config, 'num_channels') or hasattr(config, 'image_size')):
        raise ConfigError(f'HuggingFaceImageEncoder: {kind} is no vision network, nor a model with two towers of '
                          f'which the image side is known ({", ".join(_TWO_TOWERS)}).')
    network, _ = source.model(source.library.AutoModel, config, pretrained, may_lack=('pooler.',))
    return _Vision(network)


def _published(source: HubSource, config: PretrainedConfig, vision: PretrainedConfig) -> Preprocess:
    """The folder's own processor as a `Preprocess`, else what networks of this kind are mostly trained with."""
    said = source.json('preprocessor_config.json')
    size, crop = _side(said.get('size')), _side(said.get('crop_size')) if said.get('do_center_crop', True) else None
    crop = crop or size or _side(getattr(vision, 'image_size', None)) or 224
    resample = said.get('resample')
    is_pair = vision is not config or config.model_type in _ALONE
    return Preprocess(
        resize=max(size or crop, crop) if said.get('do_resize', True) else None, crop=crop,
        interpolation=RESAMPLE[resample] if resample in range(len(RESAMPLE)) else INTERPOLATIONS[2],
        mean=tuple(said.get('image_mean') or (CLIP_MEAN if is_pair else IMAGENET_MEAN)),
        std=tuple(said.get('image_std') or (CLIP_STD if is_pair else IMAGENET_STD)))


def _side(value: object) -> int | None:
    if isinstance(value, Mapping):
        value = value.get('shortest_edge') or value.get('height')
    if isinstance(value, (list, tuple)):
        value = value[0]
    return value if isinstance(value, int) else None
