"""Distances and angles among the rows of one tower, learned by the other."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from clear.core.checks import check_number
from clear.core.errors import ConfigError
from clear.models.losses.alignment.gathering import Compared, Gathering
from clear.models.losses.alignment.streaming import normalised
from clear.models.losses.pair_loss import Given, PairLoss
from clear.registry import MODELS

# Numbers in the largest tensor that is made of some anchors, all rows and all rows (or columns).
PART_NUMBERS = {'cpu': 2**21, 'cuda': 2**25}
_EPS = 1e-12


@MODELS.register_module()
class RKDLoss(PairLoss):
    """Relational distillation: the distances between all pairs of rows, in units of their mean, and the angles of all
    triples of rows, are to be those of the teacher, by a smooth L1 distance (RKD, Park et al. 2019, arXiv:1904.05068,
    eq. 4-7).

    No common axes are learned: cosines between towers mean nothing afterwards, and their widths may differ. Angles are
    compared for some anchors at a time, so that no tensor of all triples is made. Rows that coincide have no direction,
    and receive no gradient from it.

    Args:
        distance_weight, angle_weight: weights of the two parts, >= 0; a part of weight 0 is not computed.
        gather: relations among the rows of all processes; each takes its rows as anchors. Every process must have the
            same number of rows.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher: (N, D_t)   student: (N, D_s), both of any norm: they are normalised here   returns: ()

    Raises:
        ValueError: if a weight is negative, both are 0, shapes do not fit, or there is one row only.

    Example:
        >>> square = torch.tensor([[1., 0.], [0., 1.], [-1., 0.], [0., -1.]])
        >>> turned = square @ torch.tensor([[0.6, 0.8, 0.], [-0.8, 0.6, 0.]])
        >>> round(RKDLoss()(square, turned).item(), 4)
        0.0
    """

    needs_equal_width = False

    def __init__(self, distance_weight: float = 0.5, angle_weight: float = 1.0, *, gather: bool = True,
                 detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.distance_weight = check_number('RKDLoss: distance_weight', distance_weight, 0)
        self.angle_weight = check_number('RKDLoss: angle_weight', angle_weight, 0)
        if distance_weight == angle_weight == 0:
            raise ConfigError('RKDLoss: distance_weight and angle_weight are both 0: nothing is left to learn.')
        self.gathering = Gathering(gather)

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        super().check_fit(num_rows, teacher_dim, student_dim)
        if num_rows == 1 and not self.gathering.is_on:
            raise ValueError('RKDLoss: a single row has no relation to others, expected at least two.')

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        pairs = self.gathering.pairs(normalised(teacher), normalised(student))
        total = student.new_zeros(())
        if self.distance_weight:
            total = total + self.distance_weight * F.smooth_l1_loss(relative_distances(pairs.all_student),
                                                                    relative_distances(pairs.all_teacher))
        if self.angle_weight:
            total = total + self.angle_weight * angle_loss(pairs)
        return total

    def extra_repr(self) -> str:
        return (f'distance_weight={self.distance_weight}, angle_weight={self.angle_weight}, '
                f'{super().extra_repr()}')


def relative_distances(rows: Tensor) -> Tensor:
    """(N, N): Euclidean distances of rows (N, D), in units of their mean over different rows."""
    squares = rows.square().sum(1)
    distances = (squares.unsqueeze(1) + squares - 2 * rows @ rows.T).clamp_min(_EPS).sqrt()
    others = 1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    distances = distances * others
    return distances / (distances.sum() / others.sum())


def angle_loss(pairs: Compared) -> Tensor:
    """Smooth L1 between the cosines at the anchors of this process, mean over (anchor, row, row)."""
    num_rows = len(pairs.all_teacher)
    widest = max(num_rows, pairs.all_teacher.shape[1], pairs.all_student.shape[1])
    numbers = PART_NUMBERS.get(pairs.student.device.type, PART_NUMBERS['cuda'])
    anchors = torch.arange(pairs.own.start, pairs.own.stop, device=pairs.student.device)
    parts = anchors.split(max(1, numbers // (num_rows * widest)))
    total = _SumOfParts.apply(parts, torch.is_grad_enabled(), pairs.all_teacher, pairs.all_student)
    return total / (len(anchors) * num_rows * num_rows)


def _angles_at(rows: Tensor, anchors: Tensor) -> Tensor:
    """(A, N, N): cosines between the directions from each anchor to any two rows."""
    offsets = rows - rows[anchors].unsqueeze(1)  # (A, N, D)
    lengths = torch.linalg.vector_norm(offsets, dim=2, keepdim=True)
    # Over infinity: no direction, and no gradient, where the plain form would have one of 1 / eps.
    directions = offsets / lengths.masked_fill(lengths < _EPS, torch.inf)
    return directions @ directions.mT


class _SumOfParts(torch.autograd.Function):
    """The sum over all parts of the anchors; gradients are taken part by part on the way, and nothing else is kept."""

    @staticmethod
    def forward(ctx: Any, parts: tuple[Tensor, ...], with_grad: bool, *towers: Tensor) -> Tensor:
        needed = [with_grad and need for need in ctx.needs_input_grad[2:]]
        leaves = [tower.detach().requires_grad_(need) for tower, need in zip(towers, needed)]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        grads = [torch.zeros_like(leaf) for leaf in wanted]
        total = towers[0].new_zeros(())
        for anchors in parts:
            with torch.enable_grad():
                teacher, student = (_angles_at(leaf, anchors) for leaf in leaves)
                value = F.smooth_l1_loss(student, teacher, reduction='sum')
            total += value.detach()
            if wanted:
                for grad, new in zip(grads, torch.autograd.grad(value, wanted)):
                    grad += new
        ctx.needed = needed
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple:
        grads = iter(ctx.saved_tensors)
        return None, None, *(gradient * next(grads) if need else None for need in ctx.needed)
