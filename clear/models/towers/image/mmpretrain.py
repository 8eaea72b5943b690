"""Encoders made from mmpretrain's models, by name or from a backbone's config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from clear.core.errors import ConfigError, nearest
from clear.models.classifier import ComposedClassifier, build_classifier
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options


@MODELS.register_module()
class MMPretrainEncoder(ImageEncoder):
    """A backbone of mmpretrain (or of ours) with an optional neck, or one of its named models without classifier.

    Args:
        backbone: config, e.g. `dict(type='ResNet', depth=50)`. Its last output counts; maps are averaged.
        neck: config of what follows it.
        arch: instead of both, a name of `mmpretrain.list_models()`: then the layers of its head before the last
            one belong to the encoder (MobileNetV3's wide layer).
        weights: see `ImageEncoder`.
        preprocess: values that replace some of: resize 256, crop 224 (or the backbone's `img_size`), bicubic, mean
            and std of ImageNet, RGB. Weights of mmpretrain were trained on RGB images.
        classifier: see `strip_classifier`; only with `arch`.
        trainable: see `ImageEncoder`.
    """

    def __init__(self, backbone: Options | None = None, neck: Options | None = None,
                 arch: str | None = None, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None,
                 classifier: str | Iterable[str] | None = 'auto', trainable: bool | Options = False):
        if (backbone is None) == (arch is None) or (arch is not None and neck is not None):
            raise ConfigError("MMPretrainEncoder takes either backbone=dict(type='ResNet', depth=50), with a neck or "
                              "without, or arch='resnet50_8xb32_in1k'.")
        if arch is not None:
            model, size = _build_named(arch)
            identity = dict(arch=arch)
        else:
            model, size = _Features(backbone, neck), None
            classifier = None
            identity = dict(backbone=plain(backbone, 'backbone'), neck=plain(neck, 'neck'))
        super().__init__(model, preprocess=_default_preprocess(model.backbone, size).changed(preprocess),
                         weights=weights, classifier=classifier, identity=identity, trainable=trainable)


class _Features(nn.Module):
    """Backbone and neck; gives what the last of them gives."""

    def __init__(self, backbone: Options, neck: Options | None):
        super().__init__()
        parts = build_classifier(dict(backbone=backbone, neck=neck))
        self.backbone, self.neck = parts.backbone, parts.neck

    def forward(self, images: Tensor) -> Tensor | tuple | list:
        feats = self.backbone(images)
        return feats if self.neck is None else self.neck(feats)


def _build_named(arch: str) -> tuple[ComposedClassifier, int | None]:
    """A named model with random weights, and the size of image that its test pipeline ends with."""
    from mmpretrain.apis import ModelHub, list_models

    known = list_models(task='Image Classification')
    if arch not in known:
        near = nearest(arch, known) or 'none; see mmpretrain.list_models()'
        raise ConfigError(f"mmpretrain has no classification model '{arch}'. Nearest: {near}.")
    with building(f"mmpretrain's '{arch}'"):
        config = ModelHub.get(arch).config
        model = {key: config.model.to_dict().get(key) for key in ('backbone', 'neck', 'head')}
        for part in model.values():
            _forget_pretrained(part)
        built = build_classifier(model)
    sizes = [step['crop_size'] for step in config.test_dataloader.dataset.pipeline if step.get('type') == 'CenterCrop']
    return built, sizes[0] if sizes and isinstance(sizes[0], int) else None


def _forget_pretrained(part: dict | list | None) -> None:
    # Recipes that start from other weights name their address; ours come from `weights`.
    init_cfg = part.get('init_cfg') if isinstance(part, dict) else None
    if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        part.pop('init_cfg')


def _default_preprocess(backbone: nn.Module, size: int | None) -> Preprocess:
    own = getattr(backbone, 'img_size', None)
    own = own[0] if isinstance(own, (tuple, list)) else own
    crop = size or (own if isinstance(own, int) else 224)
    return Preprocess(resize=round(crop * 256 / 224), crop=crop, interpolation='bicubic')
