"""LoRA on the weights of any network, also those that a parent reads instead of calling the layer."""

from __future__ import annotations

import copy
import fnmatch
import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError, nearest
from clear.core.logs import logger

_ADDED = ('lora_down', 'lora_up')


def add_lora(network: nn.Module, rank: int = 8, alpha: float = 16.0,
             targets: str | Sequence[str] | None = None) -> tuple[str, ...]:
    """Freeze a network and give weights a trainable low-rank change; returns the names of the new parameters.

    LoRA (Hu et al. 2021, arXiv:2106.09685): weight + alpha / rank * up @ down, `up` zero at the start. Unlike
    `apply_lora` it changes what a module's `weight` reads as, so it reaches layers whose parent reads their weight:
    torch's `MultiheadAttention` in open_clip's transformers (a change each for the rows of query, key and value in
    `in_proj_weight`, one for `out_proj`), open_clip's attention pool, and convolutions of 1 x 1 pixels. Names of
    tensors stay; the changes are called `lora_down` and `lora_up` beside them.

    Args:
        targets: ends of layers' names (`'attn'`, which is a `MultiheadAttention`'s `in_proj_weight`; `'out_proj'`,
            `'mlp.c_fc'`) or patterns (`'layer4.*'`). None takes those in attention modules; all there are, if none is.

    Raises:
        ConfigError: if there are no such weights, or the rank does not fit one of them.
    """
    check_whole('lora.rank', rank, 1)
    check_number('lora.alpha', alpha, above=0)
    chosen = _choose(network, targets)
    for name, (module, tensor) in chosen.items():
        rows, columns = _matrix(module, tensor)[-2:]
        if rank > min(rows, columns):
            raise ConfigError(f'lora.rank is {rank}; for {name} ({columns} -> {rows}) it must be at most '
                              f'{min(rows, columns)}.')
    network.requires_grad_(False)
    for module, tensor in chosen.values():
        shape = _matrix(module, tensor)
        weight = module._parameters[tensor]
        module.lora_down = nn.Parameter(weight.new_empty(*shape[:-2], rank, shape[-1]))
        module.lora_up = nn.Parameter(weight.new_zeros(*shape[:-2], shape[-2], rank))
        for matrix in module.lora_down.data.reshape(-1, rank, shape[-1]):
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        module.lora_scaling, module.added_tensors = alpha / rank, _ADDED
        module.__class__ = _with_change(type(module), tensor)
    added = [f'{name}.{part}' if name else part for name, module in network.named_modules()
             if hasattr(type(module), '_without_lora') for part in _ADDED]
    count = sum(network.get_parameter(name).numel() for name in added)
    total = sum(value.numel() for value in network.parameters())
    logger.info('LoRA: %s parameters in %d weights beside %s of %s.', f'{count:,}', len(chosen), f'{total - count:,}',
                type(network).__name__)
    return tuple(added)


def merged_copy(network: nn.Module) -> nn.Module:
    """A copy in which every change is part of its weight: a plain network, equal up to rounding.

    Raises:
        ConfigError: if there is no change in it.
    """
    plain = copy.deepcopy(network)
    found = [module for module in plain.modules() if hasattr(type(module), '_without_lora')]
    if not found:
        raise ConfigError(f'{type(network).__name__} has no LoRA to merge.')
    for module in found:
        kind, tensor = type(module)._without_lora
        with torch.no_grad():
            module._parameters[tensor].add_(_change(module, tensor))
        for name in _ADDED:
            delattr(module, name)
        del module.lora_scaling, module.added_tensors
        module.__class__ = kind
    return plain


@cache
def _with_change(kind: type, tensor: str) -> type:
    """A subclass whose attribute reads as the sum; what is saved, moved and copied is still the plain weight."""
    def read(self: nn.Module) -> Tensor:
        return self._parameters[tensor] + _change(self, tensor)

    return type(kind.__name__, (kind,), {tensor: property(read), '_without_lora': (kind, tensor),
                                         '__module__': kind.__module__, '__qualname__': kind.__qualname__})


def _change(module: nn.Module, tensor: str) -> Tensor:
    return (module.lora_scaling * module.lora_up @ module.lora_down).reshape(module._parameters[tensor].shape)


def _matrix(module: nn.Module, tensor: str) -> tuple[int, ...]:
    """Shape of the matrices that a change is added to: (3, E, E) of an attention's, else (O, I)."""
    rows, columns = module._parameters[tensor].shape[:2]
    return (3, rows // 3, columns) if tensor == 'in_proj_weight' else (rows, columns)


def _choose(network: nn.Module, targets: str | Sequence[str] | None) -> dict[str, tuple[nn.Module, str]]:
    sites: dict[str, tuple[nn.Module, str]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            sites[name] = (module, 'in_proj_weight')
        elif isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
                                               and module.groups == 1):
            sites[name] = (module, 'weight')
    taken = [name for name, (module, _) in sites.items() if hasattr(module, 'lora_up')]
    if taken:
        raise ConfigError(f'LoRA: {taken[0]} has one already.')
    if not sites:
        raise ConfigError(f'LoRA: {type(network).__name__} has no linear layer, no attention and no convolution of '
                          '1 x 1 pixels. Train it without.')
    if targets is None:
        return {name: site for name, site in sites.items() if 'att' in name} or sites
    chosen = {}
    for target in [targets] if isinstance(targets, str) else targets:
        found = [name for name in sites if fnmatch.fnmatchcase(f'.{name}', f'*.{target}')]
        if not found:
            known = {name.rpartition('.')[2] for name in sites}
            raise ConfigError(f"lora.targets: '{target}' names no weight that can have a change. Nearest: "
                              f"{nearest(target, known) or ', '.join(sorted(known))}.")
        chosen.update((name, sites[name]) for name in found)
    return chosen
