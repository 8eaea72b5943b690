"""The bytes of shards."""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from pathlib import Path

from clear.datasets.images.decode import MAX_BYTES, NOT_THE_FILE, UnreadableImage, file_below

_MOST_OPEN = 64


class _Open:
    """A file that is open until nobody reads it any more."""

    def __init__(self, path: str):
        # A pipe would keep its opener waiting for a writer.
        self.number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self.number).st_mode):
            raise UnreadableImage('the shard is not a regular file')

    def __del__(self):
        if hasattr(self, 'number'):
            os.close(self.number)


class ShardFiles:
    """Parts of files below a root, of which a few stay open. Threads may share it, and processes that are forked."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._open: OrderedDict[str, _Open] = OrderedDict()

    def __reduce__(self) -> tuple:
        return ShardFiles, (self.root,)

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """The bytes of a part.

        Raises:
            UnreadableImage: if the file is not there, or shorter than it was.
            DataError: if the shard's path leaves the root.
        """
        if size > MAX_BYTES:
            raise UnreadableImage(f'{size} bytes, more than {MAX_BYTES}')
        try:
            content = os.pread(self._opened(shard).number, size, offset)
        except OSError as error:
            if error.errno in NOT_THE_FILE:
                raise
            raise UnreadableImage(f'{shard}: {error.strerror}') from error
        except ValueError as error:  # a NUL, or half a surrogate pair: no file can be called so
            raise UnreadableImage('the shard is missing') from error
        if len(content) < size:
            raise UnreadableImage(f'{shard} is shorter than its index says')
        return content

    def expect(self, shard: str, offset: int, size: int) -> None:
        """Have a part brought into memory while something else is done, if the system can."""
        if hasattr(os, 'posix_fadvise'):
            try:
                os.posix_fadvise(self._opened(shard).number, offset, size, os.POSIX_FADV_WILLNEED)
            except (OSError, ValueError, UnreadableImage):
                return  # whoever reads it says what is wrong

    def _opened(self, shard: str) -> _Open:
        found = self._open.get(shard)
        if found is None:
            found = self._open[shard] = _Open(file_below(self.root, shard))
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return found
