"""Weights between two models of one kind, and a model that has other weights for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from clear.core.checks import check_number


def check_wise_ft(where: str, alpha: float | None) -> float | None:
    """`alpha` in 0 ... 1, or None.

    Raises:
        ConfigError: for anything else.
    """
    if alpha is None:
        return None
    check_number(where, alpha, 0, 1)
    return alpha


def interpolate(start: Mapping[str, Tensor], end: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """`(1 - alpha) * start + alpha * end` of every tensor of floating numbers; the others are those of `end`.

    WiSE-FT (Wortsman et al. 2022, arXiv:2109.01903), for what a network was before it was trained and after. ITRA's
    also interpolates counts.

    Raises:
        ValueError: if the names differ.
    """
    if start.keys() != end.keys():
        raise ValueError(f'weights of two kinds: only one has {sorted(start.keys() ^ end.keys())[:3]}.')
    return {name: torch.lerp(start[name].to(value), value, alpha) if value.is_floating_point() else value
            for name, value in end.items()}


@contextmanager
def other_weights(model: nn.Module, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the tensors of a model have other values; afterwards their own again, bit for bit."""
    present = model.state_dict()
    own = {name: value.clone() for name, value in present.items()}
    _copy(present, state)
    try:
        yield
    finally:
        _copy(present, own)


@torch.no_grad()
def _copy(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    for name, value in target.items():
        value.copy_(source[name])
