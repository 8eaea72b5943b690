"""Softmaxes over all pairs of a batch without ever holding the scores of all of them.

8,192 images and texts make 67 million scores, 256 MB for each matrix and each gradient of one. What a loss needs is the
logarithms of the sums of their exponentials; its gradients take one more pass over the same tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Rows and columns of a tile of scores: on a CPU what fits into its cache, on a GPU few launches (128 MB in float32).
TILE = {'cpu': (512, 512), 'cuda': (4096, 8192)}
# Scores that are kept for the backward pass, and not computed again, where they are a single tile (1 MB in float32).
KEPT_SCORES = 2**18


class Answers(Protocol):
    """Which columns are right for which rows; each right one has the same share."""

    def count(self, tile: Tiles, row_hits: Tensor, column_hits: Tensor) -> None:
        """Add the mean of the right scores of each row (N, 1), and of each column (1, M), as far as a tile has them."""

    def subtract(self, tile: Tiles, weights: Tensor, factor: int) -> None:
        """Take `factor` times the shares of the right columns from the weights of a tile, in place."""


class Partners:
    """Row i belongs to column `first + i`."""

    def __init__(self, first: int):
        self._first = first

    def count(self, tile: Tiles, row_hits: Tensor, column_hits: Tensor) -> None:
        own = self.own(tile, tile.scores)
        row = max(tile.rows.start, tile.columns.start - self._first)
        row_hits[row:row + len(own), 0] = own
        column_hits[0, row + self._first:row + self._first + len(own)] = own

    def subtract(self, tile: Tiles, weights: Tensor, factor: int) -> None:
        self.own(tile, weights).sub_(factor)

    def own(self, tile: Tiles, values: Tensor) -> Tensor:
        """A view of those of the values (R, C) of a tile that belong to pairs."""
        return values.diagonal(self._first + tile.rows.start - tile.columns.start)


class Groups:
    """All columns of a row's group are right for it.

    Args:
        rows, columns: numbers of groups (N,), (M,), where a group has the same share of either side.
        sizes: how many columns the group of each row has (N,), and of each column (M,).
    """

    def __init__(self, rows: Tensor, columns: Tensor, sizes: tuple[Tensor, Tensor]):
        self._rows, self._columns = rows.unsqueeze(1), columns.unsqueeze(0)
        self._row_shares, self._column_shares = (1 / sizes[0]).unsqueeze(1), (1 / sizes[1]).unsqueeze(0)

    def count(self, tile: Tiles, row_hits: Tensor, column_hits: Tensor) -> None:
        right = torch.mul(tile.scores, self._are_equal(tile), out=tile.scratch)
        row_hits[tile.rows].addcmul_(right.sum(1, keepdim=True), self._row_shares[tile.rows])
        column_hits[:, tile.columns].addcmul_(right.sum(0, keepdim=True), self._column_shares[:, tile.columns])

    def subtract(self, tile: Tiles, weights: Tensor, factor: int) -> None:
        weights.sub_(self._are_equal(tile) * self._row_shares[tile.rows], alpha=factor)

    def _are_equal(self, tile: Tiles) -> Tensor:
        return self._rows[tile.rows] == self._columns[:, tile.columns]


def mean_cross_entropy(rows: Tensor, columns: Tensor, scale: Tensor, answers: Answers, *,
                       both_ways: bool = False) -> Tensor:
    """Mean over rows of the cross-entropy between the softmax of `scale * rows @ columns.T` and the right columns.

    Gradients flow to rows, columns and scale.

    Args:
        both_ways: the average of that and of the same with rows and columns exchanged, from one set of scores; there
            must be as many rows as columns.

    Shape:
        rows: (N, D)   columns: (M, D)   scale: ()   returns: ()
    """
    return _MeanCrossEntropy.apply(rows, columns, scale, answers, both_ways)


class _MeanCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, answers: Answers, both_ways: bool) -> Tensor:
        by_row, by_column = _LogSum(rows, 1), _LogSum(columns, 0)
        tiles = Tiles(rows, columns, scale)
        for tile in tiles:
            by_row.add(tile.scores, tile.scratch, tile.rows)
            if both_ways:
                by_column.add(tile.scores, tile.scratch, tile.columns)
            answers.count(tile, by_row.hits, by_column.hits)
        kept = tiles.scores if tiles.is_single and tiles.scores.numel() <= KEPT_SCORES else None
        ctx.save_for_backward(rows, columns, scale, by_row.largest, by_row.total, by_column.largest, by_column.total,
                              kept)
        ctx.answers, ctx.both_ways = answers, both_ways
        return (by_row.mean_loss() + by_column.mean_loss()) / 2 if both_ways else by_row.mean_loss()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        rows, columns, scale, row_largest, row_total, column_largest, column_total, kept = ctx.saved_tensors
        directions = 2 if ctx.both_ways else 1
        row_share, column_share = 1 / row_total, 1 / column_total
        for_rows = torch.zeros_like(rows)
        for_columns = torch.zeros_like(columns) if ctx.needs_input_grad[1] else None
        for tile in Tiles(rows, columns, scale, kept):
            # Softmax of rows, plus that of columns, minus targets: the gradient of the scores, but for a factor.
            weights = torch.sub(tile.scores, row_largest[tile.rows], out=tile.scratch).exp_()
            weights.mul_(row_share[tile.rows])
            if ctx.both_ways:
                tile.scores.sub_(column_largest[:, tile.columns]).exp_()
                weights.addcmul_(tile.scores, column_share[:, tile.columns])
            ctx.answers.subtract(tile, weights, directions)
            for_rows[tile.rows].addmm_(weights, columns[tile.columns])  # (R, C) @ (C, D) -> (R, D)
            if for_columns is not None:
                for_columns[tile.columns].addmm_(weights.T, rows[tile.rows])
        gradient = gradient / (directions * len(rows))
        for_scale = gradient * sum_of_products(for_rows, rows) if ctx.needs_input_grad[2] else None
        factor = gradient * scale
        return (for_rows.mul_(factor), None if for_columns is None else for_columns.mul_(factor), for_scale, None, None)


def sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    """The sum of products of two matrices, without a matrix of products."""
    return torch.stack([(one * other).sum() for one, other in zip(a.split(1024), b.split(1024))]).sum()


def normalised(rows: Tensor) -> Tensor:
    """Rows (N, D) of unit norm, as `F.normalize` gives them, but with one matrix (N, D) for the gradient, not six."""
    return _Normalised.apply(rows)


class _Normalised(torch.autograd.Function):
    EPS = 1e-12

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        units = rows / norms.clamp_min(_Normalised.EPS)
        ctx.save_for_backward(units, norms)
        return units

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        units, norms = ctx.saved_tensors
        along = torch.linalg.vecdot(units, gradient).unsqueeze(1)
        # A row that is shorter than eps is divided by a constant.
        along.masked_fill_(norms < _Normalised.EPS, 0)
        return torch.addcmul(gradient, units, along, value=-1).div_(norms.clamp_min(_Normalised.EPS))


class _LogSum:
    """Sums of exponentials along one dimension, rescaled whenever a larger score appears, and the right scores.

    The largest score stays apart from the sum: next to 100 a loss of 0.001 would lose half its digits.

    Args:
        like: (N, D), has a sum for each row.
        dim: of the scores, that is summed over.
    """

    def __init__(self, like: Tensor, dim: int):
        shape = (len(like), 1) if dim == 1 else (1, len(like))
        self.largest = like.new_full(shape, -torch.inf)
        self.total = like.new_zeros(shape)
        self.hits = like.new_zeros(shape)
        self._dim = dim

    def add(self, scores: Tensor, scratch: Tensor, where: slice) -> None:
        largest, total = (each.narrow(1 - self._dim, where.start, where.stop - where.start)
                          for each in (self.largest, self.total))
        new_largest = torch.maximum(largest, scores.amax(self._dim, keepdim=True))
        torch.sub(scores, new_largest, out=scratch).exp_()
        total.mul_((largest - new_largest).exp_()).add_(scratch.sum(self._dim, keepdim=True))
        largest.copy_(new_largest)

    def mean_loss(self) -> Tensor:
        return (self.largest - self.hits + self.total.log()).mean()


class Tiles:
    """The tiles of `scale * rows @ columns.T`, each in the same memory: new memory costs more than the arithmetic.

    Args:
        known: the scores, if there is a single tile and it was computed before.
    """

    def __init__(self, rows: Tensor, columns: Tensor, scale: Tensor, known: Tensor | None = None):
        self._rows, self._columns, self._scale, self._known = rows, columns, scale, known
        height, width = TILE.get(rows.device.type, TILE['cuda'])
        self._height, self._width = min(height, len(rows)), min(width, len(columns))
        self._memory = rows.new_empty(2, self._height * self._width)
        self.rows = self.columns = slice(0, 0)

    @property
    def is_single(self) -> bool:
        """Whether one tile holds all scores."""
        return self._height == len(self._rows) and self._width == len(self._columns)

    def __iter__(self) -> Iterator[Tiles]:
        if self._known is not None:
            self.rows, self.columns = slice(0, self._height), slice(0, self._width)
            self.scores, self.scratch = self._memory.view(2, self._height, self._width)
            self.scores.copy_(self._known)  # who looks at a tile writes into it
            yield self
            return
        for top in range(0, len(self._rows), self._height):
            self.rows = slice(top, min(top + self._height, len(self._rows)))
            scaled = self._rows[self.rows] * self._scale
            for left in range(0, len(self._columns), self._width):
                self.columns = slice(left, min(left + self._width, len(self._columns)))
                columns = self._columns[self.columns]
                size = len(scaled) * len(columns)
                self.scores, self.scratch = self._memory[:, :size].view(2, len(scaled), len(columns))
                torch.mm(scaled, columns.T, out=self.scores)  # (R, D) @ (D, C) -> (R, C)
                yield self
