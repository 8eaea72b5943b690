"""The head of a task, as an encoder and a table of targets ask for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed, seeded_draws
from clear.evaluation.heads.pixelwise import ALL_LEVELS
from clear.registry import MODELS

# Kind of targets -> numbers for each pixel; of classes one for each.
OUT_CHANNELS = dict(mask=1, depth=1, edges=1, luminance=1, flow=2, image=3)


def check_head(cfg: Mapping[str, object]) -> None:
    """Refuse a head without a type, of a type that is none, or with keys that its class does not have.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    check_keys('head', set(_typed(cfg)) - {'type'}, accepted_arguments(_kind(cfg)), str(cfg['type']))


def accepts(cfg: Mapping[str, object], name: str) -> bool:
    """Whether a head has an argument of this name.

    Raises:
        ConfigError: for a head without a type.
    """
    return name in (accepted_arguments(_kind(_typed(cfg))) or ())


def _typed(cfg: Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(cfg, Mapping) or 'type' not in cfg:
        raise ConfigError(f"head is {cfg!r}; expected dict(type='PixelWiseHead', ...).")
    return cfg


def _kind(cfg: Mapping[str, object]) -> Callable[..., object]:
    return MODELS.require(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']


def build_head(cfg: Mapping[str, object], seed: int, **known: object) -> nn.Module:
    """A head; of what is known it gets what it accepts and its config leaves open. The same weights every time.

    Raises:
        ConfigError: for arguments that it refuses.
    """
    filled = {name: value for name, value in known.items() if name not in cfg and accepts(cfg, name)}
    with seeded_draws(derive_seed(seed, 'pixelwise head')), building(f'head {cfg["type"]}'):
        return MODELS.build(dict(cfg), default_args=filled)


def levels_of(head: nn.Module) -> tuple[int, ...]:
    """Levels of the maps that a head reads: its `levels`, else all five."""
    return tuple(sorted(getattr(head, 'levels', ALL_LEVELS)))


def reads_native(head: nn.Module) -> bool:
    """Whether a head wants maps as the network has them, and not resampled: it says `native_maps = True`."""
    return getattr(head, 'native_maps', False)


def check_output(outputs: torch.Tensor, expected: Sequence[int], head: nn.Module) -> None:
    """Refuse a head that gives another shape than the targets have.

    Raises:
        ConfigError: with both.
    """
    if tuple(outputs.shape) != tuple(expected):
        raise ConfigError(f'{type(head).__name__} gives {tuple(outputs.shape)}, the targets need {tuple(expected)}: '
                          '(images, out_channels, height, width).')
