"""How alike two representations of the same images are, whatever their width and rotation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class BlockCKA:
    """Linear centred kernel alignment of every block of one network with every block of another (Kornblith et al. 2019,
    arXiv:1905.00414), over batches.

    |Y'X|^2 / (|X'X| |Y'Y|) of centred X and Y, 1 for a rotation and scaling of each other. Sums of products and of rows
    are kept in float64 and centred at the end, so that batches of any size give what the whole matrices give. This is
    not 'mini-batch CKA' (Nguyen et al. 2021, arXiv:2010.15327), a mean of unbiased estimates for each batch, which is
    another number.

    Maps are pooled over their positions.

    Example:
        >>> features = torch.randn(50, 8)
        >>> cka = BlockCKA()
        >>> for rows in features.split(16):
        ...     cka.update([rows, rows[:, :3]], [3 * rows[:, [1, 0, 2, 3, 4, 5, 6, 7]] + 2])
        >>> cka.values().shape, round(cka.values()[0, 0].item(), 6)
        (torch.Size([2, 1]), 1.0)
    """

    def __init__(self):
        self._count = 0
        self._sums: list[list[Tensor]] = []
        self._own: list[list[Tensor]] = []
        self._both: list[list[Tensor]] = []

    def update(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Add rows of the same images.

        Args:
            first, second: blocks, each (N, D) or maps (N, C, H, W).

        Raises:
            ValueError: for another number of rows, or values that are not finite.
        """
        sides = [[_pooled(block) for block in blocks] for blocks in (first, second)]
        counts = {len(block) for blocks in sides for block in blocks}
        if len(counts) > 1:
            raise ValueError(f'blocks of {sorted(counts)} rows are not of the same images.')
        sums = [[block.sum(0) for block in blocks] for blocks in sides]
        own = [[block.T @ block for block in blocks] for blocks in sides]
        both = [[y.T @ x for y in sides[1]] for x in sides[0]]
        self._sums, self._own, self._both = (_added(*each) for each in (
            (self._sums, sums), (self._own, own), (self._both, both)))
        self._count += counts.pop()

    def values(self) -> Tensor:
        """(blocks of the first, blocks of the second) float64, 0 ... 1.

        Raises:
            ValueError: for fewer than two images, or a block that is the same for all.
        """
        if self._count < 2:
            raise ValueError(f'{self._count} images have no alignment; expected at least 2.')
        lengths = [torch.stack([self._length(total, product) for total, product in zip(sums, products)])
                   for sums, products in zip(self._sums, self._own)]
        shared = torch.stack([torch.stack([
            (product - torch.outer(y, x) / self._count).square().sum() for y, product in zip(self._sums[1], products)])
            for x, products in zip(self._sums[0], self._both)])
        return shared / torch.outer(*lengths)

    def _length(self, total: Tensor, product: Tensor) -> Tensor:
        centred = product - torch.outer(total, total) / self._count
        if centred.trace() / product.trace() < 1e-12:  # what is left of equal rows is rounding
            raise ValueError('a representation is the same for every image.')
        return centred.norm()


def _pooled(block: Tensor) -> Tensor:
    rows = block.flatten(2).double().mean(2) if block.ndim > 2 else block.double()
    if not rows.isfinite().all():
        raise ValueError('a representation is not finite.')
    return rows


def _added(old: list[list[Tensor]], new: list[list[Tensor]]) -> list[list[Tensor]]:
    return [[one + two for one, two in zip(ones, twos)] for ones, twos in zip(old, new)] or new
