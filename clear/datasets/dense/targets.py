"""Images with a target for every pixel, as a table, and what such a target is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import regular_file
from clear.datasets.dense.raster import Raster, read_raster
from clear.datasets.fingerprints import file_sizes
from clear.datasets.images.decode import UnreadableImage, file_below, read_file
from clear.datasets.table import ImageTable

VOID = 255
TARGET_KINDS = ('classes', 'mask', 'depth', 'edges', 'flow', 'luminance', 'image')


@dataclass(frozen=True, eq=False)
class Target:
    """What an image should be turned into, pixel by pixel.

    | kind        | values                                                                       |
    |-------------|------------------------------------------------------------------------------|
    | `classes`   | (H, W) uint8, ids from 0 on, `VOID` where none is known                      |
    | `mask`      | (H, W) uint8, 0 or 1                                                         |
    | `depth`     | (H, W) float32, metres                                                       |
    | `edges`     | (H, W) float32                                                               |
    | `flow`      | (H, W, 2) float32: (u, v), pixels to the right and down                      |
    | `luminance` | (H, W) float32, 0 ... 1; 0 where none is known                               |
    | `image`     | (H, W, 3) uint8: the image itself                                            |

    Attributes:
        valid: (H, W) bool: which pixels count, in training and in every metric.
    """

    values: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True)
class TargetDecoder(ABC):
    """Makes a target of the content of a file, after it has looked whether the file can hold such a target."""

    expects: ClassVar[str]

    def __call__(self, content: bytes) -> Target:
        """The target.

        Raises:
            DataError: if the file has other pixels than it should, or values that are none.
            UnreadableImage: if it is no image, or a damaged one.
        """
        raster = read_raster(content)
        self.check(raster)
        return self.decode(content, raster)

    def check(self, raster: Raster) -> None:
        """Refuse a file by its header.

        Raises:
            DataError: saying what it holds and what it should.
        """
        if not self.accepts(raster):
            raise DataError(f'{raster}, where {self.expects} is expected.')

    @abstractmethod
    def accepts(self, raster: Raster) -> bool:
        """Whether a file with this header can hold the target."""

    @abstractmethod
    def decode(self, content: bytes, raster: Raster) -> Target:
        """The target of a file that was accepted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseTable(ImageTable):
    """Images whose column `mask` names the file of a target for every pixel; null where a row has none of its own.

    Of images that belong together (column `clip`) the first has the target of all.

    Attributes:
        target_kind: one of `TARGET_KINDS`.
        decode: makes a target of a file's content: a `TargetDecoder`, or any function that can be pickled.
        target_names: of `classes`, the name of each.

    Raises:
        ConfigError: for another kind.
        DataError: as `ImageTable` does, or if there is no column `mask`, or classes have no names.
    """

    target_kind: str
    decode: Callable[[bytes], Target]
    target_names: Sequence[str] = ()

    def __post_init__(self):
        super().__post_init__()
        check_choice('target_kind', self.target_kind, TARGET_KINDS)
        self['mask']  # a DataError if there is none
        if bool(self.target_names) != (self.target_kind == 'classes'):
            raise DataError(f"{self.root}: targets of kind '{self.target_kind}' with {len(self.target_names)} names of "
                            'classes; classes need names, and they alone.')

    def target_file(self, row: int) -> str:
        """Where the target of a row lies.

        Raises:
            DataError: if it has none, or that would leave the root.
        """
        path = self.text('mask', row)
        if path is None:
            raise DataError(f"{self.root}: '{self.text('path', row)}' has no target of its own; of images that belong "
                            'together the first has it.')
        return file_below(self.root, path)

    def read_target(self, row: int, size: tuple[int, int] | None = None) -> Target:
        """The target of a row.

        Args:
            size: (height, width) of the image, which must be that of the target.

        Raises:
            DataError: naming the file, if it holds no such target, is of another size, or lies outside the root.
            UnreadableImage: naming the file, if it is missing or damaged.
        """
        file = self.target_file(row)
        try:
            target = self.decode(read_file(file))
        except UnreadableImage as error:
            raise UnreadableImage(f'{file}: {error}') from error
        except DataError as error:
            raise DataError(f'{file}: {error}') from error
        if size is not None and target.valid.shape != tuple(size):
            raise DataError(f'{file}: {_other_size(target.valid.shape[::-1], self.text("path", row), size[::-1])}')
        return target

    def fingerprint(self) -> str:
        """As of any table; and the kind of targets, how they are decoded, their names, and the sizes of their files."""
        paths = self.texts('mask')
        decode = repr(self.decode) if isinstance(self.decode, TargetDecoder) else \
            f'{self.decode.__module__}.{self.decode.__qualname__}'
        clips = self.texts('clip') if 'clip' in self else None
        sizes = file_sizes(self.root, (path or '' for path in paths))
        parts = [super().fingerprint(), self.target_kind, decode, list(self.target_names), paths, sizes, clips]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_targets(table: DenseTable, limit: int = 16) -> None:
    """Look at all targets before anything is trained: by their headers at type and size, at some in full.

    Images that cannot be read are left to those who read them.

    Args:
        limit: how many targets, spread evenly, are decoded as well.

    Raises:
        DataError: naming the first target that is missing, damaged, of another size than its image or that holds
            anything else, with the reason and the number of such targets.
    """
    rows = [row for row, path in enumerate(table.texts('mask')) if path is not None]
    wrong = list(_wrong_headers(table, rows))
    if not wrong and rows:
        some = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
        wrong = list(_wrong_contents(table, [rows[place] for place in some]))
    if wrong:
        count = f' So {len(wrong) - 1} more of {len(rows)} targets.' if len(wrong) > 1 else ''
        raise DataError(f'{wrong[0]}{count}')


def _wrong_headers(table: DenseTable, rows: list[int]) -> Iterator[str]:
    for row in rows:
        file = table.target_file(row)
        try:
            raster = _header(file)
            if isinstance(table.decode, TargetDecoder):
                table.decode.check(raster)
        except (UnreadableImage, DataError) as error:
            yield f'{file}: {error}'
            continue
        path = table.text('path', row)
        try:
            image = _header(file_below(table.root, path))
        except UnreadableImage:
            continue
        found, expected = (raster.width, raster.height), (image.width, image.height)
        if found != expected:
            yield f'{file}: {_other_size(found, path, expected)}'


def _wrong_contents(table: DenseTable, rows: list[int]) -> Iterator[str]:
    for row in rows:
        try:
            table.read_target(row)
        except (UnreadableImage, DataError) as error:
            yield str(error)


def _header(file: str) -> Raster:
    try:
        path = regular_file(file)
    except DataError as error:
        raise UnreadableImage(str(error).removeprefix(f'{file} ')) from error
    with path.open('rb') as stream:
        return read_raster(stream)


def _other_size(found: Sequence[int], path: str, expected: Sequence[int]) -> str:
    return f"{found[0]} x {found[1]} pixels, where its image '{path}' has {expected[0]} x {expected[1]}."
