"""Statistics of the columns of a batch, over all processes if asked for, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.core import dist


class GlobalBatch:
    """Sums over the rows of the global batch, or of this process's alone.

    Processes may have different numbers of rows. Nothing here waits for the device.

    Args:
        rows: (N, D), to count them.
        gather: whether other processes count.
        min_rows: fewer are an error, where this process can tell.

    Raises:
        ValueError: if the batch is too small.
    """

    def __init__(self, rows: Tensor, gather: bool, *, min_rows: int = 1):
        self._gather = gather and dist.world_size() > 1
        if not self._gather and len(rows) < min_rows:
            raise ValueError(f'A variance over the batch needs at least {min_rows} rows, found {len(rows)}.')
        self.count = self.sum(rows.new_full((), len(rows)))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes of what each computed from its rows."""
        return dist.sum_with_gradient(tensor) if self._gather else tensor

    def centred(self, rows: Tensor) -> Tensor:
        """Rows (N, D) minus the mean of their column."""
        return rows - self.sum(rows.sum(0)) / self.count

    def standardised(self, rows: Tensor, eps: float) -> Tensor:
        """As BatchNorm without affine parameters does in training: biased variance, plus eps, under the root."""
        centred = self.centred(rows)
        variance = self.sum(centred.square().sum(0)) / self.count
        return centred * torch.rsqrt(variance + eps)
