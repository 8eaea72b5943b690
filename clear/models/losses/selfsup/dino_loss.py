"""Self-distillation: the student predicts the centred, sharpened output of its teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_number
from clear.models.losses.inputs import check_positive, check_views, full_precision
from clear.registry import MODELS


@MODELS.register_module()
class DINOLoss(nn.Module):
    """Cross-entropy between teacher and student views, mean over the pairs of different views and over the batch
    (DINO, Caron et al. 2021, arXiv:2104.14294, eq. 3).

    Targets are `softmax((teacher - center) / teacher_temp)`, without gradient. In train mode the centre, a buffer,
    follows the mean of the teacher's outputs *after* the loss was computed.

    Args:
        out_dim: width D of the outputs.
        student_temp: > 0.
        teacher_temp: > 0; the paper warms it up from 0.04 to 0.07 (set the attribute, or give it to the call).
        center_momentum: share of the old centre that is kept, in [0, 1].
        gather: the centre follows the mean of all processes; they must have the same number of rows.

    Shape:
        student: list of (N, D), of which the first len(teacher) are the teacher's views, in its order
        teacher: list of (N, D)   returns: ()

    Raises:
        ValueError: if an argument is out of range, shapes do not fit, or there is no pair of different views.

    Example:
        >>> student, teacher = [torch.zeros(3, 4), torch.zeros(3, 4)], [torch.eye(3, 4)]
        >>> round(DINOLoss(out_dim=4)(student, teacher).item(), 4)  # log 4: the student knows nothing
        1.3863
    """

    def __init__(self, out_dim: int = 65536, student_temp: float = 0.1, teacher_temp: float = 0.04,
                 center_momentum: float = 0.9, *, gather: bool = True):
        super().__init__()
        check_positive(self, out_dim=out_dim, student_temp=student_temp, teacher_temp=teacher_temp)
        check_number('DINOLoss: center_momentum', center_momentum, 0, 1)
        self.student_temp = student_temp
        self.teacher_temp = teacher_temp
        self.center_momentum = center_momentum
        self.gather = gather
        self.register_buffer('center', torch.zeros(out_dim))

    @full_precision
    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, teacher_temp: float | None = None
                ) -> Tensor:
        self._check(student, teacher)
        temperature = self.teacher_temp if teacher_temp is None else teacher_temp
        check_positive(self, teacher_temp=temperature)
        with torch.no_grad():
            center = self.center.to(teacher[0].dtype)
            targets = [F.softmax((view - center) / temperature, 1) for view in teacher]
            target_sum = torch.stack(targets).sum(0)
        total = student[0].new_zeros(())
        num_pairs = 0
        for index, view in enumerate(student):
            # All targets of a student's view at once: the cross-entropy is linear in them.
            is_shared = index < len(targets)
            target = target_sum - targets[index] if is_shared else target_sum
            total = total - (target * F.log_softmax(view / self.student_temp, 1)).sum(1).mean()
            num_pairs += len(targets) - is_shared
        if self.training:
            update_center(self.center, torch.cat(list(teacher)), self.center_momentum, gather=self.gather)
        return total / num_pairs

    def _check(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> None:
        check_views(self, student=student, teacher=teacher)
        if len(student) < len(teacher) or len(student) * len(teacher) == len(teacher):
            raise ValueError(f'DINOLoss: {len(student)} student and {len(teacher)} teacher views; the student must see '
                             'every view of the teacher and at least one more than a single one.')
        if teacher[0].shape[1] != len(self.center):
            raise ValueError(f'DINOLoss: outputs have {teacher[0].shape[1]} columns, but out_dim is '
                             f'{len(self.center)}.')

    def extra_repr(self) -> str:
        return (f'out_dim={len(self.center)}, student_temp={self.student_temp}, teacher_temp={self.teacher_temp}, '
                f'center_momentum={self.center_momentum}, gather={self.gather}')


@torch.no_grad()
def update_center(center: Tensor, outputs: Tensor, momentum: float, *, gather: bool) -> None:
    """Move a centre (D,), in place, to the mean of outputs (N, D); of all processes if `gather`.

    Args:
        momentum: share of the old centre that is kept.
    """
    count = outputs.new_full((1,), len(outputs))
    sums = torch.cat([outputs.sum(0), count])
    sums = dist.sum_with_gradient(sums) if gather else sums
    mean = (sums[:-1] / sums[-1]).to(center.dtype)
    center.mul_(momentum).add_(mean, alpha=1 - momentum)
