"""Decoded images kept for the next pass: in memory, or in files that processes and runs share."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow
import torch

from clear.core.errors import ConfigError, DataError
from clear.core.files import atomic_writer, parse_json
from clear.datasets.images.contents import ImageContents
from clear.datasets.images.decode import UnreadableImage

if TYPE_CHECKING:
    from clear.core.types import Plain

CACHES = (None, 'ram', 'disk')
FORMAT = 1
ROWS_PER_SHARD = 256

# The end of a shard: length of its index, then this.
_TAIL = struct.Struct('<Q8s')
_MAGIC = b'clrshrd1'
_BLOCK_BYTES = 64 * 2**20
# What a folder that cannot be written raises.
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)

Decode = Callable[[bytes], np.ndarray]


class RamCache:
    """Images in memory: `cache[row]` is the array that was put there, or None.

    They lie one after another in blocks of 64 MiB: 3 bytes per pixel, a CLEAR-10 bucket (2310 images of 341 x 256)
    takes 0.6 GB. Blocks are used again for nothing else, so an image never moves. A copy sent to another process
    starts empty: filling it there costs less than sending gigabytes.
    """

    def __init__(self):
        self._rows: dict[int, np.ndarray] = {}
        self._block = np.empty(0, np.uint8)
        self._used = 0
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> np.ndarray | None:
        return self._rows.get(row)

    def put(self, row: int, image: np.ndarray) -> np.ndarray:
        """Keep a copy of (H, W, 3) uint8 and return it."""
        if self._used + image.size > len(self._block):
            self._block = np.empty(max(_BLOCK_BYTES, image.size), np.uint8)
            self.num_bytes += len(self._block)
            self._used = 0
        place = self._block[self._used:self._used + image.size].reshape(image.shape)
        place[:] = image
        self._used += image.size
        self._rows[row] = place
        return place

    def __getstate__(self) -> dict:
        return RamCache().__dict__


class SharedPlanes:
    """N images of one shape in memory that a process shares with those it forks; pages are taken when they are written.

    `cache[row]` is the array, or None where nothing was put yet. A copy sent to another process starts empty.

    Args:
        shape: (3, H, W).

    Raises:
        ConfigError: if there is not enough memory.
    """

    def __init__(self, count: int, shape: tuple[int, int, int]):
        self._count, self._shape = count, shape
        num_bytes = count * math.prod(shape)
        try:
            # Anonymous memory in place of torch's shared tensors: those take all of it at once, from /dev/shm, which
            # is 64 MB in a container.
            self._pixels = np.frombuffer(mmap.mmap(-1, num_bytes), np.uint8).reshape(count, *shape)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
            raise ConfigError(f"cache='ram' needs {num_bytes / 2**30:.1f} GiB for {count} images of {shape[1]} x "
                              f"{shape[2]} pixels, more than there is. Use cache='disk' or None, or a smaller "
                              'image_size.') from error
        self._is_there = np.frombuffer(mmap.mmap(-1, count), np.bool_)

    def __getitem__(self, row: int) -> np.ndarray | None:
        return self._pixels[row] if self._is_there[row] else None

    def put(self, row: int, planes: np.ndarray) -> np.ndarray:
        """Keep a copy of (3, H, W) uint8 and return it. Two processes that put one row at once write the same bytes."""
        self._pixels[row] = planes
        self._is_there[row] = True  # last, so that nobody takes a half for the whole
        return self._pixels[row]

    def __getstate__(self) -> dict:
        return {'count': self._count, 'shape': self._shape}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


class DiskCache:
    """Images in memory-mapped files, decoded once for all processes and runs: `cache[row]` is (H, W, 3) uint8.

    A folder below `cache_dir` holds shards of 256 rows. Its name follows from the root, where each image lies and the
    settings. A shard is made when one of its rows is first asked for, written to a temporary name, synced and
    renamed: a killed process loses the shard it was at, no more. Processes that need the same one wait for each other.

    A shard stores the SHA-256 of every file it was made from. Each run compares them once, on a shard's first use
    (about a tenth of the time of decoding), and decodes again what has changed. Times of files play no part, so a
    data set that was copied or checked out again stays valid, and no edit goes unseen. Files that cannot be read
    are remembered with the reason and tried again when their content changes.

    Disk space: 3 bytes per pixel, 262 kB for an image of 341 x 256. The arrays are private maps: writing to one
    changes neither the file nor what other processes see.

    Args:
        cache_dir: may be shared by any number of data sets.
        root: what the paths are relative to.
        parts: where images lie that are in shards, see `ImageContents`; None = all are files.
        decode: bytes of a file to (H, W, 3) uint8; raises UnreadableImage.
        settings: plain values; everything else that the pixels depend on.

    Raises:
        DataError: from `cache[row]`, if the folder cannot be written or a path leaves `root`.
    """

    def __init__(self, cache_dir: str | Path, root: str | Path, paths: Sequence[str | Path], decode: Decode, *,
                 settings: dict[str, Plain], rows_per_shard: int = ROWS_PER_SHARD,
                 parts: pyarrow.Table | None = None):
        self.paths = paths
        self.rows_per_shard = rows_per_shard
        self._contents = ImageContents(root, parts)
        key = json.dumps([FORMAT, str(Path(root).resolve()), settings, rows_per_shard, self._contents.places(paths)],
                         sort_keys=True)
        self.folder = Path(cache_dir) / hashlib.sha256(key.encode()).hexdigest()[:32]
        self._decode = decode
        self._shards: dict[int, _Shard] = {}
        num_shards = -(-len(self.paths) // rows_per_shard)
        # In shared memory: what one loader worker has checked, the others and the workers of later epochs trust.
        self._checked = torch.zeros(num_shards, dtype=torch.uint8).share_memory_()

    def __getitem__(self, row: int) -> np.ndarray:
        """The decoded image.

        Raises:
            UnreadableImage: with the reason.
        """
        number, place = divmod(row, self.rows_per_shard)
        if number not in self._shards:
            self._shards[number] = self._ready(number)
        return self._shards[number].image(place)

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_shards': {}}

    def _shard_path(self, number: int) -> Path:
        return self.folder / f'shard-{number:05}.bin'

    def _ready(self, number: int) -> _Shard:
        path = self._shard_path(number)
        shard = _Shard.open(path) if self._checked[number] else None
        if shard is not None:
            return shard
        try:
            with self._lock(number):
                shard = _Shard.open(path)
                if shard is None or not self._is_current(shard, number):
                    self._write(number, shard)
                    shard = _Shard.open(path)
        except OSError as error:
            if error.errno not in _NO_PLACE:
                raise
            raise DataError(f'cache_dir: {path} cannot be written ({error.strerror}). Make room, name another folder, '
                            "or use cache='ram' or None.") from error
        if shard is None:
            raise DataError(f'cache_dir: {path} was written but cannot be read back. Is the disk sound?')
        self._checked[number] = 1
        return shard

    @contextmanager
    def _lock(self, number: int) -> Iterator[None]:
        """Only one process at a time checks or makes a shard. A killed process lets go of it."""
        import fcntl

        self.folder.mkdir(parents=True, exist_ok=True)
        name = self._shard_path(number).name
        with open(self.folder / f'{name}.lock', 'ab') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Under the lock no other process is writing this shard: what lies here is of a killed one.
            for left in self.folder.glob(f'.{name}.*.tmp'):
                left.unlink(missing_ok=True)
            yield

    def _rows_of(self, number: int) -> range:
        start = number * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, len(self.paths)))

    def _read(self, row: int) -> tuple[bytes | None, str | None, str]:
        """The content, its SHA-256 (both None for a file that cannot be read) and the reason."""
        try:
            content = self._contents.read(row, self.paths[row])
        except UnreadableImage as error:
            return None, None, str(error)
        return content, hashlib.sha256(content).hexdigest(), ''

    def _is_current(self, shard: _Shard, number: int) -> bool:
        rows = self._rows_of(number)
        return len(shard.records) == len(rows) and all(
            self._read(row)[1] == record['sha256'] for row, record in zip(rows, shard.records))

    def _write(self, number: int, old: _Shard | None) -> None:
        rows = self._rows_of(number)
        if old is not None and len(old.records) != len(rows):
            old = None
        with atomic_writer(self._shard_path(number)) as file:
            records = [self._write_row(file, row, place, old) for place, row in enumerate(rows)]
            index = json.dumps(records).encode()
            file.write(index)
            file.write(_TAIL.pack(len(index), _MAGIC))

    def _write_row(self, file: IO, row: int, place: int, old: _Shard | None) -> dict[str, int | str | None]:
        content, sha256, reason = self._read(row)
        if content is None:
            return {'sha256': None, 'reason': reason}
        try:
            if old is not None and old.records[place]['sha256'] == sha256:
                image = old.image(place)
            else:
                image = self._decode(content)
        except UnreadableImage as error:
            return {'sha256': sha256, 'reason': str(error)}
        start = file.tell()
        file.write(np.ascontiguousarray(image))
        return {'sha256': sha256, 'start': start, 'height': image.shape[0], 'width': image.shape[1]}


class _Shard:
    """One file: the pixels of its images, an index in JSON, the length of the index and a mark."""

    def __init__(self, pixels: np.ndarray, records: list[dict[str, int | str | None]]):
        self.pixels = pixels
        self.records = records

    @classmethod
    def open(cls, path: Path) -> _Shard | None:
        """None if the file is absent or not a whole shard."""
        try:
            # Mode c: writable pages of our own. torch warns of arrays that are read-only.
            content = np.memmap(path, np.uint8, mode='c')
        except (FileNotFoundError, ValueError):  # ValueError: an empty file
            return None
        content = content.view(np.ndarray)
        end = len(content) - _TAIL.size
        if end < 0:
            return None
        length, magic = _TAIL.unpack(content[end:].tobytes())
        if magic != _MAGIC or length > end:
            return None
        try:
            return cls(content[:end - length], parse_json(content[end - length:end].tobytes(), path))
        except DataError:
            return None

    def image(self, place: int) -> np.ndarray:
        record = self.records[place]
        if 'reason' in record:
            raise UnreadableImage(record['reason'])
        shape = (record['height'], record['width'], 3)
        return self.pixels[record['start']:record['start'] + shape[0] * shape[1] * 3].reshape(shape)


def check_cache(cache: str | None, cache_dir: str | Path | None, where: str = '') -> None:
    """Refuse an unknown `cache`, and one of `cache='disk'` and `cache_dir` without the other.

    Args:
        where: put in front of the names in messages, e.g. 'scenario.'.

    Raises:
        ConfigError: with what to write instead.
    """
    if cache not in CACHES:
        raise ConfigError(f"{where}cache is {cache!r}; expected one of {', '.join(map(repr, CACHES))}.")
    if cache == 'disk' and cache_dir is None:
        raise ConfigError(f"{where}cache is 'disk', but {where}cache_dir is not set: name a folder with room for "
                          '3 bytes per pixel of every image.')
    if cache != 'disk' and cache_dir is not None:
        raise ConfigError(f"{where}cache_dir is set, but {where}cache is {cache!r}; only 'disk' writes there.")
