"""Regression of the teacher's features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clear.core.checks import check_choice
from clear.models.losses.alignment.streaming import normalised
from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.registry import MODELS

NORMS = {'l2': F.mse_loss, 'l1': F.l1_loss, 'smooth_l1': F.smooth_l1_loss}


@MODELS.register_module()
class SimRegLoss(PairLoss):
    """Distance between the normalised features of a pair, mean over rows and columns (SimReg, Navaneet et al. 2021,
    arXiv:2201.05131, eq. 1, whose distance is 'l2').

    Args:
        norm: 'l2' (squared), 'l1' (absolute) or 'smooth_l1' (squared below 1, which on the unit sphere is half of l2
            almost everywhere).
        gather: mean over the rows of all processes, which may differ in number.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher, student: (N, D), of any norm: they are normalised here   returns: ()

    Raises:
        ValueError: if shapes do not fit, or `norm` is none of the three.

    Example:
        >>> SimRegLoss()(torch.tensor([[1., 0.]]), torch.tensor([[0., 2.]])).item()
        1.0
    """

    def __init__(self, norm: str = 'l2', *, gather: bool = True, detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.norm = check_choice('SimRegLoss: norm', norm, NORMS)

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        distances = NORMS[self.norm](normalised(student), normalised(teacher), reduction='none')
        return mean_over_processes(distances.mean(1), self.gather)

    def extra_repr(self) -> str:
        return f'norm={self.norm!r}, {super().extra_repr()}'
