"""Cosine similarities, of which equal pairs of rows have equal ones, to the bit."""

from __future__ import annotations

import torch
from torch import Tensor

# Micro-kernels of matrix products are 4 to 48 wide, and what is left over is summed in another order, so that one pair
# of rows has two scores that differ in the last bit: a tie is lost. In whole tiles all are summed alike.
_TILE = 64


def unit_rows(rows: Tensor, at_least: int = 0) -> Tensor:
    """Rows (N, D) of unit length, and rows of zeros behind them up to a multiple of 64, and `at_least` so many.

    Args:
        rows: of any norm; half precision becomes float32. A row of zeros stays one.

    Raises:
        ValueError: for a row that is not finite.
    """
    if rows.dtype not in (torch.float32, torch.float64):
        rows = rows.float()
    norms = rows.norm(dim=1, keepdim=True)
    bad = (~norms.isfinite()).nonzero()
    if len(bad):
        raise ValueError(f'row {int(bad[0, 0])} is not finite ({len(bad)} of {len(rows)} are not): no cosine is.')
    size = -(-max(len(rows), at_least) // _TILE) * _TILE
    padded = rows.new_zeros(size, rows.shape[1])
    torch.div(rows, norms.clamp(min=1e-12), out=padded[:len(rows)])
    return padded
