"""What every loss does with its inputs first: at least float32, and shapes that fit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clear.core.checks import check_number


def full_precision(forward: Callable) -> Callable:
    """Decorate a loss's `forward`: no autocast inside, and every tensor (also in lists) at least float32.

    A softmax over 65,536 candidates, or a variance over a batch, loses its tail in half precision.
    """

    @functools.wraps(forward)
    def in_full_precision(self, *args, **kwargs):
        device = next((each.device for value in (*args, *kwargs.values()) for each in _tensors(value)), None)
        with torch.autocast(device.type if device is not None else 'cpu', enabled=False):
            return forward(self, *map(_raised, args), **{name: _raised(value) for name, value in kwargs.items()})

    return in_full_precision


def check_positive(owner: object, **values: float) -> None:
    """Raise ConfigError, which is a ValueError, unless every value is a number above 0."""
    for name, value in values.items():
        check_number(f'{type(owner).__name__}: {name}', value, above=0)


def check_matrices(owner: object, **tensors: Tensor) -> None:
    """Raise ValueError unless all tensors are matrices of one shape with at least one row."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 2 or shape[0] == 0 for shape in shapes.values()):
        raise ValueError(f'{type(owner).__name__}: expected matrices (batch, dim) of one shape, found '
                         + ', '.join(f'{name} {shape}' for name, shape in shapes.items()) + '.')


def check_views(owner: object, **groups: Sequence[Tensor]) -> None:
    """Raise ValueError unless every group is a non-empty sequence, and all views are matrices of one shape."""
    for name, views in groups.items():
        if isinstance(views, Tensor) or len(views) == 0:
            found = f'a tensor {tuple(views.shape)}' if isinstance(views, Tensor) else 'none'
            raise ValueError(f'{type(owner).__name__}: {name} must be a list of at least one view (batch, dim), '
                             f'found {found}.')
    check_matrices(owner, **{f'{name}[{index}]': view for name, views in groups.items()
                             for index, view in enumerate(views)})


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [each for item in value for each in _tensors(item)] if isinstance(value, (list, tuple)) else []


def _raised(value: object) -> object:
    if isinstance(value, Tensor):
        return value.to(torch.promote_types(value.dtype, torch.float32)) if value.is_floating_point() else value
    return [_raised(item) for item in value] if isinstance(value, (list, tuple)) else value
