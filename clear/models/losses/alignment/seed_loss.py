"""Self-supervised distillation with a queue of the teacher's features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.core.checks import check_whole
from clear.core.dist import gather_rows
from clear.models.losses.alignment.streaming import normalised
from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.models.queue import check_room, enqueue
from clear.registry import MODELS


@MODELS.register_module()
class SEEDLoss(PairLoss):
    """Cross-entropy between the similarities of teacher and student to the teacher's own feature and a queue of its
    earlier ones (SEED, Fang et al. 2021, arXiv:2101.04731, eq. 3-5).

    The default temperatures are those of ITRA. At 1e-4 the teacher is certain of its own feature unless the queue holds
    a copy of it: InfoNCE against a queue. SEED's own code has 0.2 for the student; a teacher of 0.07 has something to
    teach about the others. In train mode the teacher's rows are written after the loss was computed, round the end of
    the queue if need be.

    Args:
        embed_dim: width D.
        queue_size: K, at least the global batch; it need not be a multiple of it.
        student_temp, teacher_temp: > 0.
        gather: the queue is filled with the rows of all processes, in order of rank, and is equal in all of them; else
            each process has a queue of its own rows. Every process must have the same number of rows.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher, student: (N, D), of any norm: they are normalised here   returns: ()

    Raises:
        ValueError: if an argument is out of range, shapes do not fit, or the queue is smaller than the batch.

    Example:
        >>> loss = SEEDLoss(embed_dim=2, queue_size=2, student_temp=1.0)
        >>> loss.queue.copy_(-torch.eye(2)).shape
        torch.Size([2, 2])
        >>> round(loss(torch.eye(2), torch.eye(2)).item(), 4)  # log(1 + 1/e + 1/e^2): own feature 1, others 0 and -1
        0.4076
    """

    def __init__(self, embed_dim: int = 512, queue_size: int = 65536, student_temp: float = 0.07,
                 teacher_temp: float = 1e-4, *, gather: bool = True, detach_teacher: bool = False,
                 legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        check_positive(self, student_temp=student_temp, teacher_temp=teacher_temp)
        for name, value in (('embed_dim', embed_dim), ('queue_size', queue_size)):
            check_whole(f'SEEDLoss: {name}', value, 1)
        self.student_temp = student_temp
        self.teacher_temp = teacher_temp
        self.register_buffer('queue', F.normalize(torch.randn(embed_dim, queue_size), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        super().check_fit(num_rows, teacher_dim, student_dim)
        if teacher_dim != len(self.queue):
            raise ValueError(f'SEEDLoss: features have {teacher_dim} columns, but embed_dim is {len(self.queue)}.')
        check_room(self.queue.shape[1], num_rows, gather=self.gather)

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        teacher, student = normalised(teacher), normalised(student)
        # A copy: when backward asks for it, the rows of this batch will have been written.
        queue = self.queue.to(teacher.dtype, copy=self.training)
        targets = F.softmax(similarities(teacher, teacher, queue) / self.teacher_temp, 1)
        predictions = F.log_softmax(similarities(student, teacher, queue) / self.student_temp, 1)
        loss = mean_over_processes(-(targets * predictions).sum(1), self.gather)
        if self.training:
            rows = teacher.detach()
            enqueue(self.queue, self.queue_ptr, gather_rows(rows) if self.gather else rows)
        return loss

    def extra_repr(self) -> str:
        return (f'embed_dim={len(self.queue)}, queue_size={self.queue.shape[1]}, student_temp={self.student_temp}, '
                f'teacher_temp={self.teacher_temp}, {super().extra_repr()}')


def similarities(rows: Tensor, own: Tensor, queue: Tensor) -> Tensor:
    """(N, 1 + K): of rows (N, D) to a feature of their own (N, D), and to a queue (D, K)."""
    return torch.cat([(rows * own).sum(1, keepdim=True), rows @ queue], 1)
