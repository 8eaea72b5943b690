"""Values of Python's, NumPy's and torch's own kinds as plain values, and back, for `encoding`.

Generators as their state; containers beside lists and dicts; dataclasses, named tuples and members of an Enum by the
name of their class, which is only looked up in modules that are imported, and made without running its code.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from clear.core.errors import CheckpointError

# What `plain` says of a value beside its kind; `parts` are still to be encoded.
Parts = dict[str, Any]
# Factories of a defaultdict that can be named; of others the constructor must make the dict.
FACTORIES = {cls.__name__: cls for cls in (int, float, list, dict, set, str, bool)}
DICTS = {'OrderedDict': OrderedDict, 'Counter': Counter}


def plain(value: object, path: str) -> Parts | None:
    """The kind of a value and its parts; None if it is of no kind that is known here.

    Raises:
        CheckpointError: naming `path` if the class of a record cannot be found again.
    """
    if isinstance(value, enum.Enum):
        return dict(kind='enum', cls=_name(type(value), path), parts=value.name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not hasattr(value, 'state_dict'):
        return dict(kind='dataclass', cls=_name(type(value), path), parts=_fields_of(value))
    if isinstance(value, torch.Size):
        return dict(kind='size', parts=list(value))
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return dict(kind='namedtuple', cls=_name(type(value), path), parts=list(value))
    for kind, types, parts in _SIMPLE:
        if isinstance(value, types):
            return dict(kind=kind, parts=parts(value))
    return None


def unplain(kind: str, name: str | None, parts: Any, existing: object) -> object:
    """The value of what `plain` gave, its parts decoded. A generator is filled where there is one.

    Raises:
        CheckpointError: if the class of a record is not there.
    """
    if kind in ('enum', 'dataclass', 'namedtuple'):
        return _record(kind, _found(name), parts, existing)
    if kind == 'dtype':
        return _named(torch, parts, torch.dtype)
    if kind in ('bytes', 'bytearray'):
        return (bytes if kind == 'bytes' else bytearray)(parts.tolist())
    if kind == 'deque':
        return deque(parts['items'], parts['maxlen'])
    if kind in _GENERATORS:
        return _GENERATORS[kind](existing, parts)
    makers: dict[str, Callable[..., object]] = dict(size=torch.Size, path=Path, device=torch.device)
    return makers[kind](parts) if kind in makers else (slice if kind == 'slice' else range)(*parts)


def _record(kind: str, cls: type, parts: Any, existing: object) -> object:
    if kind == 'enum':
        return cls[parts]
    if kind == 'namedtuple':
        return tuple.__new__(cls, parts)
    made = existing if type(existing) is cls else object.__new__(cls)
    for field, item in parts.items():
        object.__setattr__(made, field, item)
    return made


def _fields_of(value: Any) -> dict[str, object]:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)
              if hasattr(value, field.name)}
    return fields | getattr(value, '__dict__', {})  # with slots there is none


def kind_of_dict(value: dict) -> str | None:
    """What a dict is besides, to be made again where there is none: 'OrderedDict', 'Counter' or 'defaultdict int'."""
    if isinstance(value, defaultdict):
        factory = getattr(value.default_factory, '__name__', None)
        return f'defaultdict {factory}' if FACTORIES.get(factory) is value.default_factory else 'defaultdict'
    return next((name for name, cls in DICTS.items() if type(value) is cls), None)


def empty_dict(kind: str | None) -> dict:
    """An empty dict of a `kind_of_dict`.

    Raises:
        CheckpointError: for a defaultdict whose factory has no name.
    """
    if kind == 'defaultdict':
        raise CheckpointError('The checkpoint holds a defaultdict whose factory is no type of Python; the constructor '
                              'must make it.')
    if kind and kind.startswith('defaultdict '):
        return defaultdict(FACTORIES[kind.removeprefix('defaultdict ')])
    return DICTS[kind]() if kind else {}


def _named(module: Any, name: str, kind: type) -> Any:
    found = getattr(module, name, None)
    if not isinstance(found, kind):
        raise CheckpointError(f'The checkpoint holds {name!r}, which is no {kind.__name__} of {module.__name__}.')
    return found


def _numbers(value: bytes | bytearray) -> torch.Tensor:
    return torch.tensor(list(value), dtype=torch.uint8)


def _numpy_state(generator: np.random.Generator | np.random.RandomState) -> str:
    # As text: some of its numbers have 128 bits.
    state = generator.get_state(legacy=False) if isinstance(generator, np.random.RandomState) else \
        generator.bit_generator.state
    return json.dumps(state, default=lambda array: array.tolist())


def _numpy_generator(existing: object, text: str) -> np.random.Generator:
    state = json.loads(text)
    kind = _named(np.random, state['bit_generator'], type)
    if not issubclass(kind, np.random.BitGenerator):
        raise CheckpointError(f'The checkpoint holds a generator of the kind {kind.__name__}, which is none.')
    if not isinstance(existing, np.random.Generator) or type(existing.bit_generator) is not kind:
        existing = np.random.Generator(kind())
    existing.bit_generator.state = state
    return existing


def _numpy_random_state(existing: object, text: str) -> np.random.RandomState:
    existing = existing if isinstance(existing, np.random.RandomState) else np.random.RandomState()
    existing.set_state(json.loads(text))
    return existing


def _torch_generator(existing: object, parts: dict) -> torch.Generator:
    existing = existing if isinstance(existing, torch.Generator) else torch.Generator(parts['device'])
    existing.set_state(parts['state'])
    return existing


def _python_generator(existing: object, parts: list) -> random.Random:
    existing = existing if isinstance(existing, random.Random) else random.Random()
    version, numbers, gauss = parts
    existing.setstate((version, tuple(numbers), gauss))
    return existing


_GENERATORS = dict(numpy_generator=_numpy_generator, numpy_random_state=_numpy_random_state,
                   torch_generator=_torch_generator, python_generator=_python_generator)
_SIMPLE: tuple[tuple[str, type, Callable[[Any], object]], ...] = (
    ('deque', deque, lambda value: dict(items=list(value), maxlen=value.maxlen)),
    ('path', PurePath, str), ('device', torch.device, str),
    ('dtype', torch.dtype, lambda value: str(value).removeprefix('torch.')),
    ('bytes', bytes, _numbers), ('bytearray', bytearray, _numbers),
    ('range', range, lambda value: [value.start, value.stop, value.step]),
    ('slice', slice, lambda value: [value.start, value.stop, value.step]),
    ('torch_generator', torch.Generator, lambda value: dict(state=value.get_state(), device=str(value.device))),
    ('numpy_generator', np.random.Generator, _numpy_state),
    ('numpy_random_state', np.random.RandomState, _numpy_state),
    ('python_generator', random.Random, lambda value: list(value.getstate())))
PLAIN_KINDS = ('enum', 'dataclass', 'namedtuple', 'size', *(kind for kind, *_ in _SIMPLE))


def _name(cls: type, path: str) -> str:
    name = f'{cls.__module__}:{cls.__qualname__}'
    if _look_up(name) is not cls:
        raise CheckpointError(f'{path}: {cls.__qualname__} is defined inside a function, where nothing finds it again. '
                              'Define it in its module.')
    return name


def _found(name: str) -> type:
    found = _look_up(name)
    is_record = isinstance(found, type) and (issubclass(found, enum.Enum) or dataclasses.is_dataclass(found)
                                             or issubclass(found, tuple) and hasattr(found, '_fields'))
    if not is_record:
        raise CheckpointError(f'The checkpoint holds a {name}, which is no class of a module that is imported.')
    return found


def _look_up(name: str) -> object:
    module, _, path = name.partition(':')
    found = sys.modules.get(module)
    for part in path.split('.'):
        found = getattr(found, part, None)
    return found
