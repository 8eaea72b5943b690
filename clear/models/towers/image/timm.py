"""Encoders made from timm's models."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from clear.core.errors import ConfigError, nearest
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import INTERPOLATIONS, Preprocess
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options


@MODELS.register_module()
class TimmEncoder(ImageEncoder):
    """A model of timm without its classifier, e.g. `TimmEncoder('tf_efficientnet_lite0')`.

    Args:
        arch: a name of `timm.list_models()`.
        weights: see `ImageEncoder`.
        preprocess: values that replace some of the model's data config in timm. A config that squashes images to a
            square, or pads them, is read as resize and central crop: this framework keeps aspect ratios.
        model_args: further arguments of `timm.create_model`.
        classifier: see `strip_classifier`.
        trainable: see `ImageEncoder`.
    """

    def __init__(self, arch: str, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None, model_args: Options | None = None,
                 classifier: str | Iterable[str] | None = 'auto', trainable: bool | Options = False):
        model_args = dict(model_args or {})
        model = build_timm(arch, model_args)
        if classifier == 'auto' and getattr(model, 'num_classes', None) == 0:
            classifier = None  # Made without a classifier: nothing to look for.
        super().__init__(model, preprocess=_data_config(model).changed(preprocess), weights=weights,
                         classifier=classifier, identity=dict(arch=arch, model_args=plain(model_args, 'model_args')),
                         trainable=trainable)


def build_timm(arch: str, model_args: Options | None = None) -> nn.Module:
    """A model of timm with random weights.

    Raises:
        ConfigError: naming the nearest known names, if there is no such model.
    """
    import timm

    model_args = dict(model_args or {})
    if model_args.get('pretrained') or arch.startswith(('hf-hub:', 'hf_hub:')):
        raise ConfigError(f"timm's '{arch}': pretrained=True and hub names would download; give a file as weights.")
    if not timm.is_model(arch):
        near = nearest(arch, timm.list_models()) or 'none; see timm.list_models()'
        raise ConfigError(f"timm has no model '{arch}'. Nearest: {near}.")
    with building(f"timm's '{arch}'"):
        return timm.create_model(arch, **{**model_args, 'pretrained': False})


def _data_config(model: nn.Module) -> Preprocess:
    import timm

    config = timm.data.resolve_model_data_config(model)
    crop = config['input_size'][-1]
    interpolation = config['interpolation'] if config['interpolation'] in INTERPOLATIONS else 'bicubic'
    return Preprocess(resize=math.floor(crop / config['crop_pct']), crop=crop, interpolation=interpolation,
                      mean=tuple(config['mean']), std=tuple(config['std']))
