"""Self-distillation across modalities, on scores over prototypes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.core.checks import check_number
from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.models.losses.selfsup.dino_loss import update_center
from clear.registry import MODELS


@MODELS.register_module()
class CrossModalDINOLoss(PairLoss):
    """The student predicts the centred, sharpened scores of the teacher for the other half of the pair (DINO, Caron et
    al. 2021, arXiv:2104.14294, eq. 1-4, with one view each).

    Heads end in prototypes. In train mode the centre, a buffer, follows the mean of the teacher's scores after the loss
    was computed.

    Args:
        out_dim: number of prototypes, D.
        student_temp, teacher_temp: > 0.
        center_momentum: share of the old centre that is kept, in [0, 1].
        gather: the centre follows the mean of all processes, and the loss is the mean over all rows; numbers of rows
            may differ.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher, student: (N, D), scores, taken as they are   returns: ()

    Raises:
        ValueError: if an argument is out of range or shapes do not fit.

    Example:
        >>> round(CrossModalDINOLoss(out_dim=4)(torch.eye(3, 4), torch.zeros(3, 4)).item(), 4)  # log 4
        1.3863
    """

    needs_prototypes = True

    def __init__(self, out_dim: int = 65536, student_temp: float = 0.1, teacher_temp: float = 0.04,
                 center_momentum: float = 0.9, *, gather: bool = True, detach_teacher: bool = False,
                 legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        check_positive(self, out_dim=out_dim, student_temp=student_temp, teacher_temp=teacher_temp)
        check_number('CrossModalDINOLoss: center_momentum', center_momentum, 0, 1)
        self.student_temp = student_temp
        self.teacher_temp = teacher_temp
        self.center_momentum = center_momentum
        self.register_buffer('center', torch.zeros(out_dim))

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        super().check_fit(num_rows, teacher_dim, student_dim)
        check_prototypes(self, teacher_dim, len(self.center))

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        # A new tensor: the centre will have moved when backward asks for it.
        targets = F.softmax((teacher - self.center.to(teacher.dtype)) / self.teacher_temp, 1)
        values = -(targets * F.log_softmax(student / self.student_temp, 1)).sum(1)
        loss = mean_over_processes(values, self.gather)
        if self.training:
            update_center(self.center, teacher, self.center_momentum, gather=self.gather)
        return loss

    def extra_repr(self) -> str:
        return (f'out_dim={len(self.center)}, student_temp={self.student_temp}, teacher_temp={self.teacher_temp}, '
                f'center_momentum={self.center_momentum}, {super().extra_repr()}')


def check_prototypes(owner: PairLoss, dim: int, out_dim: int) -> None:
    """Raise ValueError unless scores have a column per prototype."""
    if dim != out_dim:
        raise ValueError(f'{type(owner).__name__}: scores have {dim} columns, but out_dim is {out_dim}. Both towers '
                         'need a head that ends in as many prototypes.')
