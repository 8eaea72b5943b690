"""Shuffling BN (MoCo, He et al. 2020, arXiv:1911.05722, section 3.3): keys are encoded by another process than queries.

A query and its key in one batch share BatchNorm statistics, by which the network can tell that they belong together
without looking at the images. Mixed over processes they do not. In one process mixing changes nothing, since
statistics do not depend on the order of a batch; neither does it if statistics are those of all processes anyway.
"""

from __future__ import annotations

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from clear.core import dist
from clear.core.dist import gather_rows
from clear.models.selfsup.parts.encoder import batch_norms
from clear.models.sync_batch_norm import (
    SynchronisedBatchNorm1d,
    SynchronisedBatchNorm2d,
    SynchronisedBatchNorm3d,
)

_GLOBAL = (nn.SyncBatchNorm, SynchronisedBatchNorm1d, SynchronisedBatchNorm2d, SynchronisedBatchNorm3d)


def shuffling_matters(encoder: nn.Module) -> bool:
    """Whether some layer takes statistics over this process's batch while there are others."""
    return dist.world_size() > 1 and any(
        (layer.training or layer.running_mean is None) and not isinstance(layer, _GLOBAL)
        for layer in batch_norms(encoder))


@torch.no_grad()
def shuffle_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """As many rows as before, drawn from those of all processes, and the order that `unshuffle_rows` needs.

    Every process draws an order, from torch's global generator; that of rank 0 counts.
    """
    everything = gather_rows(rows)
    order = torch.randperm(len(everything), device=rows.device)
    torch_dist.broadcast(order, 0)
    return everything[_own(order)], order


@torch.no_grad()
def unshuffle_rows(rows: Tensor, order: Tensor) -> Tensor:
    """What was computed from the rows of `shuffle_rows`, back in this process and its order."""
    return gather_rows(rows)[_own(order.argsort())]


def _own(order: Tensor) -> Tensor:
    return order.view(dist.world_size(), -1)[dist.rank()]
