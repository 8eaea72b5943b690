"""A yes or no for every pair of a row and a candidate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from clear.models.losses.alignment.gathering import Gathering
from clear.models.losses.alignment.streaming import Partners, Tiles, normalised, sum_of_products
from clear.models.losses.pair_loss import Given, PairLoss
from clear.registry import MODELS


@MODELS.register_module()
class SigLIPLoss(PairLoss):
    """Each pair of a row of the student and a row of the teacher is right or wrong on its own:
    `-log sigmoid(+-(scale * cos + bias))`, summed over the candidates, mean over the rows (SigLIP, Zhai et al. 2023,
    arXiv:2303.15343, alg. 1; as open_clip has it).

    Rows meet the candidates of all processes in tiles, whose scores are never held together. The paper starts with a
    scale of 10 and a bias of -10; without them the first steps undo a loss of log 2 for every wrong pair.

    Args:
        gather: candidates are the rows of all processes. Every process must have the same number of rows.
        detach_teacher: send no gradient to the teacher.
        legacy: the scale is 2.659 if none is given; else nothing.

    Shape:
        teacher, student: (N, D), of any norm: they are normalised here   logit_bias: None is 0   returns: ()

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> pairs = torch.eye(2)
        >>> round(SigLIPLoss()(pairs, pairs, logit_scale=2.0, logit_bias=-1.0).item(), 4)  # 2 log(1 + 1/e)
        0.6265
    """

    uses_logit_scale = True
    uses_logit_bias = True

    def __init__(self, *, gather: bool = True, detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.gathering = Gathering(gather)

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        pairs = self.gathering.pairs(normalised(teacher), normalised(student))
        bias = torch.zeros_like(given.logit_scale) if given.logit_bias is None else given.logit_bias
        return _SigmoidLoss.apply(pairs.student, pairs.all_teacher, given.logit_scale, bias, pairs.first)


class _SigmoidLoss(torch.autograd.Function):
    """Row i belongs to column `first + i`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor, first: int) -> Tensor:
        ctx.save_for_backward(rows, columns, scale, bias)
        ctx.first = first
        zero = torch.zeros_like(bias)
        parts = []
        for tile in Tiles(rows, columns, scale):
            _wrongness(tile, bias, first)
            parts.append(torch.logaddexp(tile.scores, zero, out=tile.scratch).sum())
        return torch.stack(parts).sum() / len(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        rows, columns, scale, bias = ctx.saved_tensors
        for_rows, for_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        for_bias = []
        for tile in Tiles(rows, columns, scale):
            own = _wrongness(tile, bias, ctx.first)
            weights = tile.scores.sigmoid_()
            own.neg_()
            for_bias.append(weights.sum())
            for_rows[tile.rows].addmm_(weights, columns[tile.columns])
            if ctx.needs_input_grad[1]:
                for_columns[tile.columns].addmm_(weights.T, rows[tile.rows])
        gradient = gradient / len(rows)
        for_scale = gradient * sum_of_products(for_rows, rows)
        factor = gradient * scale
        return (for_rows.mul_(factor), for_columns.mul_(factor) if ctx.needs_input_grad[1] else None, for_scale,
                gradient * torch.stack(for_bias).sum(), None)


def _wrongness(tile: Tiles, bias: Tensor, first: int) -> Tensor:
    """Turn the scores of a tile into logits of being wrong; returns a view of those of right pairs."""
    tile.scores.add_(bias)
    return Partners(first).own(tile, tile.scores).neg_()
