"""The collective that contrastive losses need beside `core.dist`, with gradients. One process needs no group.

The rule that every loss with `gather=True` keeps: the mean over processes of the losses is the loss of the global
batch, and gradients averaged over processes, as DistributedDataParallel does, are its gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor

from clear.core import dist


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in order of rank; the gradient of a row is summed over the processes that used it.

    Shape:
        rows: (B, ...), of the same shape in every process   returns: (world size * B, ...)
    """
    return rows if dist.world_size() == 1 else _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(dist.world_size())]
        torch_dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous().clone()
        torch_dist.all_reduce(gradient)
        start = dist.rank() * ctx.num_rows
        return gradient[start:start + ctx.num_rows]
