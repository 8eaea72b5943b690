"""The encoder of a config, as every bank of it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from clear.core.seeding import seeded_draws

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.models.towers.text import TextEncoder

# Keys that say what an encoder without a type is.
PAIR_KEYS = ('image_encoder', 'text_encoder')
RUN_KEY = 'run'


def typed(cfg: Options) -> Options:
    """An encoder's config with the type that its keys imply, where it names none.

    `dict(image_encoder=..., text_encoder=...)`, or one of the two, is a `TowerPair`; `dict(run='work_dirs/x')` is an
    `AlignedRun`.
    """
    if 'type' in cfg:
        return cfg
    if RUN_KEY in cfg:
        return {'type': 'AlignedRun', **cfg}
    return {'type': 'TowerPair', **cfg} if any(key in cfg for key in PAIR_KEYS) else cfg


def make_encoder(cfg: Options | nn.Module) -> nn.Module:
    """Build an encoder. One without weights is random, but the same every time (drawn from seed 0).

    Args:
        cfg: see `build_encoder` and `typed`.
    """
    if isinstance(cfg, nn.Module):
        return cfg
    from clear.models.towers.image import build_encoder

    with seeded_draws(0):
        return build_encoder(typed(cfg) if isinstance(cfg, Mapping) else cfg)


def make_text_encoder(cfg: Options | TextEncoder) -> TextEncoder:
    """Build an encoder of text alone, likewise the same every time."""
    from clear.models.towers.text import build_text_encoder

    with seeded_draws(0):
        return build_text_encoder(cfg)
