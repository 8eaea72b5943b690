"""The encoder of a config, as every bank of it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from clear.core.seeding import seeded_draws

if TYPE_CHECKING:
    from clear.core.types import Options


def make_encoder(cfg: Options | nn.Module) -> nn.Module:
    """Build an encoder. One without weights is random, but the same every time (drawn from seed 0)."""
    if isinstance(cfg, nn.Module):
        return cfg
    from clear.models.towers.image import build_encoder

    with seeded_draws(0):
        return build_encoder(cfg)
