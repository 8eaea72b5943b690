"""The bytes of shards."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from clear.datasets.images.decode import MAX_BYTES, UnreadableImage

_MOST_OPEN = 16


class _Open:
    """A file that is open until nobody reads it any more."""

    def __init__(self, path: Path):
        self.number = os.open(path, os.O_RDONLY)

    def __del__(self):
        if hasattr(self, 'number'):
            os.close(self.number)


class ShardFiles:
    """Parts of files, of which a few stay open. Threads may share it, and processes that are forked."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = list(paths)
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def __reduce__(self) -> tuple:
        return ShardFiles, (self.paths,)

    def read(self, shard: int, offset: int, size: int) -> bytes:
        """The bytes of a part.

        Raises:
            UnreadableImage: if the file is not there, or shorter than it was.
        """
        if size > MAX_BYTES:
            raise UnreadableImage(f'{size} bytes, more than {MAX_BYTES}')
        try:
            content = os.pread(self._opened(shard).number, size, offset)
        except OSError as error:
            raise UnreadableImage(f'{self.paths[shard].name}: {error.strerror}') from error
        if len(content) < size:
            raise UnreadableImage(f'{self.paths[shard].name} is shorter than its index says')
        return content

    def expect(self, shard: int, offset: int, size: int) -> None:
        """Have a part brought into memory while something else is done, if the system can."""
        if hasattr(os, 'posix_fadvise'):
            try:
                os.posix_fadvise(self._opened(shard).number, offset, size, os.POSIX_FADV_WILLNEED)
            except OSError:
                return  # whoever reads it says what is wrong

    def _opened(self, shard: int) -> _Open:
        found = self._open.get(shard)
        if found is None:
            found = self._open[shard] = _Open(self.paths[shard])
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return found
