"""Correlations of two lists of numbers, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


def pearson(first: Tensor, second: Tensor) -> float:
    """Pearson's correlation of (N,) and (N,).

    It is 0 where one side is constant: scipy gives NaN there, but a model that finds all pairs equally similar orders
    nothing.

    Raises:
        ValueError: for other shapes, fewer than two numbers, or some that are not finite.
    """
    first, second = _checked(first, second)
    # By the largest first: the square of a small deviation may not underflow to 0.
    first, second = _scaled(first - first.mean()), _scaled(second - second.mean())
    lengths = first.norm() * second.norm()
    return 0.0 if lengths == 0 else (first @ second / lengths).clamp(-1, 1).item()


def spearman(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of (N,) and (N,); equal numbers share the mean of their ranks.

    0 where one side is constant, and errors, as `pearson`.
    """
    first, second = _checked(first, second)
    return pearson(mean_ranks(first), mean_ranks(second))


def mean_ranks(values: Tensor) -> Tensor:
    """(N,) float64 ranks 1 ... N by rising value; equal values share the mean of their ranks."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts - 1) / 2)[places]


def _checked(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ValueError(f'a correlation is of (N,) and (N,), N > 1; got {tuple(first.shape)} and '
                         f'{tuple(second.shape)}.')
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError('a correlation is of finite numbers.')
    # The mean of equal numbers may miss them by a bit, which is no deviation.
    first, second = (torch.zeros_like(each, dtype=torch.float64) if (each == each[0]).all() else each.double()
                     for each in (first, second))
    return first, second


def _scaled(values: Tensor) -> Tensor:
    largest = values.abs().max()
    return values / largest if largest > 0 else values
