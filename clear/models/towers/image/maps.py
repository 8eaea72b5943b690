"""Find five feature maps, fine to coarse, in any image network by watching what its modules give.

Level k is the stride 2**k. A trunk map is what a module gives that is not the inside of a block. A block that goes
down one level is taken as a whole: what it makes at its own starting level (the widened map before a strided layer) is
not a stage's result. A module that spans more levels is a container of stages and is looked into.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.errors import ConfigError

LEVELS = (1, 2, 3, 4, 5)
_MAX_PREFIX = 16  # class, distillation and register tokens before those of the image


@dataclass(frozen=True)
class MapSource:
    """One output of one call of one module, and how it is laid out.

    Args:
        module: name inside the model.
        call: which of the module's calls in a forward pass, from 0.
        layout: 'NCHW', 'NHWC', or 'NLC' for tokens.
        level: binary logarithm of its stride.
        prefix: tokens that are no part of the grid.
    """

    module: str
    call: int
    layout: str
    level: int
    channels: int
    prefix: int = 0

    def as_map(self, output: object, image: tuple[int, int]) -> Tensor:
        """The output as (N, C, H, W), for images of this height and width."""
        value = _tensor_of(output)
        if self.layout == 'NHWC':
            value = value.permute(0, 3, 1, 2)
        elif self.layout == 'NLC':
            tokens = value[:, self.prefix:]
            height = max(1, round(math.sqrt(tokens.shape[1] * image[0] / image[1])))
            if tokens.shape[1] % height:
                raise ConfigError(f'{tokens.shape[1]} tokens of {self.module} make no grid for an image of '
                                  f'{image[0]} x {image[1]} pixels.')
            value = tokens.transpose(1, 2).unflatten(2, (height, -1))
        return value.clone().float()  # A copy, because the next layer may work in place.


@dataclass(frozen=True)
class _Call:
    """A call of a module: the level it starts at, its output, the calls around it; its type if it has parameters."""

    module: str
    call: int
    start: int | None
    output: MapSource | None
    around: tuple[int, ...]
    kind: str | None


def find_maps(model: nn.Module, images: Tensor) -> tuple[MapSource, ...]:
    """Sources of the five maps, for levels 1 ... 5; the same source twice where the network skips a level.

    A network that reduces its resolution gives the last trunk map of each level; a missing level is taken from the
    nearest finer one, or from the next coarser one at the fine end. One that keeps it (a plain transformer) gives
    its patch embedding, then the output after each quarter of its blocks.

    Raises:
        ConfigError: if the model has no such maps.
    """
    calls = _watch(model, images)
    trunk = [call for call in calls if call.output is not None and _in_trunk(call)]
    last = {call.output.level: call.output for call in trunk if call.output.level in LEVELS}
    blocks = _blocks(trunk)
    if len(last) >= 3:
        return tuple(last[_nearest_level(level, last)] for level in LEVELS)
    if len(blocks) >= 4:
        # Padding before the patches are cut out gives a map, too, at the image's own resolution.
        first = next((call.output for call in trunk if call.output.level in LEVELS), blocks[0])
        return (first, *(blocks[math.ceil(len(blocks) * quarter / 4) - 1] for quarter in (1, 2, 3, 4)))
    raise ConfigError(f'{type(model).__name__} has no feature maps: its modules give maps at {len(last)} strides, and '
                      f'no chain of transformer blocks was found. Use its embedding.')


def collect(model: nn.Module, images: Tensor, sources: Sequence[MapSource], *, resampled: bool = True) -> list[Tensor]:
    """The maps of `sources` in one forward pass.

    Args:
        resampled: those that stand in for a level they do not have are brought to its stride.
    """
    wanted = {(source.module, source.call): source for source in sources}
    found: dict[tuple[str, int], Tensor] = {}
    seen: Counter[str] = Counter()
    size = tuple(images.shape[2:])

    def keep(name: str):
        def hook(_: nn.Module, __: tuple, output: object) -> None:
            key = (name, seen[name])
            seen[name] += 1
            if key in wanted:
                found[key] = wanted[key].as_map(output, size)
        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in {name for name, _ in wanted}]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    maps = [found[source.module, source.call] for source in sources]
    return [at_level(value, source.level, level, size) for value, source, level in zip(maps, sources, LEVELS)] \
        if resampled else maps


def at_level(value: Tensor, level: int, wanted: int, image: tuple[int, int]) -> Tensor:
    """A map (N, C, H, W) of stride 2**level at stride 2**wanted, for images of this height and width."""
    if level == wanted:
        return value
    size = [max(1, math.ceil(side / 2**wanted)) for side in image]
    if wanted > level:
        return functional.adaptive_avg_pool2d(value, size)
    return functional.interpolate(value, size, mode='bilinear', align_corners=False)


def _nearest_level(level: int, known: Collection[int]) -> int:
    finer = [other for other in known if other <= level]
    return max(finer) if finer else min(known)


def _watch(model: nn.Module, images: Tensor) -> list[_Call]:
    """Every call of a module but the outermost one, in the order in which they end."""
    size, counts, running, calls, grids = images.shape[2], Counter(), [], [], set()
    ends: dict[int, _Call] = {}

    def before(name: str):
        def hook(_: nn.Module, inputs: tuple) -> None:
            source = _source(name, 0, _tensor_of(inputs), size, grids)
            running.append((len(ends) + len(running), None if source is None else source.level))
        return hook

    def after(name: str):
        def hook(module: nn.Module, _: tuple, output: object) -> None:
            key, start = running.pop()
            value = _source(name, counts[name], _tensor_of(output), size, grids)
            around = tuple(identity for identity, _ in running)
            kind = type(module).__name__ if next(module.parameters(), None) is not None else None
            calls.append(_Call(name, counts[name], start, value, around, kind))
            ends[key] = calls[-1]
            counts[name] += 1
        return hook

    handles = []
    for name, module in model.named_modules():
        if name:
            handles += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(after(name))]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return [_Call(c.module, c.call, c.start, c.output, tuple(ends[key] for key in c.around), c.kind) for c in calls]


def _in_trunk(call: _Call) -> bool:
    level = call.output.level
    for outer in call.around:
        if outer.start is None or outer.output is None:
            continue  # A container that takes or gives something else than one map.
        end = outer.output.level
        if not (outer.start < level <= end or (outer.start == level <= end != level + 1)):
            return False
    return True


def _blocks(trunk: Sequence[_Call]) -> list[MapSource]:
    """Outputs of the longest chain of like modules beside each other that keep stride and width."""
    chains: dict[tuple, dict[str, MapSource]] = {}
    for call in trunk:
        parent = call.module.rpartition('.')[0]
        key = (parent, call.kind, call.output.level, call.output.channels)
        if call.start == call.output.level and parent and call.kind:
            chains.setdefault(key, {})[call.module] = call.output
    return list(max(chains.values(), key=len, default={}).values())


def _tensor_of(value: object) -> Tensor | None:
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _source(name: str, call: int, value: Tensor | None, size: int, grids: set[int]) -> MapSource | None:
    """How a tensor of one image of size x size pixels is a map, or None if it is none."""
    if value is None or value.shape[:1] != (1,) or not value.is_floating_point():
        return None
    if value.ndim == 4:
        _, first, second, third = value.shape
        if second == third and second <= size:
            grids.add(second)
            return MapSource(name, call, 'NCHW', _level(size, second), first)
        if first == second and first <= size:
            grids.add(first)
            return MapSource(name, call, 'NHWC', _level(size, first), third)
    if value.ndim == 3:
        _, count, channels = value.shape
        side = _grid_side(count, grids)
        if side is not None:
            return MapSource(name, call, 'NLC', _level(size, side), channels, count - side * side)
    return None


def _level(size: int, side: int) -> int:
    return round(math.log2(size / side))


def _grid_side(count: int, grids: set[int]) -> int | None:
    """Side of the square grid that `count` tokens make, after a few others, else None."""
    side = math.isqrt(count)
    if side * side == count and side > 1:
        return side
    return next((side for side in sorted(grids, reverse=True)
                 if side > 1 and 0 < count - side * side <= _MAX_PREFIX), None)
