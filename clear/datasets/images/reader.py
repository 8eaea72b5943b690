"""Images by row: decoded, or found in a cache; one that cannot be read is remembered and reported, others stand in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import pyarrow

from clear.datasets.images.cache import DiskCache, RamCache, SharedPlanes, check_cache
from clear.datasets.images.contents import ImageContents
from clear.datasets.images.decode import UnreadableImage

Sample = TypeVar('Sample')


class Decoder(Protocol):
    """Makes uint8 pixels of the content of a file, or raises `UnreadableImage`.

    Attributes:
        shape: (3, H, W) of the planes of every image, where all have one; None for (H, W, 3) of any size.
    """

    shape: tuple[int, int, int] | None

    def __call__(self, content: bytes) -> np.ndarray: ...

    def settings(self) -> dict:
        """Plain values: what the pixels depend on besides the file."""


class RowReader(Generic[Sample]):
    """`reader[row]` is a sample, or raises `UnreadableImage`; `find` and `first` remember and report bad ones.

    Args:
        report: called with (row, reason) each time that a bad sample is asked for.

    Attributes:
        bad: {row: reason} of the samples that could not be read so far, in this process; none is tried again.
    """

    def __init__(self, report: Callable[[int, str], None] | None = None):
        self.bad: dict[int, str] = {}
        self._report = report

    def __getitem__(self, row: int) -> Sample:
        raise NotImplementedError

    def find(self, row: int) -> Sample | None:
        """The sample, or None after reporting it as bad."""
        if row not in self.bad:
            try:
                return self[row]
            except UnreadableImage as error:
                self.bad[row] = str(error)
        if self._report is not None:
            self._report(row, self.bad[row])
        return None

    def first(self, rows: Iterable[int]) -> Sample | None:
        """The first of `rows` that can be read, to stand in for a bad one; those before it are reported.

        Which rows may stand in, and in which order, is for the data set to say. None if none of them can be read.
        """
        return next((sample for sample in map(self.find, rows) if sample is not None), None)


class ImageReader(RowReader[np.ndarray]):
    """`reader[row]` is the pixels of an image as its decoder makes them; lent, so do not write to them.

    Args:
        root: what `paths` are relative to; none may leave it.
        parts: where images lie that are in shards, see `ImageContents`; None = all are files.
        cache: None decodes every time. 'ram' keeps pixels in memory: those of one shape in memory that forked loader
            workers share, so that what one has decoded, all have; others in each process for itself. 'disk' keeps
            them in files below `cache_dir`, for all processes and later runs.
        report: as for `RowReader`.

    Raises:
        ConfigError: if `cache` is unknown, asks for more memory than there is, or one of `cache='disk'` and
            `cache_dir` lacks the other.
        DataError: from reading, if a path leaves `root` or `cache_dir` cannot be written.
    """

    def __init__(self, root: str | Path, paths: Sequence[str], decoder: Decoder, *,
                 parts: pyarrow.Table | None = None, cache: str | None = None, cache_dir: str | Path | None = None,
                 report: Callable[[int, str], None] | None = None):
        check_cache(cache, cache_dir)
        super().__init__(report)
        self.paths = paths
        self.contents = ImageContents(root, parts)
        self.decoder = decoder
        self.cache = cache
        self._ram: RamCache | SharedPlanes | None = None
        self._disk: DiskCache | None = None
        if cache == 'ram':
            self._ram = RamCache() if decoder.shape is None else SharedPlanes(len(paths), decoder.shape)
        elif cache == 'disk':
            self._disk = DiskCache(cache_dir, root, paths, self._rows_of_pixels, parts=parts,
                                   settings=decoder.settings())

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        """The pixels.

        Raises:
            UnreadableImage: with the reason.
        """
        if self._ram is None:
            return self.read(row)
        found = self._ram[row]
        return self._ram.put(row, self.read(row)) if found is None else found

    def read(self, row: int) -> np.ndarray:
        """As `reader[row]`, but nothing is kept in memory. Without a disk cache any thread may call it.

        Raises:
            UnreadableImage: with the reason.
        """
        if self._disk is None:
            return self.decoder(self.contents.read(row, self.paths[row]))
        pixels = self._disk[row]
        return pixels if self.decoder.shape is None else pixels.reshape(self.decoder.shape)

    def _rows_of_pixels(self, content: bytes) -> np.ndarray:
        """Planes in the shape that the disk cache stores, (H, W, 3); reading them back moves no byte."""
        pixels, shape = self.decoder(content), self.decoder.shape
        return pixels if shape is None else pixels.reshape(*shape[1:], 3)
