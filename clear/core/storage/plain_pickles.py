"""Pickles from outside, read without running anything: containers, text, numbers and numpy arrays.

A first pass looks at every instruction. What is not known there is refused before an object is made.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clear.core.errors import DataError, printable
from clear.core.files import read_bytes

MAX_BYTES = 1 << 30
_PUTS = ('PUT', 'BINPUT', 'LONG_BINPUT')
# What may build anything but plain values and what `find_class` allows: other instructions are refused.
_REFUSED = {'PERSID', 'BINPERSID', 'EXT1', 'EXT2', 'EXT4', 'INST', 'OBJ', 'NEXT_BUFFER', 'READONLY_BUFFER'}
_DTYPE = re.compile('[biuf][1248]')


def check_instructions(data: bytes, check_name: Callable[[str, str], None], origin: str) -> None:
    """Refuse a pickle with instructions or names that those of its kind do not have.

    Args:
        check_name: called with module and name of what an old instruction asks for; raises DataError. Names that newer
            ones ask for are known to `find_class` alone.
        origin: what the pickle should be of, for messages.

    Raises:
        DataError: saying which.
        ValueError: if the bytes are no pickle.
    """
    for count, (operation, value, _) in enumerate(pickletools.genops(data)):
        if operation.name in _REFUSED:
            raise DataError(f'it has the instruction {operation.name}; it is no pickle of {origin}.')
        if operation.name == 'GLOBAL':
            module, _, name = str(value).partition(' ')
            check_name(module, name)
        elif operation.name in _PUTS and int(value) > count:  # the unpickler would make room for all below
            raise DataError('its memory has gaps; it was not written by pickle.')


def read_array_pickle(path: str | Path, max_bytes: int = MAX_BYTES) -> object:
    """The content of a pickle that holds dicts, lists, text, numbers and numpy arrays of numbers.

    Text of Python 2 comes as bytes. Neither numpy nor anything else is called by what the file says.

    Args:
        max_bytes: larger files are refused, because a pickle is in memory as a whole.

    Raises:
        DataError: if it is damaged or too large, or holds anything else.
    """
    data = read_bytes(path, max_bytes)
    try:
        check_instructions(data, _known, 'plain values and arrays')
        return _arrays(_ArrayReader(io.BytesIO(data), encoding='bytes').load(), {})
    except DataError as error:
        raise DataError(f'{path}: {error}') from error
    except Exception as error:  # the unpickler raises whatever a damaged stream leads to
        raise DataError(f'{path} is damaged: {type(error).__name__}: {printable(str(error))[:200]}') from error


class _ArrayReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        return _known(module, name)


class _Dtype:
    """A dtype of a pickle: its text, and the order of its bytes."""

    def __init__(self, text: str | bytes, *flags: object):
        self.text, self.order = _text(text), '|'

    def __setstate__(self, state: tuple) -> None:
        self.order = _text(state[1])

    def value(self) -> np.dtype:
        if not _DTYPE.fullmatch(self.text) or self.order not in ('|', '<', '>', '='):
            raise DataError(f"it has an array of type '{printable(self.text)[:40]}'; only arrays of numbers are read.")
        return np.dtype(self.order.replace('|', '<') + self.text)


class _Array:
    """An array of a pickle: shape, dtype, order of axes and bytes, as `ndarray.__setstate__` would take them."""

    state: tuple

    def __setstate__(self, state: tuple) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        _, shape, dtype, by_columns, content = self.state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise DataError('it has an array of objects; only arrays of numbers are read.')
        return np.frombuffer(content, dtype.value()).reshape(shape, order='F' if by_columns else 'C')


class _Name:
    """Something that a pickle may ask for. No state can be put into it."""

    __slots__ = ()


class _Reconstruct(_Name):
    __slots__ = ()

    def __call__(self, *args: object) -> _Array:
        return _Array()


class _Encode(_Name):
    """How Python 3 writes bytes for Python 2."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str) -> bytes:
        if encoding != 'latin1':
            raise DataError(f"it asks for the encoding '{printable(str(encoding))[:40]}'.")
        return text.encode('latin1')


def _known(module: str, name: str) -> object:
    if name == '_reconstruct' and module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
        return _Reconstruct()
    if module == 'numpy' and name in ('ndarray', 'dtype'):
        return _Dtype if name == 'dtype' else _Name()
    if (module, name) == ('_codecs', 'encode'):
        return _Encode()
    raise DataError(f"it asks for '{printable(module)}.{printable(name)}'. Only plain values and arrays of numbers are "
                    'read; nothing of it was run.')


def _text(value: str | bytes) -> str:
    return value.decode('latin1') if isinstance(value, bytes) else str(value)


def _arrays(value: object, made: dict[int, object]) -> object:
    """The same with arrays for what stands for them.

    Args:
        made: id -> what was made of it. What stands in many places is one: a few bytes can name it billions of times.
    """
    if isinstance(value, (_Array, dict, list, tuple)):
        if id(value) not in made:
            made[id(value)] = _made(value, made)
        return made[id(value)]
    if isinstance(value, (_Name, _Dtype, type)):
        raise DataError('it holds a name where a value should be.')
    return value


def _made(value: _Array | dict | list | tuple, made: dict[int, object]) -> object:
    if isinstance(value, _Array):
        return value.value()
    if isinstance(value, dict):
        return {key: _arrays(each, made) for key, each in value.items()}
    return type(value)(_arrays(each, made) for each in value)
