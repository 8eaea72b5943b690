"""What losses of pairs share: one signature, whatever a loss makes of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_flag
from clear.models.losses.inputs import full_precision

# CLIP's temperature of 0.07, as a factor; and the logarithm of it, which ITRA takes for the factor if none is given.
DEFAULT_LOGIT_SCALE = 1 / 0.07
LEGACY_LOGIT_SCALE = 2.659


@dataclass(frozen=True)
class Given:
    """What a loss may use beside the pair: a factor (), an offset () or None, labels (N,) or None."""

    logit_scale: Tensor
    logit_bias: Tensor | None
    labels: Tensor | None


class PairLoss(nn.Module):
    """Base of the losses `loss(teacher, student, *, logit_scale=None, logit_bias=None, labels=None) -> scalar`.

    A member writes `compare`; the class attributes say what it needs, so that who builds it can refuse what does not
    fit before training.

    Args:
        gather: compare over the global batch, with the gradients of one process that held it all: processes may
            average theirs. Every process must have the same number of rows, unless a member says otherwise.
        detach_teacher: send no gradient to the teacher.
        legacy: the value of the system that the loss comes from, where that has a defect.

    Shape:
        teacher: (N, D)   student: (N, D), row i of both belongs together   logit_scale, logit_bias: one number each,
        the scale as a factor (already exponentiated; None is 1 / 0.07, in legacy 2.659)   labels: (N,) integers
        returns: ()

    Raises:
        ValueError: if shapes do not fit.
    """

    uses_logit_scale = False
    uses_logit_bias = False
    needs_labels = False
    # Inputs are scores over prototypes, of heads that end in them.
    needs_prototypes = False
    # Teacher and student must have one width.
    needs_equal_width = True
    # How messages call the two.
    sides = ('teacher', 'student')

    def __init__(self, *, gather: bool = True, detach_teacher: bool = False, legacy: bool = False):
        super().__init__()
        for name, value in (('gather', gather), ('detach_teacher', detach_teacher), ('legacy', legacy)):
            check_flag(f'{type(self).__name__}: {name}', value)
        self.gather = gather
        self.detach_teacher = detach_teacher
        self.legacy = legacy

    @full_precision
    def forward(self, teacher: Tensor, student: Tensor, *, logit_scale: Tensor | float | None = None,
                logit_bias: Tensor | float | None = None, labels: Tensor | None = None) -> Tensor:
        self._check(teacher, student, labels)
        if logit_scale is None:
            logit_scale = LEGACY_LOGIT_SCALE if self.legacy else DEFAULT_LOGIT_SCALE
        given = Given(self._number('logit_scale', logit_scale, student),
                      None if logit_bias is None else self._number('logit_bias', logit_bias, student), labels)
        return self.compare(teacher.detach() if self.detach_teacher else teacher, student, given)

    def check_labels(self, labels: Tensor, width: int) -> None:
        """Refuse labels (M,) of which the loss can make nothing, before training; `width` is that of its inputs.

        Raises:
            ValueError: saying what they should be.
        """

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        """The loss, of tensors that are at least float32 and fit."""
        raise NotImplementedError

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        """Raise ValueError unless the loss can take pairs of that many rows (of one process) and these widths.

        Every call does; a training may ask before its first step.
        """
        if self.needs_equal_width and teacher_dim != student_dim:
            found = ', '.join(f'{side} {(num_rows, dim)}' for side, dim in zip(self.sides, (teacher_dim, student_dim)))
            raise ValueError(f'{type(self).__name__}: expected matrices (batch, dim) of one shape, found {found}.')

    def _check(self, teacher: Tensor, student: Tensor, labels: Tensor | None) -> None:
        shapes = [tuple(teacher.shape), tuple(student.shape)]
        if any(len(shape) != 2 or shape[0] == 0 for shape in shapes) or len(teacher) != len(student):
            what = 'of one shape' if self.needs_equal_width else 'of as many rows'
            raise ValueError(f'{type(self).__name__}: expected matrices (batch, dim) {what}, found '
                             f'{self.sides[0]} {shapes[0]}, {self.sides[1]} {shapes[1]}.')
        self.check_fit(len(teacher), teacher.shape[1], student.shape[1])
        if labels is None and self.needs_labels:
            raise ValueError(f'{type(self).__name__} needs labels, one per row; do the data have classes?')
        if labels is not None and (labels.shape != teacher.shape[:1] or labels.is_floating_point()):
            raise ValueError(f'{type(self).__name__}: labels are {tuple(labels.shape)} {labels.dtype}, expected '
                             f'({len(teacher)},) integers.')

    def _number(self, name: str, value: Tensor | float, like: Tensor) -> Tensor:
        if not isinstance(value, Tensor):
            return torch.full((), value, dtype=like.dtype, device=like.device)
        if value.numel() != 1:
            raise ValueError(f'{type(self).__name__}: {name} has {value.numel()} values, expected one.')
        return value.reshape(()).to(like)

    def extra_repr(self) -> str:
        return f'gather={self.gather}, detach_teacher={self.detach_teacher}, legacy={self.legacy}'


def mean_over_processes(values: Tensor, gather: bool, counts: Tensor | None = None) -> Tensor:
    """The mean of a value per row, such that the average over processes is the mean over the rows of all of them.

    It matters where processes count different numbers of rows.

    Args:
        counts: 1 for the rows that count, 0 for the others; None for all. Of no rows the mean is 0.

    Shape:
        values, counts: (N,)   returns: ()
    """
    if counts is None:
        if not gather or dist.world_size() == 1:
            return values.mean()
        counts = torch.ones_like(values)
    count = counts.detach().to(values.dtype).sum()
    share = 1
    if gather and dist.world_size() > 1:
        count, share = dist.sum_over_ranks(count), dist.world_size()
    return (values * counts).sum() * share / count.clamp_min(1)
