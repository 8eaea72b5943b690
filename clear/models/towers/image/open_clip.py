"""Encoders made from the image towers of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from clear.core.errors import ConfigError
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.open_clip import open_clip_config, tag_weights
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options

# What OpenAI's CLIP, and every model of open_clip that says nothing else, was trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@MODELS.register_module()
class OpenCLIPImageEncoder(ImageEncoder):
    """The image tower of an open_clip model with its projection, e.g. `OpenCLIPImageEncoder('ViT-B-32')`.

    The embedding is in the space shared with text and is not normalised.

    Args:
        arch: a name of `open_clip.list_models()`.
        weights: see `ImageEncoder`; a file of the whole model will do.
        preprocess: values that replace some of those that open_clip evaluates the model with. A model that squashes
            or pads images to a square (SigLIP) is read as resize and central crop, as with `TimmEncoder`.
        quick_gelu: the activation of OpenAI's own weights; None does as the tag or the model's config says.
        tag: published weights by open_clip's name (`open_clip.list_pretrained_tags_by_model(arch)`), fetched if they
            are not in its cache; in place of `weights`.
        allow_network: whether a tag may be fetched.
        cache_dir: where fetched files lie; None is the library's own place.
        model_args: values that replace some of the model's config, e.g.
            `dict(embed_dim=32, vision_cfg=dict(layers=2, width=64, head_width=32, patch_size=8, image_size=32))`.
        trainable: see `ImageEncoder`.
    """

    augmentation = 'crop'  # A caption may say left and right.

    def __init__(self, arch: str, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None, quick_gelu: bool | None = None,
                 tag: str | None = None, allow_network: bool = False, cache_dir: str | None = None,
                 model_args: Options | None = None, trainable: bool | Options = False):
        config = open_clip_config(arch, model_args)
        if tag is not None:
            if weights is not None:
                raise ConfigError('OpenCLIPImageEncoder takes either tag or weights, not both.')
            weights, published = tag_weights(arch, tag, allow_network, cache_dir)
            quick_gelu = bool(published.get('quick_gelu', False)) if quick_gelu is None else quick_gelu
        quick_gelu = bool(config.get('quick_gelu', False)) if quick_gelu is None else quick_gelu
        model = _build_tower(arch, config, quick_gelu)
        identity = dict(arch=arch, quick_gelu=quick_gelu)
        if model_args:
            identity['model_args'] = plain(model_args, 'model_args')
        super().__init__(model, preprocess=_published_preprocess(config).changed(preprocess), weights=weights,
                         classifier=None, identity=identity, trainable=trainable)


def _build_tower(arch: str, config: Options, quick_gelu: bool) -> nn.Module:
    # The tower alone: the whole model would also build a text tower, some of which ask the network for a config.
    from open_clip.model import _build_vision_tower

    vision = {**config['vision_cfg'], 'timm_model_pretrained': False, 'output_tokens': False}
    with building(f"open_clip's '{arch}'"):
        return _build_vision_tower(config['embed_dim'], vision, quick_gelu)


def _published_preprocess(config: Options) -> Preprocess:
    size = config['vision_cfg'].get('image_size', 224)
    size = size if isinstance(size, int) else size[0]
    said = config.get('preprocess_cfg', {})
    return Preprocess(resize=size, crop=size, interpolation=said.get('interpolation', 'bicubic'),
                      mean=tuple(said.get('mean', CLIP_MEAN)), std=tuple(said.get('std', CLIP_STD)))
