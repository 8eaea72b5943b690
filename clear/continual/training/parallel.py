"""Data-parallel training without a wrapper around the model: which rows a process takes, and what is summed.

Every rank holds the same random numbers, draws the same global batches and runs the same passes of its own; only the
rows of the training batch (and of the test sets) are divided. Three modes:

- `shard`: rank r loads and trains on the rows r, r + W, ... of the global batch. Its loss is scaled by n_r / N and
  gradients are summed: the gradient of the mean over the batch, also for unequal shards. Exact for losses that are
  means over samples plus terms that do not depend on the batch.
- `gather`: every rank holds the global batch, runs the model on its rows only, and the logits are gathered before
  the loss. Exact for any function of logits and labels.
- `replicate`: every rank does the whole work alike, so nothing is gained but the divided evaluation. For strategies
  with updates of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from clear.core import dist
from clear.core.errors import TrainingError

MODES = ('shard', 'gather', 'replicate')


def choose_mode(division: str, plugins: list, *, tensors: bool) -> str:
    """The mode in which a strategy is exact on several processes.

    Args:
        division: what the strategy declares (`Traits.division`): 'shard' for a loss that is a mean over samples plus
            terms that do not depend on the batch, 'gather' where it looks at the whole batch at once but only at its
            logits and labels, else 'replicate'.
        plugins: those that the config adds; each may look at the batch in its own way.
        tensors: the training data are tensors, so every rank can hold the global batch at no cost.
    """
    if plugins or division == 'replicate':
        return 'replicate'
    return 'gather' if tensors else division


def average_batch_norm(model: nn.Module) -> None:
    """Average BatchNorm's running statistics over the processes, so that every rank evaluates the same model."""
    if dist.world_size() == 1:
        return
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    buffers = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var) if buffer is not None]
    dist.sum_flat(buffers)
    for buffer in buffers:
        buffer /= dist.world_size()


def check_equal_on_ranks(parts: Mapping[str, object], device: torch.device | str = 'cpu') -> None:
    """Compare a digest of each part over all processes.

    Args:
        parts: what must be equal, by name; nested plain values and tensors.
        device: where the process group communicates.

    Raises:
        TrainingError: naming the parts that differ.
    """
    if dist.world_size() == 1:
        return
    digests = torch.stack([_digest(value) for value in parts.values()]).to(device)
    everyone = [torch.empty_like(digests) for _ in range(dist.world_size())]
    torch_dist.all_gather(everyone, digests)
    differing = [name for position, name in enumerate(parts)
                 if any(not torch.equal(other[position], digests[position]) for other in everyone)]
    if differing:
        raise TrainingError(f"The processes do not agree any more on: {', '.join(differing)}. Results would depend on "
                            'their number; the last finished experience is saved.')


def _digest(value: object) -> Tensor:
    digest = hashlib.sha256()
    _feed(digest, value)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def _feed(digest: Any, value: object) -> None:
    # Kind and length first: [1, 2] and [12] must not read the same.
    if isinstance(value, Tensor):
        digest.update(repr(('tensor', tuple(value.shape), value.dtype)).encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                      if value.numel() else b'')
    elif isinstance(value, dict):
        digest.update(f'dict {len(value)};'.encode())
        for key, item in value.items():
            if key != 'device':  # each process has its own GPU
                digest.update(f'{key!r};'.encode())
                _feed(digest, item)
    elif isinstance(value, (list, tuple)):
        digest.update(f'list {len(value)};'.encode())
        for item in value:
            _feed(digest, item)
    else:
        digest.update(f'{value!r};'.encode())
