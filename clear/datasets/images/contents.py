"""The bytes of an image, wherever it lies: in a file of its own, or between others in a shard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.datasets.columns import PARTS, packed, plain_text, unpacked
from clear.datasets.fingerprints import file_sizes
from clear.datasets.images.decode import file_below, read_file
from clear.datasets.shards.files import ShardFiles


class ImageContents:
    """The contents of the images of a table, below one root.

    Args:
        root: what paths and shards are relative to; none may leave it.
        parts: `shard`, `offset` and `bytes` of every image, as in `ImageTable`; of those without a shard the path is a
            file. None = of all.
    """

    def __init__(self, root: str | Path, parts: pyarrow.Table | None = None):
        self.root = Path(root)
        self._parts = parts
        self._columns = [] if parts is None else [parts[name] for name in PARTS]
        self._shards = ShardFiles(self.root)

    def __getstate__(self) -> dict[str, object]:
        return dict(root=self.root, parts=None if self._parts is None else packed(self._parts))

    def __setstate__(self, state: dict) -> None:
        self.__init__(state['root'], None if state['parts'] is None else unpacked(state['parts']))

    def read(self, row: int, path: str) -> bytes:
        """The content of the image of a row, which is called `path`. Threads may share it.

        Raises:
            UnreadableImage: with the reason.
            DataError: if it lies outside the root.
        """
        part = self._part(row)
        return read_file(file_below(self.root, path)) if part is None else self._shards.read(*part)

    def sizes(self, paths: Iterable[str]) -> Sequence[int] | np.ndarray:
        """Bytes of each image, in order; -1 where there is no file. Shards are taken at their word."""
        if self._parts is None:
            return file_sizes(self.root, paths)
        sizes = self._parts['bytes'].fill_null(-1).to_numpy()
        alone = self._parts['shard'].is_null().to_numpy()
        if not alone.any():
            return sizes
        sizes = sizes.copy()
        sizes[alone] = file_sizes(self.root, (path for path, is_file in zip(paths, alone) if is_file))
        return sizes

    def expect(self, rows: Iterable[int]) -> None:
        """Have images brought into memory while something else is done: all of a batch at once, not one by one."""
        for part in map(self._part, map(int, rows)):
            if part is not None:
                self._shards.expect(*part)

    def places(self, paths: Iterable[str]) -> list[str]:
        """Where each image lies, as text: different for different places."""
        if self._parts is None:
            return [str(path) for path in paths]
        texts = [column.cast(pyarrow.string()) for column in self._columns]
        ends = compute.binary_join_element_wise(*texts, '\0').to_pylist()
        return [path if end is None else f'{path}\0{end}' for path, end in zip(paths, ends)]

    def _part(self, row: int) -> tuple[str, int, int] | None:
        if not self._columns:
            return None
        shard, offset, size = (column[row].as_py() for column in self._columns)
        return None if shard is None else (plain_text(shard), offset, size)
