"""Contrast with prototypes in the place of other rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clear.core.checks import check_choice, check_number, check_whole
from clear.models.losses.alignment.cross_modal_dino_loss import check_prototypes
from clear.models.losses.inputs import check_positive
from clear.models.losses.pair_loss import Given, PairLoss, mean_over_processes
from clear.models.losses.selfsup.statistics import GlobalBatch
from clear.models.losses.selfsup.swav_loss import sinkhorn
from clear.registry import MODELS


@MODELS.register_module()
class ProtoCPCLoss(PairLoss):
    """The student predicts the prototypes that the teacher assigns a row to, against prototypes weighted with how often
    they were assigned before (ProtoCPC, Lee 2022, "Prototypical Contrastive Predictive Coding", ICLR):
    `-sum_k p_k s_k / t + log sum_k prior_k exp(s_k / t)`, mean over rows.

    In train mode the prior, a buffer that is 1 for a prototype used as often as the average, follows the assignments
    after the loss was computed.

    Args:
        out_dim: number of prototypes, D.
        assignment: 'softmax' of the teacher's scores, or 'sinkhorn': of equal use over the batch, always constants.
        student_temp, teacher_temp: > 0.
        prior_momentum: share of the old prior that is kept, in [0, 1].
        sinkhorn_iterations: >= 1.
        gather: prior and Sinkhorn's assignment are of all processes, and the loss is the mean over all rows; numbers of
            rows may differ.
        detach_teacher: send no gradient to the teacher.
        legacy: changes nothing.

    Shape:
        teacher, student: (N, D), scores, taken as they are   returns: ()

    Raises:
        ValueError: if an argument is out of range or shapes do not fit.

    Example:
        >>> round(ProtoCPCLoss(out_dim=4)(torch.eye(3, 4), torch.zeros(3, 4)).item(), 4)  # log 4
        1.3863
    """

    needs_prototypes = True

    def __init__(self, out_dim: int = 65536, assignment: str = 'softmax', student_temp: float = 0.1,
                 teacher_temp: float = 0.04, prior_momentum: float = 0.9, sinkhorn_iterations: int = 3, *,
                 gather: bool = True, detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        check_positive(self, out_dim=out_dim, student_temp=student_temp, teacher_temp=teacher_temp)
        check_number('ProtoCPCLoss: prior_momentum', prior_momentum, 0, 1)
        check_whole('ProtoCPCLoss: sinkhorn_iterations', sinkhorn_iterations, 1)
        self.assignment = check_choice('ProtoCPCLoss: assignment', assignment, ('softmax', 'sinkhorn'))
        self.student_temp = student_temp
        self.teacher_temp = teacher_temp
        self.prior_momentum = prior_momentum
        self.sinkhorn_iterations = sinkhorn_iterations
        self.register_buffer('prior', torch.ones(out_dim))

    def check_fit(self, num_rows: int, teacher_dim: int, student_dim: int) -> None:
        super().check_fit(num_rows, teacher_dim, student_dim)
        check_prototypes(self, teacher_dim, len(self.prior))

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        targets = self._assign(teacher)
        scores = student / self.student_temp
        log_sums = (scores + self.prior.to(scores.dtype).log()).logsumexp(1)
        loss = mean_over_processes(log_sums - (targets * scores).sum(1), self.gather)
        if self.training:
            self._update_prior(targets.detach())
        return loss

    def _assign(self, teacher: Tensor) -> Tensor:
        """(N, D): for each row a distribution over prototypes."""
        if self.assignment == 'softmax':
            return F.softmax(teacher / self.teacher_temp, 1)
        return sinkhorn(teacher.detach() / self.teacher_temp, self.sinkhorn_iterations, gather=self.gather)

    @torch.no_grad()
    def _update_prior(self, targets: Tensor) -> None:
        batch = GlobalBatch(targets, self.gather)
        share = (batch.sum(targets.sum(0)) / batch.count).to(self.prior.dtype)
        self.prior.mul_(self.prior_momentum).add_(share, alpha=(1 - self.prior_momentum) * len(self.prior))

    def extra_repr(self) -> str:
        return (f'out_dim={len(self.prior)}, assignment={self.assignment!r}, student_temp={self.student_temp}, '
                f'teacher_temp={self.teacher_temp}, prior_momentum={self.prior_momentum}, {super().extra_repr()}')
