"""The one door for files: text and JSON are read here, and what is written is whole or absent."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import IO, Any

from clear.core.errors import NO_ROOM, CheckpointError, DataError, unwritable

# A text or JSON file is read whole. CLEAR-100's largest holds some 50 MB; a list of ten million images 1 GB.
MAX_TEXT_BYTES = 2 << 30


@contextmanager
def atomic_writer(path: str | Path, mode: str = 'wb') -> Iterator[IO]:
    """Open a temporary file beside `path` and rename it to `path` if the block ends without an error.

    Raises:
        WriteError: if the system refuses a file there: no room, a limit, a folder that is read-only; or a folder is.
    """
    path = Path(path)
    if path.is_dir():
        raise unwritable(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.', suffix='.tmp')
    except OSError as error:
        raise unwritable(path, error) from error
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
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise unwritable(path, error) from error
        raise


def remove_left_overs(folder: Path, names: Iterable[str]) -> None:
    """Remove what writers that were killed left of files of these names or patterns. No other may be writing."""
    for path in folder.glob('.*.tmp'):
        if any(fnmatch(path.name, f'.{name}{random}.tmp') for name in names for random in ('', '.????????')):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_writer(path, 'w') as file:
        file.write(text)


def write_csv(path: str | Path, rows: Iterable[Iterable[object]]) -> Path:
    """Write rows as CSV, atomically, with lines that end in LF; None is an empty cell. Its path."""
    with atomic_writer(path, 'w') as file:
        csv.writer(file, lineterminator='\n').writerows(rows)
    return Path(path)


def write_new(path: str | Path, text: str) -> None:
    """Write `text` to `path`, which must not be there yet.

    Raises:
        DataError: if it is.
        WriteError: as `atomic_writer`.
    """
    if Path(path).exists():
        raise DataError(f'{path} is there already, and nothing was written: name another file.')
    write_text(path, text)


def write_json(path: str | Path, value: object) -> None:
    """Write JSON with sorted structure kept as given; NaN and infinity are refused (JSON has none)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + '\n')


def regular_file(path: str | Path) -> Path:
    """`path` itself, if it is a regular file. Folders, pipes and devices are not opened: they may never end.

    Raises:
        DataError: if there is no such file, or it is no regular one.
    """
    try:
        if stat.S_ISREG(Path(path).stat().st_mode):
            return Path(path)
    except FileNotFoundError as error:
        raise DataError(f'{path} does not exist.') from error
    except (OSError, ValueError) as error:  # ValueError: NUL or half a surrogate pair
        raise DataError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}.') from error
    raise DataError(f'{path} is not a regular file.')


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a regular file, as lower-case hex."""
    with regular_file(path).open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def require_space(folder: str | Path, needed_bytes: int, purpose: str) -> None:
    """Raise a DataError if the disk of `folder` has less room than `needed_bytes`."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DataError(f'{purpose} needs {needed_bytes / 2**30:.1f} GiB, but the disk of {folder} has only '
                        f'{free / 2**30:.1f} GiB left.')


def read_bytes(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        DataError: as `regular_file`, or if it holds more than `max_bytes` or cannot be read.
    """
    try:
        size = regular_file(path).stat().st_size
        if size > max_bytes:
            raise DataError(f'{path} holds {size:,} bytes; at most {max_bytes:,} are read.')
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error.strerror or error}.') from error


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """The text of a regular file in UTF-8, without a byte-order mark and with `\\n` for every end of line.

    Raises:
        DataError: as `read_bytes`, or naming the line that is no UTF-8.
    """
    content = read_bytes(path, max_bytes)
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise DataError(f'{path}:{line}: not text in UTF-8 (byte {error.object[error.start]:#04x}).') from error
    return text.replace('\r\n', '\n').replace('\r', '\n') if '\r' in text else text


def parse_json(text: str | bytes, source: str | Path) -> Any:
    """The value of a JSON text, as bytes in UTF-8.

    Args:
        source: what to call it in a message: the file, and the line where it is one of several.

    Raises:
        DataError: if it is no JSON, is nested too deep to be read, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise DataError(f'{source} is no valid JSON for us: it is nested too deep.') from error
    except ValueError as error:  # JSONDecodeError is one
        raise DataError(f'{source} is no valid JSON: {error}') from error


def read_json(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, max_bytes), path)


def save_tensors(path: str | Path, value: object) -> None:
    """`torch.save`, atomically. `value` holds tensors and plain values only."""
    import torch

    with atomic_writer(path) as file:
        noting = _NotingWriter(file)
        try:
            torch.save(value, noting)
        except RuntimeError as error:
            if noting.error is None:
                raise
            raise noting.error from error


class _NotingWriter:
    """A file that remembers why it could not be written: torch reports another error in its place."""

    def __init__(self, file: IO):
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def load_tensors(path: str | Path, map_location: str = 'cpu') -> Any:
    """The content of a torch file or a `.safetensors`; nothing in it is run (`weights_only=True`).

    A torch file's checksums are compared while it is read. Arguments, paths and numpy's numbers in checkpoints of other
    libraries come as records that do nothing (`tensor_files.AS_RECORDS`).

    Raises:
        CheckpointError: if the file is missing or no regular one, is damaged, holds itself, holds anything but ordinary
            tensors, plain values and those records, or stands for far more than its size.
    """
    import pickle

    from clear.core.storage.tensor_files import read_safetensors, read_torch_file

    try:
        path = regular_file(path)
    except DataError as error:
        raise CheckpointError(f'Checkpoint {error}') from error
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Detected pickle protocol')  # the error below says enough
            return read_safetensors(path) if path.suffix == '.safetensors' else read_torch_file(path, map_location)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        # torch's own text is a page that advises to load it all the same.
        asked = re.search(r'GLOBAL ([\w.]+)', str(error))
        what = f'it asks for {asked[1]}' if asked else 'not a pickle of tensors'
        raise CheckpointError(f'{path} holds more than tensors and plain values, or is damaged ({what}); it was not '
                              'loaded, because doing so could run foreign code. Of a whole model, save its '
                              'state_dict().') from error
    # What torch's unpickler raises on bytes that are no checkpoint at all.
    except (RuntimeError, EOFError, ValueError, OSError, LookupError, AttributeError, TypeError, AssertionError,
            OverflowError, MemoryError, struct.error, zipfile.BadZipFile) as error:
        if 'TorchScript' in str(error):  # torch's own text, here too, advises to load it all the same
            raise CheckpointError(f'{path} is a program of TorchScript (as OpenAI publishes CLIP); it was not loaded, '
                                  'because doing so runs it. Where you trust it, load it with torch.jit.load and save '
                                  'its state_dict().') from error
        raise CheckpointError(f'{path} is damaged or no checkpoint: {type(error).__name__}: {error}') from error


def inside(root: str | Path, relative: str | Path) -> Path:
    """`root / relative`, refused if that is outside `root`.

    Raises:
        DataError: if `relative` is no text that can be a path, is absolute, or climbs out of `root`.
    """
    if not isinstance(relative, (str, Path)) or '\0' in str(relative):
        raise DataError(f'expected a path below {root}, found {relative!r}.')
    # Absolute, because every relative path counts as below '.'; not resolved, because data may be linked.
    path = Path(os.path.abspath(Path(root) / relative))  # noqa: PTH100
    if not path.is_relative_to(os.path.abspath(root)):  # noqa: PTH100
        raise DataError(f"'{relative}' lies outside {root}; paths in data files must stay below their root.")
    return path
