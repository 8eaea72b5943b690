"""InfoNCE against a queue."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.models.losses.inputs import check_matrices, check_positive, full_precision
from clear.models.losses.selfsup.retrieval import retrieve
from clear.registry import MODELS


@MODELS.register_module()
class MoCoLoss(nn.Module):
    """Tell the own key of a query from the keys in a queue (MoCo, He et al. 2020, arXiv:1911.05722, eq. 1).

    `-log(exp(q.k / t) / (exp(q.k / t) + sum over the queue of exp(q.m / t)))`, mean over the batch. Keys and queue are
    constants: gradients flow to the query alone. A query sees no key of another row, so there is nothing to gather
    from other processes.

    Args:
        temperature: of the softmax, > 0. 0.07 in MoCo v1, 0.2 in v2.

    Shape:
        query, key: (B, D), unit norm   queue: (D, K), columns of unit norm   returns: ()

    Raises:
        ValueError: if the temperature is not positive or shapes do not fit.

    Example:
        >>> query, queue = torch.eye(2), torch.tensor([[0.], [1.]])
        >>> round(MoCoLoss(temperature=1.0)(query, query, queue).item(), 4)  # log(1 + 1/e) and log 2, their mean
        0.5032
    """

    def __init__(self, temperature: float = 0.2):
        super().__init__()
        check_positive(self, temperature=temperature)
        self.temperature = temperature

    @full_precision
    def forward(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        check_matrices(self, query=query, key=key)
        check_queue(self, query, queue)
        positive = (query * key.detach()).sum(1) / self.temperature
        negatives, _ = retrieve(query, [queue], self.temperature)
        return (torch.logaddexp(positive, negatives) - positive).mean()

    @full_precision
    def logits(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """(B, 1 + K): the positive first. For measuring; the loss itself never holds them all."""
        positive = (query * key).sum(1, keepdim=True)
        return torch.cat([positive, query @ queue], 1) / self.temperature

    def extra_repr(self) -> str:
        return f'temperature={self.temperature}'


def check_queue(owner: object, query: Tensor, queue: Tensor) -> None:
    """Raise ValueError unless a queue is (D, K) with K > 0 for queries (B, D)."""
    if queue.ndim != 2 or queue.shape[0] != query.shape[1] or queue.shape[1] == 0:
        raise ValueError(f'{type(owner).__name__}: queue is {tuple(queue.shape)}, expected (D, K) = '
                         f'({query.shape[1]}, at least 1) for queries {tuple(query.shape)}.')
