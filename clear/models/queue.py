"""A queue of keys: columns of a buffer, overwritten in turn."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.core import dist
from clear.core.dist import gather_rows
from clear.core.errors import ConfigError

# Columns scored at a time when the accuracy is counted.
_TILE = 8192


@torch.no_grad()
def enqueue(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Write keys over the oldest columns, round the end if need be, and move the pointer; waits for no device.

    Shape:
        queue: (D, K)   pointer: (1,), the column to write next   keys: (B, D), B <= K
    """
    size = queue.shape[1]
    columns = (pointer + torch.arange(len(keys), device=pointer.device)) % size
    queue.index_copy_(1, columns, keys.T.to(queue.dtype))
    pointer.copy_((pointer + len(keys)) % size)


def check_room(queue_size: int, num_rows: int, *, gather: bool = True) -> None:
    """Raise ConfigError unless a queue can hold the rows that are enqueued at a time.

    Args:
        num_rows: of one process.
        gather: the rows of all processes are enqueued.
    """
    world_size = dist.world_size() if gather else 1
    if queue_size < world_size * num_rows:
        raise ConfigError(f'queue_size ({queue_size}) is smaller than the global batch ({world_size} x {num_rows} = '
                          f'{world_size * num_rows}): every key would be overwritten at once. Use at least '
                          f'{world_size * num_rows}.')


@torch.no_grad()
def retrieval_accuracy(query: Tensor, key: Tensor, queue: Tensor, *, with_batch: bool = False) -> dict[str, Tensor]:
    """Shares of queries that score their own key best, and among the best five.

    Args:
        with_batch: the keys of the other images of the global batch compete too, not only those of the queue.

    Shape:
        query, key: (N, D)   queue: (D, K)   returns: dict(acc=(), acc_top5=())
    """
    query = query.to(key.dtype)
    positive = (query * key).sum(1, keepdim=True)
    num_better = torch.zeros(len(query), dtype=torch.long, device=query.device)
    if with_batch:
        is_better = query @ gather_rows(key).T > positive  # (N, world size * N)
        first = dist.rank() * len(key)
        is_better[:, first:first + len(key)].fill_diagonal_(False)  # A key does not compete with itself.
        num_better += is_better.sum(1)
    for tile in queue.to(key.dtype).split(_TILE, dim=1):
        num_better += (query @ tile > positive).sum(1)
    return dict(acc=(num_better < 1).float().mean(), acc_top5=(num_better < 5).float().mean())
