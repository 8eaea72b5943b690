"""InfoNCE between two towers, and between two encodings of one text."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clear.core.checks import check_number
from clear.models.losses.alignment.gathering import Compared, Gathering
from clear.models.losses.alignment.streaming import Answers, Partners, mean_cross_entropy, normalised
from clear.models.losses.pair_loss import Given, PairLoss
from clear.registry import MODELS


@MODELS.register_module()
class InfoNCELoss(PairLoss):
    """Find the text of an image among all texts of the global batch, and the image of a text among all images: half
    the sum of both cross-entropies (CLIP, Radford et al. 2021, arXiv:2103.00020, fig. 3).

    Exact, and streamed: the matrix of all scores is never held. A bias is the same for all candidates and changes
    nothing.

    Args:
        gather, local_loss, gather_with_grad: what is compared over processes, and how that changes the gradient: see
            `Gathering`. The defaults give the gradients of one process with the whole batch.
        detach_teacher: send no gradient to the teacher.
        legacy: ITRA's: the scale is 2.659 (the logarithm) if none is given, and its forms of `local_loss`.

    Shape:
        teacher, student: (N, D), of any norm: they are normalised here   returns: (), mean over the rows compared

    Raises:
        ValueError: if shapes do not fit.

    Example:
        >>> pairs = torch.eye(2)
        >>> round(InfoNCELoss()(pairs, pairs, logit_scale=1.0).item(), 4)  # log(1 + 1/e)
        0.3133
    """

    uses_logit_scale = True

    def __init__(self, *, gather: bool = True, local_loss: bool = True, gather_with_grad: bool = True,
                 detach_teacher: bool = False, legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.gathering = Gathering(gather, local_loss, gather_with_grad, legacy)

    def compare(self, teacher: Tensor, student: Tensor, given: Given) -> Tensor:
        pairs = self.gathering.pairs(normalised(teacher), normalised(student))
        return symmetric_cross_entropy(pairs, Partners(pairs.first), given.logit_scale)

    def extra_repr(self) -> str:
        return f'{self.gathering!r}, detach_teacher={self.detach_teacher}, legacy={self.legacy}'


@MODELS.register_module()
class SimCSELoss(PairLoss):
    """InfoNCE between two encodings of the same texts that differ in dropout (SimCSE, Gao et al. 2021,
    arXiv:2104.08821, eq. 1; here in both directions, as ITRA has it).

    The scale is the loss's own; one that is given to a call is that of another loss, and is not used. Over processes
    gradients flow to both encodings of all; ITRA's gathers the second without any.

    Args:
        logit_scale: factor of the cosines, > 0; exp(2.996) is the paper's temperature of 0.05, as ITRA rounds it.
        gather: see the rows of all processes. Every process must have the same number of rows.
        detach_teacher: send no gradient to the first.
        legacy: changes nothing.

    Shape:
        first, second: (N, D), of any norm: they are normalised here   returns: ()

    Raises:
        ValueError: if the scale is not positive or shapes do not fit.

    Example:
        >>> texts = torch.eye(2)
        >>> round(SimCSELoss(logit_scale=1.0)(texts, texts).item(), 4)  # log(1 + 1/e)
        0.3133
    """

    sides = ('first', 'second')

    def __init__(self, logit_scale: float = math.exp(2.996), *, gather: bool = True, detach_teacher: bool = False,
                 legacy: bool = False):
        super().__init__(gather=gather, detach_teacher=detach_teacher, legacy=legacy)
        self.logit_scale = check_number('SimCSELoss: logit_scale', logit_scale, above=0)
        self.gathering = Gathering(gather)

    def compare(self, first: Tensor, second: Tensor, given: Given) -> Tensor:
        pairs = self.gathering.pairs(normalised(first), normalised(second))
        scale = torch.full_like(given.logit_scale, self.logit_scale)
        return symmetric_cross_entropy(pairs, Partners(pairs.first), scale)

    def extra_repr(self) -> str:
        return f'logit_scale={self.logit_scale}, {super().extra_repr()}'


def symmetric_cross_entropy(pairs: Compared, answers: Answers, scale: Tensor) -> Tensor:
    """Half the sum of the cross-entropies of both directions, mean over the rows compared."""
    if pairs.is_square:
        return mean_cross_entropy(pairs.student, pairs.teacher, scale, answers, both_ways=True)
    return (mean_cross_entropy(pairs.student, pairs.all_teacher, scale, answers)
            + mean_cross_entropy(pairs.teacher, pairs.all_student, scale, answers)) / 2
