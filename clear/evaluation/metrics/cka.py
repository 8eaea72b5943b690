"""How alike two representations of the same images are, whatever their width and rotation."""

from __future__ import annotations

import torch
from torch import Tensor


class LinearCKA:
    """Linear centred kernel alignment of two representations (Kornblith et al. 2019, arXiv:1905.00414), over batches.

    |Y'X|^2 / (|X'X| |Y'Y|) of centred X and Y, 1 for a rotation and scaling of each other. Sums of products and of rows
    are kept in float64 and centred at the end, so that batches of any size give what the whole matrices give. This is
    not 'mini-batch CKA' (Nguyen et al. 2021, arXiv:2010.15327), a mean of unbiased estimates for each batch, which is
    another number.

    Maps are pooled over their positions.

    Example:
        >>> features = torch.randn(50, 8)
        >>> cka = LinearCKA()
        >>> for rows in features.split(16):
        ...     cka.update(rows, 3 * rows[:, [1, 0, 2, 3, 4, 5, 6, 7]] + 2)
        >>> round(cka.value(), 6)
        1.0
    """

    def __init__(self):
        self._count = 0
        self._sums: list[Tensor] = []
        self._products: list[Tensor] = []

    def update(self, first: Tensor, second: Tensor) -> None:
        """Add rows of the same images.

        Args:
            first: (N, D) or maps (N, C, H, W); second: (N, E), or maps.

        Raises:
            ValueError: for another number of rows, or values that are not finite.
        """
        x, y = (value.flatten(2).double().mean(2) if value.ndim > 2 else value.double() for value in (first, second))
        if len(x) != len(y):
            raise ValueError(f'{len(x)} rows of the first and {len(y)} of the second are not of the same images.')
        if not (x.isfinite().all() and y.isfinite().all()):
            raise ValueError('a representation is not finite.')
        sums, products = [x.sum(0), y.sum(0)], [x.T @ x, y.T @ y, y.T @ x]
        self._sums = [old + new for old, new in zip(self._sums, sums)] or sums
        self._products = [old + new for old, new in zip(self._products, products)] or products
        self._count += len(x)

    def value(self) -> float:
        """The alignment, 0 ... 1.

        Raises:
            ValueError: for fewer than two images, or a representation that is the same for all.
        """
        if self._count < 2:
            raise ValueError(f'{self._count} images have no alignment; expected at least 2.')
        x, y = self._sums
        means = [torch.outer(left, right) / self._count for left, right in ((x, x), (y, y), (y, x))]
        own, other, both = (product - mean for product, mean in zip(self._products, means))
        scale = own.norm() * other.norm()
        # What is left of equal rows is rounding.
        if min(own.trace() / self._products[0].trace(), other.trace() / self._products[1].trace()) < 1e-12:
            raise ValueError('a representation is the same for every image.')
        return (both.square().sum() / scale).item()
