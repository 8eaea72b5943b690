"""Large batches through small memory: a tower embeds a part at a time and keeps nothing but the embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from clear.core.errors import ConfigError
from clear.core.seeding import RngState, get_rng_state, set_rng_state


def embed_in_chunks(tower: nn.Module, values: Tensor | Sequence[str], count: int) -> Tensor:
    """`tower(values)`, in `count` parts of about equal length (one a row if there are fewer rows).

    The parts are run without keeping what a backward pass needs; it runs each of them again, under the random state
    that the part had at first, when it comes to it. So gradients are those of the whole batch, and the memory is that
    of one part.

    Shape:
        values: N images or texts   returns: (N, D)
    """
    edges = [len(values) * part // count for part in range(count + 1)]
    parts = [values[start:end] for start, end in zip(edges, edges[1:]) if end > start]
    if count == 1 or not torch.is_grad_enabled():
        return torch.cat([tower(part) for part in parts]) if len(parts) > 1 else tower(values)
    # torch's own way to keep the random state finds devices among the arguments; texts are on none.
    return torch.cat([checkpoint(tower, part, use_reentrant=False, preserve_rng_state=False, context_fn=_same_draws)
                      for part in parts])


def check_no_batch_norm(tower: nn.Module, where: str) -> None:
    """Refuse a tower whose rows see their batch.

    Raises:
        ConfigError: if a BatchNorm in it is in train mode when the tower is.
    """
    was = tower.training
    tower.train()
    names = [name for name, module in tower.named_modules()
             if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training]
    tower.train(was)
    if names:
        raise ConfigError(f'accumulate: the {where} has {len(names)} BatchNorm layers in train mode ({names[0]}, ...), '
                          'which would see parts of the batch, twice. Freeze them, or lock the tower.')


def _same_draws() -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of the first run of a function and of the second, which draws what the first drew."""
    states: list[RngState] = []

    @contextmanager
    def first() -> Iterator[None]:
        states.append(get_rng_state())
        yield

    @contextmanager
    def second() -> Iterator[None]:
        before = get_rng_state()
        set_rng_state(states[0])
        try:
            yield
        finally:
            set_rng_state(before)

    return first(), second()
