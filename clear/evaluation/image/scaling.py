"""Bring features to a common scale before a classifier sees them; the scale comes from training rows alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clear.core.errors import ConfigError

SCALES = ('none', 'l2', 'standard')


@dataclass(frozen=True)
class Scaler:
    """A fitted scale; call it on (N, D) features. Build it with `fit_scale`."""

    kind: str
    mean: Tensor | None = None
    std: Tensor | None = None

    def to(self, device: torch.device | str) -> Scaler:
        """On a device."""
        return Scaler(self.kind, *(None if values is None else values.to(device) for values in (self.mean, self.std)))

    def __call__(self, features: Tensor) -> Tensor:
        if self.kind == 'l2':
            return functional.normalize(features, dim=1)
        return (features - self.mean) / self.std if self.kind == 'standard' else features


def fit_scale(kind: str, features: Tensor) -> Scaler:
    """'none' changes nothing, 'l2' gives every row unit length, 'standard' every dimension zero mean and unit variance.

    A dimension that is constant in training is centred and not divided.

    Raises:
        ConfigError: for another kind.
    """
    check_scale(kind)
    if kind != 'standard':
        return Scaler(kind)
    # float64: sums over many rows of float32 features with a large mean lose the variance.
    mean = features.mean(0, dtype=torch.float64)
    std = (sum((rows.double() - mean).square_().sum(0) for rows in features.split(8192)) / len(features)).sqrt()
    tiny = 1e-6 * mean.abs().clamp(min=1e-6)  # constant up to rounding
    std = torch.where(std <= tiny, torch.ones_like(std), std)
    return Scaler(kind, mean.to(features.dtype), std.to(features.dtype))


def check_scale(kind: str) -> str:
    """`kind`, refused unless it is known."""
    if kind not in SCALES:
        raise ConfigError(f'scale is {kind!r}; expected one of {", ".join(map(repr, SCALES))}.')
    return kind
