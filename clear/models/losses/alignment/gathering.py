"""Whose rows a process compares with whose: the four ways in which open_clip shares a batch over processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from clear.core import dist
from clear.core.checks import check_flag
from clear.core.dist import gather_rows


@dataclass(frozen=True)
class Compared:
    """Rows, and the candidates among which each has to find its partner.

    Shape:
        teacher: (n, D_t)   student: (n, D_s)   all_teacher: (N, D_t)   all_student: (N, D_s)
    """

    teacher: Tensor
    student: Tensor
    all_teacher: Tensor
    all_student: Tensor
    first: int  # the place of row 0 among the candidates

    @property
    def is_square(self) -> bool:
        """Whether rows and candidates are the same, so that one matrix of scores serves both directions."""
        return self.teacher is self.all_teacher

    @property
    def own(self) -> slice:
        """The places of the rows among the candidates."""
        return slice(self.first, self.first + len(self.teacher))


@dataclass(frozen=True)
class Gathering:
    """How the pairs of all processes are compared; with one process, or `gather=False`, its rows with its rows.

    Let W be the number of processes, and g the gradient that one process with the whole batch would have. What towers
    get, once processes have averaged their gradients:

    | local_loss | gather_with_grad | loss of a process | gradient |
    |---|---|---|---|
    | True | True | its rows among all | g (the default) |
    | False | True | all rows among all | g, at W times the scores |
    | False | False | all rows among all | g / W: a process differentiates its own rows alone (open_clip's default) |
    | True | False | its rows among all | another direction: candidates of other processes, and its own, are constants |

    Args:
        legacy: ITRA's two with `local_loss`: the loss is that of all rows; without `gather_with_grad` no tower gets
            any gradient, with it the flag has no effect.
    """

    gather: bool = True
    local_loss: bool = True
    gather_with_grad: bool = True
    legacy: bool = False

    def __post_init__(self):
        for name in ('gather', 'local_loss', 'gather_with_grad', 'legacy'):
            check_flag(name, getattr(self, name))

    @property
    def is_on(self) -> bool:
        return self.gather and dist.world_size() > 1

    def pairs(self, teacher: Tensor, student: Tensor) -> Compared:
        """What this process compares, of rows (B, D_t) and (B, D_s)."""
        if not self.is_on:
            return Compared(teacher, student, teacher, student, 0)
        first = dist.rank() * len(teacher)
        # Side by side, so that one collective fetches both.
        both = torch.cat([teacher, student], 1)
        if self.gather_with_grad:
            everything = gather_rows(both)
        else:
            everything = gather_rows(both.detach())
            if not self.local_loss:
                everything = torch.cat([everything[:first], both, everything[first + len(both):]])
        widths = [teacher.shape[1], student.shape[1]]
        all_teacher, all_student = (each.contiguous() for each in everything.split(widths, 1))
        if self.local_loss and not self.legacy:
            return Compared(teacher, student, all_teacher, all_student, first)
        return Compared(all_teacher, all_student, all_teacher, all_student, 0)

    def labels(self, labels: Tensor) -> Tensor:
        """The labels (N,) of the candidates, of those (B,) of this process."""
        return gather_rows(labels) if self.is_on else labels

    def __repr__(self) -> str:
        return f'gather={self.gather}, local_loss={self.local_loss}, gather_with_grad={self.gather_with_grad}'
