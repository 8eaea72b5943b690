"""Build an image encoder from a config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import to_plain
from clear.core.errors import ConfigError
from clear.models.towers.base import refused
from clear.models.towers.image.base import ImageEncoder
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options, Plain


def build_encoder(cfg: Options | ImageEncoder) -> ImageEncoder:
    """The encoder of a config such as `dict(type='TimmEncoder', arch='resnet18')`: frozen, in eval mode, on the CPU.

    An encoder that is built already is returned as it is.

    Raises:
        ConfigError: if the type is no image encoder or its arguments do not fit.
        CheckpointError: if its weights do not fit.
    """
    if isinstance(cfg, ImageEncoder):
        return cfg
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError("encoder must be a dict with a type, such as dict(type='TorchvisionEncoder', "
                          f"arch='resnet50'), got {cfg!r}.")
    kind = MODELS.require(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if not (isinstance(kind, type) and issubclass(kind, ImageEncoder)):
        raise ConfigError(f"encoder.type: {getattr(kind, '__name__', kind)} is no image encoder. There are "
                          'MMPretrainEncoder, TorchvisionEncoder, TimmEncoder, OpenCLIPImageEncoder, TorchHubEncoder, '
                          'HuggingFaceImageEncoder, ConSEImageEncoder, DictEncoder.')
    try:
        encoder = MODELS.build(dict(cfg))
    except TypeError as error:
        raise refused('encoder', kind, cfg, error) from error
    encoder.config = without_folders({**cfg, 'type': cfg['type'] if isinstance(cfg['type'], str) else kind.__name__})
    return encoder


def without_folders(cfg: Options) -> dict[str, Plain]:
    """An encoder's config in plain values, of the weights' file and the model's folder the name only."""
    plain, weights = to_plain(dict(cfg)), cfg.get('weights')
    if isinstance(weights, Mapping) and weights.get('path'):
        plain['weights']['path'] = Path(weights['path']).name
    elif isinstance(weights, (str, Path)):
        plain['weights'] = Path(weights).name
    if isinstance(cfg.get('model'), (str, Path)) and Path(cfg['model']).exists():
        plain['model'] = Path(cfg['model']).name
    return plain
