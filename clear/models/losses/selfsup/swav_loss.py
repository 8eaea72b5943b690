"""Swapped prediction: the cluster codes of one view are predicted from the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core import dist
from clear.core.dist import gather_rows
from clear.models.losses.inputs import check_positive, check_views, full_precision
from clear.registry import MODELS


@MODELS.register_module()
class SwAVLoss(nn.Module):
    """Mean over the assigning views i of the mean over the other views v of `-sum codes_i log softmax(scores_v / t)`
    (SwAV, Caron et al. 2020, arXiv:2006.09882, eq. 2), mean over the batch. Codes carry no gradient.

    Takes scores, the products of unit-norm features with prototypes; prototypes and queue belong to the algorithm.

    Args:
        temperature: of the predictions, > 0.
        epsilon: sharpness of the codes, > 0.
        sinkhorn_iterations: >= 1.
        gather: codes over the rows of all processes (gradients need nothing from elsewhere).

    Shape:
        assigning: list of (N, P) scores of the views that make codes, usually the large crops
        others: list of (N, P) scores of the other views
        queued: one (Q, P) per assigning view, scores of earlier features that take part in making its codes
        returns: ()

    Raises:
        ValueError: if an argument is out of range, shapes do not fit, or there are fewer than two views.

    Example:
        >>> scores = torch.eye(2)  # of two rows with two prototypes
        >>> loss = SwAVLoss(temperature=1.0, epsilon=0.05)([scores, scores])
        >>> round(loss.item(), 4)  # log(1 + 1/e): each row has a prototype of its own
        0.3133
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.05, sinkhorn_iterations: int = 3, *,
                 gather: bool = True):
        super().__init__()
        check_positive(self, temperature=temperature, epsilon=epsilon, sinkhorn_iterations=sinkhorn_iterations)
        self.temperature = temperature
        self.epsilon = epsilon
        self.sinkhorn_iterations = sinkhorn_iterations
        self.gather = gather

    @full_precision
    def forward(self, assigning: Sequence[Tensor], others: Sequence[Tensor] = (),
                queued: Sequence[Tensor] | None = None) -> Tensor:
        self._check(assigning, others, queued)
        codes = [self.codes(scores, None if queued is None else queued[index])
                 for index, scores in enumerate(assigning)]
        code_sum = torch.stack(codes).sum(0)
        views = [*assigning, *others]
        total = views[0].new_zeros(())
        for index, scores in enumerate(views):
            # The cross-entropy is linear in its target: one product with the sum of all codes but the view's own.
            target = code_sum - codes[index] if index < len(codes) else code_sum
            total = total - (target * F.log_softmax(scores / self.temperature, 1)).sum(1).mean()
        return total / (len(codes) * (len(views) - 1))

    @torch.no_grad()
    def codes(self, scores: Tensor, queued: Tensor | None = None) -> Tensor:
        """(N, P): a distribution over prototypes for each row, used equally often over the batch (and queue)."""
        everything = scores if queued is None else torch.cat([scores, queued])
        return sinkhorn(everything / self.epsilon, self.sinkhorn_iterations, gather=self.gather)[:len(scores)]

    def _check(self, assigning: Sequence[Tensor], others: Sequence[Tensor], queued: Sequence[Tensor] | None) -> None:
        check_views(self, assigning=assigning, **({'others': others} if len(others) else {}))
        if len(assigning) + len(others) < 2:
            raise ValueError('SwAVLoss: one view alone has nothing to be predicted from, expected at least two.')
        if queued is None:
            return
        shapes = [tuple(each.shape) for each in queued]
        if len(queued) != len(assigning) or any(len(each) != 2 or each[1] != assigning[0].shape[1] for each in shapes):
            raise ValueError(f'SwAVLoss: queued is {shapes}, expected one (Q, {assigning[0].shape[1]}) for each of the '
                             f'{len(assigning)} assigning views.')

    def extra_repr(self) -> str:
        return (f'temperature={self.temperature}, epsilon={self.epsilon}, '
                f'sinkhorn_iterations={self.sinkhorn_iterations}, gather={self.gather}')


def sinkhorn(scores: Tensor, iterations: int, *, gather: bool = False) -> Tensor:
    """`exp(scores)` scaled in turn to equal column sums and to row sums of one, `iterations` times.

    Works on logarithms, so no column can vanish, however large the scores are.

    Args:
        gather: columns sum over the rows of all processes, which may differ in number.

    Shape:
        scores: (N, P)   returns: (N, P), rows sum to one
    """
    for _ in range(iterations):
        column = scores.logsumexp(0, keepdim=True)
        if gather and dist.world_size() > 1:
            column = gather_rows(column).logsumexp(0, keepdim=True)
        scores = F.log_softmax(scores - column, 1)
    return scores.exp()
