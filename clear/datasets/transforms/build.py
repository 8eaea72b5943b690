"""Image transforms from a list of configs: a bare name is ours, else torchvision's `transforms.v2`.

Seventeen names exist both in torchvision and in mmcv or mmpretrain with other meanings, so this list never asks
those two. A `pipeline` in mmpretrain's style does.
"""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from clear.core.errors import ConfigError, nearest
from clear.registry import TRANSFORMS, RegistryError

# Transforms of torchvision that draw no random numbers. Everything else counts as random: a needless seed costs
# some microseconds, a missing one costs reproducibility. (GaussianBlur draws its sigma even from a single value.)
DETERMINISTIC = frozenset({
    'CenterCrop', 'ConvertImageDtype', 'FiveCrop', 'Grayscale', 'Identity', 'LinearTransformation', 'Normalize',
    'PILToTensor', 'Pad', 'RGB', 'Resize', 'TenCrop', 'ToDtype', 'ToImage', 'ToPILImage', 'ToPureTensor', 'ToTensor'})
# Transforms that treat every value for itself, so that a batch (N, C, H, W) comes out as its images would one by one.
VALUE_BY_VALUE = frozenset({'Normalize'})


class ImageTransform:
    """Transforms applied in turn. What leaves is a plain tensor, or whatever the last step gives.

    Args:
        steps: callables, each taking what the one before returned.
        is_random: whether any step draws random numbers.
        batch_from: index of the first step from which on whole batches may pass; None if there is none.
    """

    def __init__(self, steps: Sequence[Callable], is_random: bool, batch_from: int | None = None):
        self.steps = list(steps)
        self.is_random = is_random
        self.batch_from = len(self.steps) if batch_from is None else batch_from

    def __call__(self, image: Any) -> Any:
        for step in self.steps:
            image = step(image)
        # torchvision wraps tensors to remember that they are images; loaders and models want plain ones.
        return image.as_subclass(torch.Tensor) if isinstance(image, torch.Tensor) else image

    def halves(self) -> tuple[ImageTransform, ImageTransform]:
        """What must see image by image, and the rest (`ToTensor` and what is value by value), which takes batches."""
        return (ImageTransform(self.steps[:self.batch_from], self.is_random),
                ImageTransform(self.steps[self.batch_from:], False, 0))

    def __repr__(self) -> str:
        return f'ImageTransform([{", ".join(map(repr, self.steps))}], is_random={self.is_random})'


def build_transform(configs: Sequence[Mapping] | None, where: str = 'transform') -> ImageTransform:
    """Build `[dict(type='Resize', size=224), ...]`; None or an empty list gives images back as they are.

    In arguments, `interpolation='bicubic'` and `dtype='float32'` are names, and a list under `transforms`
    (of RandomApply, RandomChoice ...) is built like the outer one. `ToTensor` gives float32 in [0, 1]. The configs
    are not changed.

    Args:
        where: how messages call the list, e.g. 'scenario.train_transform'.

    Raises:
        ConfigError: if a config is malformed or a constructor refuses it; says which one.
        RegistryError: if a name is unknown, with the three nearest.
    """
    if configs is None:
        configs = []
    if isinstance(configs, (str, Mapping)) or not isinstance(configs, Sequence):
        raise ConfigError(f"{where}: expected a list of dict(type='...'), found {configs!r}.")
    built = [_build_one(config, f'{where}[{index}]') for index, config in enumerate(configs)]
    return ImageTransform([step for step, _ in built], any(is_random for _, is_random in built), _batch_from(configs))


def _batch_from(configs: Sequence[Mapping]) -> int | None:
    names = [config['type'] for config in configs]
    start = names.index('ToTensor') if 'ToTensor' in names else len(names)
    is_plain = all(name in VALUE_BY_VALUE for name in names[start + 1:])
    # A transform of ours may have one of these names.
    return start if is_plain and all(TRANSFORMS.get_own(name) is None for name in names[start:]) else None


def _build_one(config: Mapping, where: str) -> tuple[Callable, bool]:
    """The transform and whether it is random."""
    if not isinstance(config, Mapping) or not isinstance(config.get('type'), str):
        raise ConfigError(f"{where}: expected a dict with the name of a type, found {config!r}.")
    name = config['type']
    arguments = {key: copy.deepcopy(value) for key, value in config.items() if key != 'type'}
    inner: list[tuple[Callable, bool]] = []
    if _is_config_list(arguments.get('transforms')):
        inner = [_build_one(each, f'{where}.transforms[{i}]') for i, each in enumerate(arguments['transforms'])]
        arguments['transforms'] = [step for step, _ in inner]
    own = TRANSFORMS.get_own(name)
    if own is not None:
        step = _construct(own, arguments, where, name)
        return step, getattr(step, 'is_random', True)
    kind = _find_torchvision(name, where)
    if name == 'ToTensor':
        return _construct(_to_tensor, arguments, where, name), False
    step = _construct(kind, _with_enums(arguments, f'{where} ({name})'), where, name)
    is_random = any(each for _, each in inner) if name == 'Compose' and inner else name not in DETERMINISTIC
    return step, is_random


def _construct(kind: Callable, arguments: dict[str, object], where: str, name: str) -> Callable:
    try:
        return kind(**arguments)
    except ConfigError as error:  # which says it all but where
        raise ConfigError(f'{where} ({name}): {error}') from error
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        known = [key for key in inspect.signature(kind).parameters if key not in ('args', 'kwargs')]
        near = next((nearest(key, known) for key in arguments if key not in known), '')
        hint = f' Nearest: {near}.' if near else ''
        raise ConfigError(f'{where} ({name}): {error}. It takes: {", ".join(known) or "nothing"}.{hint}') from error


def _to_tensor() -> Callable:
    """`v2.ToTensor` in the form that is not deprecated: float32 (C, H, W) in [0, 1]."""
    from torchvision.transforms import v2

    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def _find_torchvision(name: str, where: str) -> type:
    from torchvision.transforms import v2

    classes = {each: kind for each, kind in vars(v2).items()
               if inspect.isclass(kind) and issubclass(kind, v2.Transform)}
    if name in classes:
        return classes[name]
    TRANSFORMS.import_from_location()
    known = dict.fromkeys(classes, 'torchvision.transforms.v2') | dict.fromkeys(TRANSFORMS.module_dict, 'clear')
    by_lower = {each.lower(): each for each in known}
    close = [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.0)]
    raise RegistryError(f"{where}: no transform is called '{name}'. Nearest: "
                        + ', '.join(f"'{each}' ({known[each]})" for each in close) + '.')


def _with_enums(arguments: dict[str, object], where: str) -> dict[str, object]:
    """Names of interpolations and dtypes as the objects that torchvision wants."""
    from torchvision.transforms import InterpolationMode

    if isinstance(arguments.get('interpolation'), str):
        modes = {mode.value: mode for mode in InterpolationMode}
        if arguments['interpolation'] not in modes:
            raise ConfigError(f"{where}: interpolation '{arguments['interpolation']}' is unknown; "
                              f'known: {", ".join(modes)}.')
        arguments['interpolation'] = modes[arguments['interpolation']]
    if isinstance(arguments.get('dtype'), str):
        dtype = getattr(torch, arguments['dtype'].removeprefix('torch.'), None)
        if not isinstance(dtype, torch.dtype):
            raise ConfigError(f"{where}: dtype '{arguments['dtype']}' is unknown, expected e.g. 'float32'.")
        arguments['dtype'] = dtype
    return arguments


def _is_config_list(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(each, Mapping) for each in value)
