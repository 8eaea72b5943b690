"""Pickles of the first generation, read without running anything: a few named classes become records that do nothing.

A first pass looks at every instruction: names of classes, sizes and places in the unpickler's memory. What is not known
there is refused before an object is made.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from clear.core.errors import DataError, printable
from clear.core.files import read_bytes
from clear.core.storage.plain_pickles import check_instructions

MAX_BYTES = 1 << 30
# The classes that hold one photo, and one folder of photos; whatever module they were in, they are ours here.
CLASSES = ('FlickrFolder', 'Metadata', 'MetadataObject')
_FOLDER_FIELDS = ('idx', 'num_images', 'last_index', 'folder', 'image_folder', 'metadata_location')
_MAKERS = {('copyreg', '_reconstructor'), ('copy_reg', '_reconstructor'), ('copyreg', '__newobj__')}
_BASES = {('builtins', 'object'), ('__builtin__', 'object')}


class Inert:
    """An object of a pickle as data: what it was made of, and what it held."""

    args: tuple
    held: dict[str, object]

    def __new__(cls, *args: object) -> Inert:
        made = super().__new__(cls)
        made.args, made.held = args, {}
        return made

    def __setstate__(self, state: object) -> None:
        # With __slots__ a state is a pair: of the dict, and of the slots.
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.held.update({str(key): value for key, value in part.items()})


class Folder(Inert):
    """A folder of photos."""


def read_pickle(path: str | Path, max_bytes: int = MAX_BYTES) -> object:
    """The content of a pickle of the earlier curation: plain values, dicts of what its records held.

    Args:
        max_bytes: larger files are refused, because a pickle is in memory as a whole.

    Raises:
        DataError: if it is damaged or too large, or holds anything else.
    """
    data = read_bytes(path, max_bytes)
    try:
        check_instructions(data, _check_name, 'the earlier curation')
        return _plain(_Reader(io.BytesIO(data), encoding='utf-8', errors='surrogateescape').load(), {})
    except DataError as error:
        raise DataError(f'{path}: {error}') from error
    except RecursionError as error:
        raise DataError(f'{path} is no pickle of ours: it holds itself, or is nested too deep.') from error
    except Exception as error:  # the unpickler raises whatever a damaged stream leads to
        raise DataError(f'{path} is damaged: {type(error).__name__}: {printable(str(error))[:200]}') from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) in _MAKERS:
            return _Maker()
        if (module, name) in _BASES:
            return object
        if name in CLASSES:
            return Folder if name == 'FlickrFolder' else Inert
        raise DataError(_refusal(module, name))


class _Maker:
    """What `copyreg` does for the classes above: an empty object. No state can be put into it."""

    __slots__ = ()

    def __call__(self, kind: object, *rest: object) -> Inert:
        if not isinstance(kind, type) or not issubclass(kind, Inert):
            raise DataError('it makes an object of a class that is none of the earlier curation.')
        return kind()


def _refusal(module: str, name: str) -> str:
    return (f"it asks for '{printable(module)}.{printable(name)}'. Only {', '.join(CLASSES)} and plain values are "
            'read; nothing of it was run.')


def _check_name(module: str, name: str) -> None:
    if (module, name) not in _MAKERS | _BASES and name not in CLASSES:
        raise DataError(_refusal(module, name))


def _plain(value: object, seen: dict[int, object]) -> object:
    """Objects as dicts: of a `Metadata` what its `metadata` holds."""
    if not isinstance(value, (Inert, dict, list, tuple)):
        return value
    if id(value) not in seen:
        if isinstance(value, Inert):
            given = dict(zip(_FOLDER_FIELDS, value.args)) if isinstance(value, Folder) else {}
            held = value.held or given
            inner = held.get('metadata')
            seen[id(value)] = _plain(inner.held if isinstance(inner, Inert) else held, seen)
        elif isinstance(value, dict):
            seen[id(value)] = {key: _plain(each, seen) for key, each in value.items()}
        else:
            seen[id(value)] = [_plain(each, seen) for each in value]
    return seen[id(value)]


def pickled(rows: Iterable[Sequence[tuple[str, Mapping[str, object]]]]) -> Iterator[bytes]:
    """A pickle of a list of records as the first generation's programs read it, piece by piece.

    Args:
        rows: pieces of the list; of each record the class and what it holds; plain values, or such pairs.
    """
    yield b'\x80\x02]('
    for piece in rows:
        yield b''.join(_object(*each) for each in piece)
    yield b'e.'


def _object(name: str, held: Mapping[str, object]) -> bytes:
    # Protocol 2 without memory, so that pieces can follow each other: class, (), NEWOBJ, the dict, BUILD.
    parts = [b'c__main__\n', name.encode(), b'\n)\x81}(']
    for key, value in held.items():
        parts += [_value(key), _object(*value) if isinstance(value, tuple) else _value(value)]
    return b''.join([*parts, b'ub'])


def _value(value: object) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 2)
    pickler.fast = True
    pickler.dump(value)
    return buffer.getvalue()[2:-1]
