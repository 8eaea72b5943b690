"""The views of each self-supervised method, as plain values: what `MultiCrop` and `BatchedMultiCrop` read.

Sizes are those of ImageNet; for small images give others, e.g. `moco_v2(size=32)`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.errors import ConfigError, nearest
from clear.datasets.transforms.clsa_augment import check_strong

if TYPE_CHECKING:
    from clear.core.types import Options

INTERPOLATIONS = ('bilinear', 'bicubic')


@dataclass(frozen=True)
class View:
    """How one view is drawn from an image: crop, colours, greyscale, blur, solarisation, flip, strong operations.

    Args:
        size: side of the output in pixels.
        count: how many independent views are drawn like this.
        scale, ratio: range of the crop's share of the area and of its aspect ratio, as in RandomResizedCrop.
        interpolation: 'bilinear' or 'bicubic', both antialiased.
        flip_prob: probability of a horizontal flip.
        jitter: strengths of brightness, contrast, saturation and hue, as in ColorJitter; applied with `jitter_prob`.
        grayscale_prob: probability of grey; `grayscale_first` puts it before the colours.
        blur_prob, blur_sigma: probability of a Gaussian blur, and the range of its sigma in pixels of the output.
        solarize_prob: probability that values of `solarize_threshold` and above are inverted.
        strong_ops, strong_max_level, strong_prob: those of `CLSAStrongAugment`; 0 operations leave it out.

    Raises:
        ConfigError: if a value is out of range.
    """

    size: int
    count: int = 1
    scale: tuple[float, float] = (0.2, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = 'bilinear'
    flip_prob: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_prob: float = 0.8
    grayscale_prob: float = 0.2
    grayscale_first: bool = False
    blur_prob: float = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    solarize_threshold: int = 128
    strong_ops: int = 0
    strong_max_level: int = 10
    strong_prob: float = 0.5

    def __post_init__(self):
        for name in ('size', 'count'):
            check_whole(f'View: {name}', getattr(self, name), 1)
        for name in ('flip_prob', 'jitter_prob', 'grayscale_prob', 'blur_prob', 'solarize_prob'):
            check_number(f'View: {name}', getattr(self, name), 0, 1)
        for name, most in (('scale', 1.0), ('ratio', float('inf')), ('blur_sigma', float('inf'))):
            value = getattr(self, name)
            if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
                raise ConfigError(f'View: {name} is {value!r}, expected (low, high) with 0 < low <= high'
                                  + (f' <= {most}.' if most < float('inf') else '.'))
        if len(self.jitter) != 4 or min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ConfigError(f'View: jitter is {self.jitter!r}, expected strengths >= 0 of brightness, contrast, '
                              'saturation and hue, the last at most 0.5.')
        check_choice('View: interpolation', self.interpolation, INTERPOLATIONS)
        try:
            check_strong(self.strong_ops, self.strong_max_level, self.strong_prob)
        except ValueError as error:
            raise ConfigError(f'View: strong operations: {error}') from error


def moco_v1(size: int = 224) -> list[View]:
    """MoCo v1 (He et al. 2020, arXiv:1911.05722): grey before colours, colours always, strong hue, no blur."""
    return [View(size, count=2, jitter=(0.4, 0.4, 0.4, 0.4), jitter_prob=1.0, grayscale_first=True, blur_prob=0.0)]


def moco_v2(size: int = 224) -> list[View]:
    """MoCo v2 (Chen et al. 2020, arXiv:2003.04297): the defaults of `View`."""
    return [View(size, count=2)]


def simclr(size: int = 224, strength: float = 1.0, blur_prob: float = 0.5) -> list[View]:
    """SimCLR (Chen et al. 2020, arXiv:2002.05709, appendix A); for CIFAR it has strength 0.5 and no blur."""
    jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    return [View(size, count=2, scale=(0.08, 1.0), jitter=jitter, blur_prob=blur_prob)]


def byol(size: int = 224, min_scale: float = 0.08) -> list[View]:
    """BYOL (Grill et al. 2020, arXiv:2006.07733, table 6): the two views differ in blur and solarisation."""
    one = View(size, scale=(min_scale, 1.0), interpolation='bicubic', jitter=(0.4, 0.4, 0.2, 0.1), blur_prob=1.0)
    return [one, dataclasses.replace(one, blur_prob=0.1, solarize_prob=0.2)]


def swav(size_crops: Sequence[int] = (224, 96), num_crops: Sequence[int] = (2, 6),
         min_scale: Sequence[float] = (0.14, 0.05), max_scale: Sequence[float] = (1.0, 0.14)) -> list[View]:
    """SwAV (Caron et al. 2020, arXiv:2006.09882, appendix A): crops of several sizes, SimCLR's colours."""
    crops = _crops(size_crops=size_crops, num_crops=num_crops, min_scale=min_scale, max_scale=max_scale)
    return [View(size, count=count, scale=(low, high), jitter=(0.8, 0.8, 0.8, 0.2)) for size, count, low, high in crops]


def dino(global_size: int = 224, local_size: int = 96, num_local: int = 8, min_scale: float = 0.05,
         split_scale: float = 0.4) -> list[View]:
    """DINO (Caron et al. 2021, arXiv:2104.14294): two global views as in BYOL, and small local ones below
    `split_scale` of the area.
    """
    one = View(global_size, scale=(split_scale, 1.0), interpolation='bicubic', jitter=(0.4, 0.4, 0.2, 0.1),
               blur_prob=1.0)
    views = [one, dataclasses.replace(one, blur_prob=0.1, solarize_prob=0.2)]
    if num_local:
        views.append(dataclasses.replace(one, size=local_size, count=num_local, scale=(min_scale, split_scale),
                                         blur_prob=0.5))
    return views


def clsa(size_crops: Sequence[int] = (224, 96), num_crops: Sequence[int] = (1, 1),
         min_scale: Sequence[float] = (0.2, 0.086), max_scale: Sequence[float] = (1.0, 0.429), key_size: int = 224,
         num_ops: int = 5, pick_weak: Sequence[int] | None = (0,), pick_strong: Sequence[int] | None = (1,)
         ) -> list[View]:
    """CLSA (Wang and Qi 2021, arXiv:2104.07713): [key, weak views ..., strong views ...], MoCo v2's plus the policy.

    A strong view is a crop of its own. The defaults are the single-crop recipe. The authors' code draws all crops
    and drops those that are not picked; here only picked ones are drawn.

    Args:
        pick_weak, pick_strong: indices into the list of all crops, sizes in order; None picks all.
    """
    crops = _crops(size_crops=size_crops, num_crops=num_crops, min_scale=min_scale, max_scale=max_scale)
    every = [View(size, scale=(low, high)) for size, count, low, high in crops for _ in range(count)]
    weak, strong = (_picked(every, pick, name) for pick, name in ((pick_weak, 'pick_weak'),
                                                                  (pick_strong, 'pick_strong')))
    return [View(key_size), *weak, *[dataclasses.replace(view, strong_ops=num_ops) for view in strong]]


def clsa_multi(size_crops: Sequence[int] = (224, 192, 160, 128, 96), num_crops: Sequence[int] = (1, 1, 1, 1, 1),
               min_scale: Sequence[float] = (0.2, 0.172, 0.143, 0.114, 0.086),
               max_scale: Sequence[float] = (1.0, 0.86, 0.715, 0.571, 0.429), key_size: int = 224, num_ops: int = 5,
               pick_weak: Sequence[int] | None = None, pick_strong: Sequence[int] | None = None) -> list[View]:
    """CLSA's multi-crop recipe: five sizes, all picked."""
    return clsa(size_crops, num_crops, min_scale, max_scale, key_size, num_ops, pick_weak, pick_strong)


RECIPES = {recipe.__name__: recipe for recipe in (moco_v1, moco_v2, simclr, byol, swav, dino, clsa, clsa_multi)}


def build_views(recipe: str | Sequence[View | Mapping], options: Options | None = None,
                changes: Options | None = None) -> list[View]:
    """The views of a recipe, one entry per output (`count` is written out).

    Args:
        recipe: a name in `RECIPES`, or a list of views or of dicts of their values.
        options: arguments of the named recipe, e.g. `dict(size=32)`.
        changes: values set in every view, e.g. `dict(blur_prob=0.0)`.

    Raises:
        ConfigError: if a name, an option or a value is wrong.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ConfigError(f"recipe '{recipe}' is unknown; known: {', '.join(RECIPES)}.")
        _check_names(options or {}, inspect.signature(RECIPES[recipe]).parameters, f"recipe '{recipe}'")
        views = RECIPES[recipe](**(options or {}))
    else:
        if options:
            raise ConfigError('options belong to a named recipe, but recipe is a list of views.')
        views = [view if isinstance(view, View) else _view_of(view, f'recipe[{index}]')
                 for index, view in enumerate(recipe)]
    if not views:
        raise ConfigError('recipe has no views.')
    _check_names(changes or {}, set(View.__dataclass_fields__) - {'count'}, 'changes')
    views = [dataclasses.replace(view, **(changes or {})) for view in views]
    return [dataclasses.replace(view, count=1) for view in views for _ in range(view.count)]


def _view_of(values: Options, where: str) -> View:
    if not isinstance(values, Mapping) or 'size' not in values:
        raise ConfigError(f'{where}: expected a dict with the size of a view, found {values!r}.')
    _check_names(values, View.__dataclass_fields__, where)
    return View(**values)


def _check_names(values: Options, known: Collection[str], where: str) -> None:
    if not isinstance(values, Mapping):
        raise ConfigError(f'{where}: expected a dict, found {values!r}.')
    for name in values:
        if name not in known:
            near = nearest(name, known)
            raise ConfigError(f"{where} has no '{name}'; it takes: {', '.join(sorted(known))}."
                              + (f' Nearest: {near}.' if near else ''))


def _crops(**lists: Sequence) -> list[tuple]:
    """One tuple per size from the four lists of a multi-crop."""
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1:
        raise ConfigError('the lists of a multi-crop differ in length: '
                          + ', '.join(f'{name} {length}' for name, length in lengths.items()) + '.')
    return list(zip(*lists.values()))


def _picked(views: list[View], pick: Sequence[int] | None, name: str) -> list[View]:
    if pick is None:
        return views
    wrong = [index for index in pick if not 0 <= index < len(views)]
    if wrong or not pick:
        raise ConfigError(f'{name} is {list(pick)}; expected indices from 0 to {len(views) - 1}, at least one: there '
                          f'are {len(views)} crops.')
    return [views[index] for index in sorted(set(pick))]
