"""Files that are whole or absent: written to a temporary name, synced, then renamed."""

from __future__ import annotations

import json
import os
import re
import struct
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from clear.core.errors import CheckpointError, DataError


@contextmanager
def atomic_writer(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a temporary file beside `path` and rename it to `path` if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
    try:
        with os.fdopen(handle, mode, encoding=None if 'b' in mode else 'utf-8') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner reads; give them the usual mode instead.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    with atomic_writer(path, 'w') as file:
        file.write(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON with sorted structure kept as given; NaN and infinity are refused (JSON has none)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


def read_json(path: str | Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: if the file is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise DataError(f'{path} does not exist.') from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f'{path} is no valid JSON: {error}') from error


def save_tensors(path: str | Path, value: Any) -> None:
    """`torch.save`, atomically. `value` holds tensors and plain values only."""
    import torch

    with atomic_writer(path) as file:
        torch.save(value, file)


def load_tensors(path: str | Path, map_location: str = 'cpu') -> Any:
    """`torch.load` that never runs code from the file (`weights_only=True`).

    Raises:
        CheckpointError: if the file is missing, damaged, or holds anything but tensors and plain values.
    """
    import pickle

    import torch

    if not Path(path).is_file():
        raise CheckpointError(f'Checkpoint {path} does not exist.')
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Detected pickle protocol')  # the error below says enough
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text is a page that advises to load it all the same.
        asked = re.search(r'GLOBAL ([\w.]+)', str(error))
        what = f'it asks for {asked[1]}' if asked else 'not a pickle of tensors'
        raise CheckpointError(f'{path} holds more than tensors and plain values, or is damaged ({what}); it was not '
                              'loaded, because doing so could run foreign code.') from error
    # What torch's unpickler raises on bytes that are no checkpoint at all.
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, AttributeError, TypeError, AssertionError,
            struct.error) as error:
        raise CheckpointError(f'{path} is damaged or no checkpoint: {type(error).__name__}: {error}') from error


def inside(root: str | Path, relative: str | Path) -> Path:
    """`root / relative`, refused if that is outside `root`.

    Raises:
        DataError: if `relative` is absolute or climbs out of `root`.
    """
    # Absolute, because every relative path counts as below '.'; not resolved, because data may be linked.
    path = Path(os.path.abspath(Path(root) / relative))  # noqa: PTH100
    if not path.is_relative_to(os.path.abspath(root)):  # noqa: PTH100
        raise DataError(f"'{relative}' lies outside {root}; paths in data files must stay below their root.")
    return path
