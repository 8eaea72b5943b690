"""Contrast where several rows may be right."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.models.losses.alignment.gathering import Gathering
from clear.models.losses.alignment.info_nce_loss import symmetric_cross_entropy
from clear.models.losses.alignment.streaming import Groups, normalised
from clear.models.losses.pair_loss import Given, PairLoss
from clear.registry import MODELS


@MODELS.register_module()
class UniCLLoss(PairLoss):
    """InfoNCE whose right answers are all rows of one label, each with the same share; a row with label -1 has its
    partner alone (UniCL, Yang et al. 2022, arXiv:2204.03610, eq. 3). With distinct labels, or none, it is InfoNCE.

    Scores are streamed as in `InfoNCELoss`, and log-softmax is exact where the reference's logarithm of a softmax is
    NaN.

    Args:
        gather, local_loss, gather_with_grad: see `Gathering`.
        detach_teacher: send no gradient to the teacher.
        legacy: the scale is 2.659 if none is given, and ITRA's forms of `local_loss`.

    Shape:
        teacher, student: (N, D), of any norm: they are normalised here   labels: (N,), or None   returns: ()

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> pairs, labels = torch.eye(2), torch.tensor([7, 7])
        >>> round(UniCLLoss()(pairs, pairs, logit_scale=1.0, labels=labels).item(), 4)  # 0.3133 and 1.3133, their mean
        0.8133
    """

    uses_logit_scale = True

    def __init__(self, *, gather: bool = True, local_loss: bool = True, gather_with_grad: bool = True,
                 detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.gathering = Gathering(gather, local_loss, gather_with_grad, legacy)

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        pairs = self.gathering.pairs(normalised(teacher), normalised(student))
        labels = teacher.new_full(teacher.shape[:1], -1, dtype=torch.long) if given.labels is None else given.labels
        groups = group_equal(self.gathering.labels(labels))
        sizes = teacher.new_zeros(len(groups)).index_add_(0, groups, teacher.new_ones(len(groups)))[groups]
        answers = Groups(groups[pairs.own], groups, (sizes[pairs.own], sizes))
        return symmetric_cross_entropy(pairs, answers, given.logit_scale)

    def extra_repr(self) -> str:
        return f'{self.gathering!r}, detach_teacher={self.detach_teacher}, legacy={self.legacy}'


def group_equal(labels: Tensor) -> Tensor:
    """A number below N for each label (N,), equal for equal labels; each -1 has its own. Waits for no device."""
    ordered, order = labels.sort()
    is_new = (ordered[1:] != ordered[:-1]) | (ordered[1:] == -1)
    numbers = torch.cat([is_new.new_zeros(1, dtype=torch.long), is_new.cumsum(0)])
    return torch.empty_like(numbers).scatter_(0, order, numbers)
