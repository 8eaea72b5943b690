"""Checks of what a state file holds, before anything of it is used: a damaged one is an error that names the key."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from clear.core.errors import CheckpointError, ClearError
from clear.core.seeding import get_rng_state, set_rng_state

# What reading a damaged value raises, here or in the library that takes it.
_SYMPTOMS = (LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError, StopIteration,
             OverflowError)


@dataclass(frozen=True)
class OrNone:
    """A key that must be there, and may be None."""

    kind: Shape


@dataclass(frozen=True)
class Maybe(OrNone):
    """A key that may be absent or None."""


@dataclass(frozen=True)
class Each:
    """A list (or with `names`, a dict with text keys) whose every item is of a kind."""

    kind: Shape
    names: bool = False


@dataclass(frozen=True)
class Such:
    """A value for which `test` holds; `what` says so in a message."""

    what: str
    test: Callable[[object], bool]


# What `check_shape` compares with; of a dict, the keys that must be there.
Shape: TypeAlias = 'type | tuple[type, ...] | Such | OrNone | Each | Mapping[str, Shape]'

NUMBER = Such('a number', lambda value: isinstance(value, (int, float)) and not isinstance(value, bool))
COUNT = Such('a whole number of at least 0', lambda value: type(value) is int and value >= 0)
FLAG = Such('True or False', lambda value: isinstance(value, bool))
TENSORS = Each(torch.Tensor, names=True)
RNG = dict(torch=torch.Tensor, numpy=dict(name=str, keys=torch.Tensor, position=COUNT, has_gauss=COUNT, cached=NUMBER),
           python=dict(version=COUNT, internal=torch.Tensor, gauss=Maybe(NUMBER)))


def check_shape(path: Path, value: object, shape: Shape, where: str = '') -> None:
    """Refuse a value that is not of a shape.

    Args:
        shape: a type, `Such`, `OrNone`, `Maybe`, `Each`, or a dict of the keys that must be there; more are allowed.
        where: the key of `value` in the file.

    Raises:
        CheckpointError: naming file and key.
    """
    if isinstance(shape, OrNone):
        if value is not None:
            check_shape(path, value, shape.kind, where)
    elif isinstance(shape, Each):
        _require(path, value, Mapping if shape.names else (list, tuple), where)
        for key, item in value.items() if shape.names else enumerate(value):
            if shape.names:
                _require(path, key, str, f'a key of {where}')
            check_shape(path, item, shape.kind, f'{where}.{key}' if shape.names else f'{where}[{key}]')
    elif isinstance(shape, dict):
        _require(path, value, Mapping, where)
        for key, kind in shape.items():
            name = f'{where}.{key}' if where else key
            if key not in value and not isinstance(kind, Maybe):
                raise damaged(path, f"no key '{name}'")
            check_shape(path, value.get(key), kind, name)
    elif isinstance(shape, Such):
        if not shape.test(value):
            raise damaged(path, f'{where} is {_short(value)}; expected {shape.what}')
    else:
        _require(path, value, shape, where)


def check_alike(path: Path, saved: object, present: Mapping[str, object], where: str) -> None:
    """Refuse saved plain values that are not of the kinds of those that are to take them.

    Args:
        present: the same part of an object that saw nothing yet; all its keys must have been saved.

    Raises:
        CheckpointError: naming file and key.
    """
    check_shape(path, saved, dict.fromkeys(present, object), where)
    for key, value in present.items():
        if not is_alike(value, saved[key]):
            raise damaged(path, f'{where}.{key} is {_short(saved[key])}')


def is_alike(present: object, saved: object) -> bool:
    """Whether a plain value can take the place of another: text of text, a number of a number or of a tensor.

    None takes the place of all and all of None. A count that began at 0 or above is never below.
    """
    if present is None or saved is None:
        return True
    if isinstance(present, str) or isinstance(saved, str):
        return isinstance(present, str) and isinstance(saved, str)
    if isinstance(saved, (bool, int, float)):
        is_count = type(present) is int and type(saved) is int
        return isinstance(present, (numbers.Number, torch.Tensor)) and not (is_count and present >= 0 > saved)
    return not isinstance(present, (bool, int, float)) or not isinstance(saved, (dict, list, tuple))


def check_rng(path: Path, state: object, where: str = 'rng') -> None:
    """Refuse a state of the random number generators that cannot be put back; they stay as they are.

    Raises:
        CheckpointError: naming file and key.
    """
    check_shape(path, state, RNG, where)
    before = get_rng_state()
    try:
        with reading(path):
            set_rng_state(state)
    finally:
        set_rng_state(before)


def check_finite(what: object, state: object, reason: str) -> None:
    """Refuse weights with NaN or infinity, in dicts of dicts or lists too.

    Args:
        what: whose weights these are, a file or 'the model'; begins the message.
        reason: why they are of no use, ends it.

    Raises:
        CheckpointError: naming the first of them.
    """
    for name, value in _tensors(state):
        if value.is_floating_point() and not value.isfinite().all():
            raise CheckpointError(f'{what}: {name} holds NaN or infinity; {reason}')


def _tensors(value: object, name: str = '') -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, (Mapping, list, tuple)):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(item, f'{name}.{key}' if name else str(key))


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Report as damage of the file what goes wrong while its values are put to use.

    Raises:
        CheckpointError: naming the file.
    """
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f'{path}: {error}') from error
    except ClearError:
        raise
    except _SYMPTOMS as error:
        text = str(error).strip() or 'a value is of another kind than expected'
        raise damaged(path, f'it does not fit what this config builds ({type(error).__name__}: {text})') from error


def damaged(path: Path, reason: str) -> CheckpointError:
    """The error of a file that cannot be used."""
    return CheckpointError(f'{path} is damaged: {reason}. Take an older checkpoint, or start the run anew.')


def _require(path: Path, value: object, kind: type | tuple[type, ...], where: str) -> None:
    # A bool is an int in Python, but none of our numbers.
    if not isinstance(value, kind) or isinstance(value, bool) and kind not in (bool, object):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise damaged(path, f"{where or 'the file'} is {_short(value)}; expected "
                            f"{' or '.join(item.__name__ for item in kinds)}")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f'a {type(value).__name__}'
    return text if len(text) <= 40 else f'{text[:37]}...'
