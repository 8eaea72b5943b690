"""Contrastive learning with stronger augmentations: the divergence between retrieval distributions, and the whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_number
from clear.core.dist import gather_rows
from clear.models.losses.inputs import check_matrices, check_positive, check_views, full_precision
from clear.models.losses.selfsup.moco_loss import check_queue
from clear.models.losses.selfsup.retrieval import retrieve
from clear.registry import MODELS


@MODELS.register_module()
class DistributionalDivergenceLoss(nn.Module):
    """Match the retrieval distribution of strong views to that of weak views (CLSA, Wang and Qi 2021,
    arXiv:2104.07713).

    Each weak view's similarities to all candidates, softmaxed and detached, are the target of every strong view:
    cross-entropy, which equals the Kullback-Leibler divergence up to a constant. Because scores are linear in the
    strong query, it is `log_sum_exp(s.b / t) - s.mean(b) / t`, with the mean over candidates b under the weak softmax:
    no distribution is ever held whole.

    Args:
        temperature: of both softmaxes, > 0.

    Shape:
        strong, weak: lists of (B, D), unit norm   candidates: (N, D), unit norm, constants
        returns: (), sum over (weak, strong) pairs, mean over the batch

    Raises:
        ValueError: if the temperature is not positive or shapes do not fit.

    Example:
        >>> weak, candidates = torch.eye(2), torch.eye(2)
        >>> loss = DistributionalDivergenceLoss(temperature=1.0)
        >>> round(loss([weak], [weak], candidates).item(), 4)  # the entropy of softmax([1, 0])
        0.5822
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        check_positive(self, temperature=temperature)
        self.temperature = temperature

    @full_precision
    def forward(self, strong: Sequence[Tensor], weak: Sequence[Tensor], candidates: Tensor) -> Tensor:
        check_views(self, strong=strong, weak=weak)
        check_queue(self, weak[0], candidates.T)
        _, mean = retrieve(torch.cat(list(weak)).detach(), [candidates.T], self.temperature)
        return divergence(strong, mean.chunk(len(weak)), [candidates.T], self.temperature)

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'


@MODELS.register_module()
class CLSALoss(nn.Module):
    """CLSA's two parts over one bank `[keys of the global batch | queue]` (Wang and Qi 2021, arXiv:2104.07713).

    Contrastive: every weak view must find the key of its own image; unlike in MoCo, the other keys of the batch are
    negatives too. Divergence: see `DistributionalDivergenceLoss`. Both are sums over views, so more crops weigh
    more at the same alpha. Keys and queue are constants. The authors' code labels by the rank within a machine;
    here it is the global rank, so that several machines are right as well.

    Args:
        temperature: of the contrastive softmax, > 0.
        clsa_t: of the two softmaxes that are compared, > 0.
        alpha: weight of the divergence, >= 0.
        gather: take the keys of all processes into the bank. Every process must have the same number of rows.

    Shape:
        weak, strong: lists of (N, D), unit norm   key: (N, D), unit norm   queue: (D, K), columns of unit norm
        returns: dict(loss_contrastive=(), loss_divergence=()), the second times alpha

    Raises:
        ValueError: if an argument is out of range or shapes do not fit.

    Example:
        >>> weak, queue = torch.eye(2), torch.eye(2)
        >>> losses = CLSALoss(temperature=1.0, clsa_t=1.0)([weak], [weak], key=weak, queue=queue)
        >>> {name: round(value.item(), 4) for name, value in losses.items()}
        {'loss_contrastive': 1.0064, 'loss_divergence': 1.2754}
    """

    def __init__(self, temperature: float = 0.2, clsa_t: float = 0.2, alpha: float = 1.0, *, gather: bool = True):
        super().__init__()
        check_positive(self, temperature=temperature, clsa_t=clsa_t)
        check_number('CLSALoss: alpha', alpha, 0)
        self.temperature = temperature
        self.clsa_t = clsa_t
        self.alpha = alpha
        self.gather = gather

    @full_precision
    def forward(self, weak: Sequence[Tensor], strong: Sequence[Tensor], key: Tensor, queue: Tensor
                ) -> dict[str, Tensor]:
        check_views(self, weak=weak, strong=strong)
        check_matrices(self, **{'weak[0]': weak[0], 'key': key})
        check_queue(self, weak[0], queue)
        key = key.detach()
        bank = [(gather_rows(key) if self.gather else key).T, queue]
        # All views at once: products of many rows run faster than many products of few.
        rows = torch.cat(list(weak))  # (views * N, D)
        log_sum, mean = retrieve(rows, bank, self.temperature)
        positive = (rows * key.repeat(len(weak), 1)).sum(1) / self.temperature
        if self.clsa_t != self.temperature:
            _, mean = retrieve(rows.detach(), bank, self.clsa_t)
        return dict(loss_contrastive=(log_sum - positive).sum() / len(key),
                    loss_divergence=self.alpha * divergence(strong, mean.chunk(len(weak)), bank, self.clsa_t))

    @full_precision
    def logits(self, query: Tensor, key: Tensor, queue: Tensor) -> tuple[Tensor, Tensor]:
        """(N, M + K) scores over the bank and the targets (N,), for measuring."""
        keys = gather_rows(key.detach()) if self.gather else key
        first = dist.rank() * len(key) if self.gather else 0
        targets = torch.arange(first, first + len(key), device=key.device)
        return query @ torch.cat([keys.T, queue], 1) / self.temperature, targets

    def extra_repr(self) -> str:
        return (f'temperature={self.temperature}, clsa_t={self.clsa_t}, alpha={self.alpha}, gather={self.gather}')


def divergence(strong: Sequence[Tensor], means: Sequence[Tensor], bank: Sequence[Tensor], temperature: float
               ) -> Tensor:
    """Sum over (weak, strong) pairs of the cross-entropy, mean over the batch.

    Args:
        means: (B, D) per weak view, the mean candidate under its softmax.
        bank: the candidates, as blocks (D, M_i).
    """
    # The pairs of one strong view differ in the target's mean only: their sum needs one softmax.
    target = torch.stack(list(means)).sum(0).detach()  # (B, D)
    rows = torch.cat(list(strong))  # (views * B, D)
    log_sum, _ = retrieve(rows, bank, temperature)
    expected = (rows * target.repeat(len(strong), 1)).sum(1) / temperature
    return (len(means) * log_sum - expected).sum() / len(target)
