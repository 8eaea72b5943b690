"""Similarity to a queue of anchors, learned by another tower."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.core.checks import check_choice, check_whole
from clear.core.dist import gather_rows
from clear.core.errors import ConfigError
from clear.models.losses.alignment.streaming import normalised
from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.models.queue import check_room, enqueue
from clear.registry import MODELS


@MODELS.register_module()
class CompRessLoss(PairLoss):
    """The student's distribution over a queue of anchors is to be the teacher's: their Kullback-Leibler divergence
    (CompRess, Koohpayegani et al. 2020, arXiv:2010.14713, eq. 1-3).

    With one queue both are compared with earlier rows of the teacher. With two, each has its own, so no common axes
    are learned and the widths may differ. In train mode rows are written after the loss was computed, round the end of
    the queue if need be.

    Args:
        num_queues: 1 or 2.
        embed_dim: width of the teacher.
        queue_size: K, at least the global batch.
        temperature: of both softmaxes, > 0.
        student_dim: width of the student; None is embed_dim. Another needs two queues.
        gather: queues are filled with the rows of all processes, in order of rank, and are equal in all of them; else
            each process has queues of its own rows. Every process must have the same number of rows.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing. (The reference divides by a norm of zero.)

    Shape:
        teacher: (N, embed_dim)   student: (N, student_dim), of any norm: they are normalised here   returns: ()

    Raises:
        ValueError: if an argument is out of range, shapes do not fit, or the queue is smaller than the batch.

    Example:
        >>> loss = CompRessLoss(num_queues=1, embed_dim=2, queue_size=4)
        >>> round(loss(torch.eye(2), torch.eye(2)).item(), 4)
        0.0
    """

    def __init__(self, num_queues: int = 1, embed_dim: int = 512, queue_size: int = 65536, temperature: float = 0.04, *,
                 student_dim: int | None = None, gather: bool = True, detach_teacher: bool = False,
                 legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.num_queues = check_choice('CompRessLoss: num_queues', num_queues, (1, 2))
        check_positive(self, temperature=temperature)
        student_dim = embed_dim if student_dim is None else student_dim
        for name, value in (('embed_dim', embed_dim), ('queue_size', queue_size), ('student_dim', student_dim)):
            check_whole(f'CompRessLoss: {name}', value, 1)
        if num_queues == 1 and student_dim != embed_dim:
            raise ConfigError(f'CompRessLoss: student_dim is {student_dim} and embed_dim {embed_dim}; with one queue '
                              'both are compared with the same anchors. Use num_queues=2, or heads of equal size.')
        self.needs_equal_width = num_queues == 1
        self.temperature = temperature
        self.register_buffer('queue', _anchors(embed_dim, queue_size))
        self.register_buffer('student_queue', _anchors(student_dim, queue_size) if num_queues == 2 else None)
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        super().check_fit(num_rows, teacher_dim, student_dim)
        for name, dim, queue in zip(self.sides, (teacher_dim, student_dim), self._queues):
            if dim != len(queue):
                raise ValueError(f'CompRessLoss: the {name} has {dim} columns, but its queue is of width {len(queue)} '
                                 '(embed_dim, student_dim).')
        check_room(self.queue.shape[1], num_rows, gather=self.gather)

    @property
    def _queues(self) -> tuple[Tensor, Tensor]:
        """That of the teacher and that of the student, which may be the same."""
        return self.queue, self.queue if self.student_queue is None else self.student_queue

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        teacher, student = normalised(teacher), normalised(student)
        # A copy: when backward asks for a queue, the rows of this batch will have been written.
        targets, predictions = (
            F.log_softmax(rows @ queue.to(rows.dtype, copy=self.training) / self.temperature, 1)  # (N, D) @ (D, K)
            for rows, queue in zip((teacher, student), self._queues))
        loss = mean_over_processes((targets.exp() * (targets - predictions)).sum(1), self.gather)
        if self.training:
            self._write(teacher, student)
        return loss

    @torch.no_grad()
    def _write(self, *sides: Tensor) -> None:
        sides = [gather_rows(rows.detach()) if self.gather else rows for rows in sides[:self.num_queues]]
        start = self.queue_ptr.clone()
        for queue, rows in zip((self.queue, self.student_queue), sides):
            self.queue_ptr.copy_(start)
            enqueue(queue, self.queue_ptr, rows)

    def extra_repr(self) -> str:
        return (f'num_queues={self.num_queues}, embed_dim={len(self.queue)}, queue_size={self.queue.shape[1]}, '
                f'temperature={self.temperature}, {super().extra_repr()}')


def _anchors(dim: int, queue_size: int) -> Tensor:
    """Random columns (D, K) of about unit norm, as the authors draw them."""
    bound = (3 / dim) ** 0.5
    return torch.empty(dim, queue_size).uniform_(-bound, bound)
