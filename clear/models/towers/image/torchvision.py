"""Encoders made from torchvision's classification models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from clear.core.errors import ConfigError, nearest
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.preprocess import Preprocess
from clear.registry import MODELS

if TYPE_CHECKING:
    from torchvision.transforms._presets import ImageClassification

    from clear.core.types import Options


@MODELS.register_module()
class TorchvisionEncoder(ImageEncoder):
    """A model of `torchvision.models` without its classifier, e.g. `TorchvisionEncoder('resnet50')`.

    Args:
        arch: a name of `torchvision.models.list_models(module=torchvision.models)`.
        weights: see `ImageEncoder`.
        preprocess: values that replace some of those published with torchvision's default weights.
        model_args: further arguments of the model's function.
        classifier: see `strip_classifier`.
        trainable: see `ImageEncoder`.
    """

    def __init__(self, arch: str, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None, model_args: Options | None = None,
                 classifier: str | Iterable[str] | None = 'auto', trainable: bool | Options = False):
        model_args = dict(model_args or {})
        model = build_torchvision(arch, model_args)
        super().__init__(model, preprocess=_published_preprocess(arch, model).changed(preprocess), weights=weights,
                         classifier=classifier, identity=dict(arch=arch, model_args=plain(model_args, 'model_args')),
                         trainable=trainable)


def build_torchvision(arch: str, model_args: Options | None = None) -> nn.Module:
    """A classification model of torchvision with random weights.

    Raises:
        ConfigError: naming the nearest known names, if there is no such model.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        near = nearest(arch, known) or ', '.join(known[:5]) + ' ...'
        raise ConfigError(f"torchvision has no classification model '{arch}'. Nearest: {near}.")
    model_args = dict(model_args or {})
    if arch in ('googlenet', 'inception_v3'):
        # They warn and take a minute to draw random numbers unless told how; in training their auxiliary classifiers
        # would come along with the embedding.
        model_args = {'init_weights': False, 'aux_logits': False, **model_args}
    with building(f"torchvision's '{arch}'"):
        return models.get_model(arch, weights=None, **model_args)


def _published_preprocess(arch: str, model: nn.Module) -> Preprocess:
    """The transform published with the default weights, or with the first that take the model's own image size."""
    from torchvision import models

    published = models.get_model_weights(arch)
    specs = [_to_preprocess(entry.transforms()) for entry in (published.DEFAULT, *published)]
    size = getattr(model, 'image_size', specs[0].crop)
    return next((spec for spec in specs if spec.crop == size), specs[0].changed({'resize': size, 'crop': size}))


def _to_preprocess(transform: ImageClassification) -> Preprocess:
    return Preprocess(resize=transform.resize_size[0], crop=transform.crop_size[0], mean=tuple(transform.mean),
                      std=tuple(transform.std), interpolation=transform.interpolation.value,
                      antialias=bool(transform.antialias))
