"""The depth of a network's parameters: what comes before its blocks, each block, what comes after."""

from __future__ import annotations

import re
from collections import defaultdict

from torch import nn

from clear.core.errors import ConfigError

_CONTAINERS = ('Sequential', 'ModuleList')
# Parameters of the outermost module that are listed before all others and belong to the output.
_OUTPUT_PARAMETERS = ('proj', 'text_projection')
_NUMBERED = re.compile(r'(.*?)\d+[a-z]?')


def parameter_groups(model: nn.Module) -> list[list[str]]:
    """Names of parameters by depth, input first: what comes before the blocks, each block, the projection.

    These are open_clip's groups: the last block and the norm after it are one. A network of timm is divided by its
    own `group_matcher`. Blocks are otherwise found by structure: a ModuleList, a Sequential, or modules called
    `layer1`, `layer2` ..., not far from the outside, that hold most of the network (a ResNet's stages, a
    transformer's blocks).

    Raises:
        ConfigError: if there is no such chain.
    """
    trunk = getattr(model, 'trunk', None)
    if isinstance(trunk, nn.Module) and hasattr(trunk, 'group_matcher'):  # a network of timm inside open_clip
        head = [name for name, _ in model.named_parameters() if not name.startswith('trunk.')]
        return [*([f'trunk.{name}' for name in group] for group in _of_timm(trunk)), *([head] if head else [])]
    if hasattr(model, 'group_matcher'):
        return _of_timm(model)
    before, blocks, after = _around_blocks(model)
    norms = [name for name in after if _is_norm(model, name)]
    blocks[-1] += norms
    return [group for group in (before, *blocks, [name for name in after if name not in norms]) if group]


def depth_of_parameters(model: nn.Module) -> tuple[dict[str, int], int]:
    """Depths of parameters by name, and the largest one, L + 1 of a network with L blocks.

    Before the blocks it is 0, in block i (counted from 1) i, after them L + 1, the last norm among these. Blocks are
    found by structure, in networks of timm too: see `parameter_groups`.

    Raises:
        ConfigError: if there is no such chain.
    """
    before, blocks, after = _around_blocks(model)
    return {name: depth for depth, group in enumerate([before, *blocks, after]) for name in group}, len(blocks) + 1


def _around_blocks(model: nn.Module) -> tuple[list[str], list[list[str]], list[str]]:
    """Names of parameters before the blocks, of each block, and after them."""
    chain = find_chain(model)
    names = [name for name, _ in model.named_parameters()]
    blocks = [[name for name in names if name.startswith(f'{block}.')] for block in chain]
    inside = {name for group in blocks for name in group}
    first = next(row for row, name in enumerate(names) if name in inside)
    rest = [(row, name) for row, name in enumerate(names) if name not in inside]
    before = [name for row, name in rest if row < first and name not in _OUTPUT_PARAMETERS]
    after = [name for row, name in rest if row > first or name in _OUTPUT_PARAMETERS]
    return before, blocks, after


def find_chain(model: nn.Module) -> list[str]:
    """Names of the modules that are a network's blocks or stages, input first.

    Raises:
        ConfigError: if no chain holds at least half of the network's modules.
    """
    total = _size(model)
    depth = [('', model)]
    while depth:
        chains = [chain for prefix, module in depth for chain in _chains(prefix, module)]
        chains = [(sum(_size(model.get_submodule(name)) for name in chain), chain) for chain in chains]
        size, chain = max(chains, key=lambda entry: entry[0], default=(0, []))
        if 2 * size >= total:
            return chain
        depth = [(f'{prefix}{name}.', child) for prefix, module in depth for name, child in module.named_children()]
    raise ConfigError(f'{type(model).__name__} has no chain of blocks or stages to count groups from. Lock it by '
                      'keywords.')


def _chains(prefix: str, module: nn.Module) -> list[list[str]]:
    """Chains whose links are children of this module."""
    with_weights = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    if type(module).__name__ in _CONTAINERS:
        return [[f'{prefix}{name}' for name, _ in with_weights]] if len(with_weights) > 1 else []
    numbered = defaultdict(list)
    for name, child in with_weights:
        found = _NUMBERED.fullmatch(name)
        # conv1, bn1, conv2 of a stem are single layers; a bare number is a place in a pipeline of unlike modules.
        if found and found[1] and any(True for _ in child.children()):
            numbered[found[1]].append(f'{prefix}{name}')
    return [names for names in numbered.values() if len(names) > 1]


def _size(module: nn.Module) -> int:
    return sum(1 for child in module.modules() if child._parameters)


def _is_norm(model: nn.Module, parameter: str) -> bool:
    owner = model.get_submodule(parameter.rpartition('.')[0])
    return 'norm' in type(owner).__name__.lower()


def _of_timm(model: nn.Module) -> list[list[str]]:
    from timm.models import group_parameters

    groups = group_parameters(model, model.group_matcher())
    return [list(groups[key]) for key in sorted(groups)]
