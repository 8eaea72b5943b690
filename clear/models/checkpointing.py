"""Gradient checkpointing for any network: blocks forget what they computed and compute it again for the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from clear.core.errors import ConfigError

_CONTAINERS = ('Sequential', 'ModuleList')


def set_grad_checkpointing(model: nn.Module, enable: bool = True) -> int:
    """Switch checkpointing of a network's blocks on or off; returns how many blocks there are.

    Blocks are modules of one type, with modules of their own, of which a ModuleList or Sequential holds at least two
    (of nested ones the outer). Their tensors keep their names, and copies of the network keep the switch. Losses,
    gradients, dropout and the statistics of BatchNorm are those without it; a block's activations are held only while
    it is computed, for one more forward pass.

    Raises:
        ConfigError: if the network has no such blocks.
    """
    blocks = _blocks(model)
    if not blocks:
        raise ConfigError(f'grad_checkpointing: {type(model).__name__} has no repeated blocks.')
    for block in blocks:
        plain = getattr(type(block), '_without_checkpointing', type(block))
        block.__class__ = _checkpointed(plain) if enable else plain
    return len(blocks)


def _blocks(model: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if type(module).__name__ not in _CONTAINERS:
            continue
        # By name: the library `adapters` makes a class of its own for each module.
        kinds = [type(child).__qualname__ for child in module.children()]
        for child, kind in zip(module.children(), kinds):
            is_repeated = kinds.count(kind) > 1 and kind not in _CONTAINERS
            has_layers = any(True for _ in child.children()) and any(True for _ in child.parameters())
            if is_repeated and has_layers and id(child) not in inside:
                found.append(child)
                inside.update(id(inner) for inner in child.modules())
    return found


@cache
def _checkpointed(kind: type) -> type:
    """A subclass of a module's class whose forward is checkpointed: unlike a replaced method it survives a copy."""

    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return kind.forward(self, *args, **kwargs)
        return checkpoint(kind.forward, self, *args, use_reentrant=False,
                          context_fn=lambda: (nullcontext(), _statistics_kept(self)), **kwargs)

    return type(kind.__name__, (kind,), {'forward': forward, '_without_checkpointing': kind,
                                         '__module__': kind.__module__, '__qualname__': kind.__qualname__})


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """BatchNorm learns nothing inside: the second pass over a batch is no second batch."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(module, module.running_mean, module.running_var, module.num_batches_tracked) for module in norms]
    for module, mean, var, count in kept:
        # Copies, since buffers are updated in place.
        module.running_mean, module.running_var = mean.clone(), var.clone()
        module.num_batches_tracked = count.clone()
    try:
        yield
    finally:
        for module, mean, var, count in kept:
            module.running_mean, module.running_var, module.num_batches_tracked = mean, var, count
