"""Features as the earlier curation stored them, a bucket's in one folder.

::

    BUCKET/features_<MODEL>.json                         [[records of shard 0, ...], [{original, normalized}, ...]]
    BUCKET/features_<MODEL>.pickle                       the same of the first generation
    BUCKET/features_<MODEL>/features_<i>_original.npy    (n, D) as the model gave them, float16 or float32
    BUCKET/features_<MODEL>/features_<i>_normalized.npy  (n, D) float32, of length 1
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from clear.core.errors import ConfigError, DataError
from clear.core.files import regular_file
from clear.curation.legacy.pickles import read_pickle
from clear.curation.legacy.sources import Record
from clear.curation.legacy.streaming import JsonStream

SUFFIXES = ('.json', '.pickle')
KINDS = ('original', 'normalized')
_INDEX = re.compile(r'features_(.+)')
_MAGIC = b'\x93NUMPY'
_BLOCK = 1 << 16


@dataclass(frozen=True)
class OldShard:
    """The features of up to half a million images; a kind that is not there is None.

    Attributes:
        original: (n, D) float16 or float32, mapped.
        normalized: (n, D) float32, mapped.
    """

    original: np.ndarray | None
    normalized: np.ndarray | None

    @property
    def raw(self) -> np.ndarray:
        """What is imported: the original, or where only that was kept, the normalised."""
        return self.normalized if self.original is None else self.original

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows (B, D) float32, which of them are features (B,) bool), one block after the other.

        A row of zeros, or with a number that is not finite, is of an image that could not be encoded.

        Raises:
            DataError: if both kinds are there and are not of the same images.
        """
        for start in range(0, len(self.raw), _BLOCK):
            rows = np.asarray(self.raw[start:start + _BLOCK], np.float32)
            valid = np.isfinite(rows).all(axis=1) & rows.any(axis=1)
            rows = np.where(valid[:, None], rows, np.float32(0))
            if self.original is not None and self.normalized is not None:
                lengths = np.linalg.norm(rows, axis=1, keepdims=True)
                stored = np.asarray(self.normalized[start:start + _BLOCK])[valid]
                # Half precision, in which some were divided, has three digits.
                if not np.allclose(rows[valid] / lengths[valid], stored, atol=2e-3):
                    raise DataError(f'original and normalized features from row {start} on are of other images.')
            yield rows, valid


@dataclass(frozen=True)
class OldFeatures:
    """Features of a bucket by one model.

    Attributes:
        index: the file that lists the records.
        model: as CLIP calls it, `ViT-B/32`; its files have `ViT-B_32`.
    """

    index: Path

    @property
    def model(self) -> str:
        return re.sub(r'^(ViT-\w)_', r'\1/', self.index.stem.removeprefix('features_'))

    @property
    def folder(self) -> Path:
        return self.index.with_suffix('')

    @cached_property
    def shards(self) -> list[OldShard]:
        """All shards, opened.

        Raises:
            DataError: if one is missing or damaged, or they do not go together.
        """
        count = 0
        while any(self._file(count, kind).exists() for kind in KINDS):
            count += 1
        found = [OldShard(*(self._array(number, kind) for kind in KINDS)) for number in range(count)]
        beyond = [path.name for path in self.folder.glob('features_*_*.npy')
                  if int(path.stem.split('_')[1]) >= count] if self.folder.is_dir() else []
        if not found or beyond:
            raise DataError(f'{self._file(count, KINDS[0])} is not there{f", but {min(beyond)} is" if beyond else ""}.')
        for number, shard in enumerate(found):
            shapes = {array.shape for array in (shard.original, shard.normalized) if array is not None}
            if len(shapes) > 1 or shard.raw.shape[1] != found[0].raw.shape[1] or shard.raw.dtype != found[0].raw.dtype:
                raise DataError(f'{self.folder}: the arrays of shard {number} do not fit each other, or shard 0.')
        return found

    def lists(self) -> Iterator[Iterator[Record]]:
        """Of each shard the records, in the order of its rows; each is to be gone through before the next.

        Raises:
            DataError: here or later, if the index is damaged, or lists more or fewer shards than there are.
        """
        count = 0
        for count, records in enumerate(self._lists(), start=1):
            if count > len(self.shards):
                break
            yield self._checked(records, count - 1)
        if count != len(self.shards):
            raise DataError(f'{self.index} lists {"more" if count > len(self.shards) else count} shards; {self.folder} '
                            f'has {len(self.shards)}.')

    def _checked(self, records: Iterator[object], shard: int) -> Iterator[Record]:
        for record in records:
            if not isinstance(record, Mapping) or not isinstance(record.get('ID'), (str, int)):
                raise DataError(f'{self.index}: a record of shard {shard} has no ID.')
            yield record

    def _lists(self) -> Iterator[Iterator[object]]:
        if self.index.suffix == '.pickle':
            content = read_pickle(self.index)
            lists = content[0] if isinstance(content, list) and content else None
            if not isinstance(lists, list) or not all(isinstance(each, list) for each in lists):
                raise self._wrong()
            yield from map(iter, lists)
            return
        with JsonStream(self.index) as stream:
            for place, _ in enumerate(stream.elements()):
                if stream.peek() != '[':
                    raise self._wrong()
                if place:
                    stream.skip()  # where the arrays were
                    continue
                for _ in stream.elements():
                    if stream.peek() != '[':
                        raise self._wrong()
                    yield (stream.value() for _ in stream.elements())
            stream.end()

    def _wrong(self) -> DataError:
        return DataError(f'{self.index} is no index of features: expected [[records of a shard, ...], [...]].')

    def _file(self, shard: int, kind: str) -> Path:
        return self.folder / array_name(shard, kind)

    def _array(self, shard: int, kind: str) -> np.ndarray | None:
        path = self._file(shard, kind)
        if not path.exists():
            return None
        try:
            with regular_file(path).open('rb') as file:
                if file.read(len(_MAGIC)) != _MAGIC:  # np.load also takes archives of arrays
                    raise DataError(f'{path} is damaged or no .npy file.')
            array = np.load(path, mmap_mode='r', allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError) as error:
            raise error if isinstance(error, DataError) else DataError(f'{path} is damaged: {error}') from error
        kinds = ('float16', 'float32') if kind == 'original' else ('float32',)
        if array.ndim != 2 or array.dtype.name not in kinds or not array.size:
            raise DataError(f'{path} holds {array.dtype} of shape {array.shape}; expected {" or ".join(kinds)} of '
                            'shape (images, numbers).')
        return array


def find_features(folder: str | Path, model: str | None = None) -> OldFeatures:
    """The features in a bucket's folder; JSON is taken before the first generation's pickle.

    Args:
        model: as CLIP calls it (`ViT-B/32`), or as the files do; None if there is one only.

    Raises:
        ConfigError: if there are several and none is named.
        DataError: if there is none.
    """
    folder = Path(folder)
    names = sorted({match[1] for suffix in SUFFIXES for path in folder.glob(f'features_*{suffix}')
                    if (match := _INDEX.fullmatch(path.stem))})
    wanted = names if model is None else [name for name in names if name == file_name(model)]
    if len(wanted) != 1:
        said = f'of {model}' if model else 'of one model'
        kind = ConfigError if len(wanted) > 1 else DataError
        raise kind(f'{folder}: expected features {said} (features_<MODEL>.json or .pickle), found '
                   f'{", ".join(names) or "none"}.')
    return next(OldFeatures(path) for suffix in SUFFIXES
                if (path := folder / f'features_{wanted[0]}{suffix}').exists())


def array_name(shard: int, kind: str) -> str:
    """What the file of a shard is called."""
    return f'features_{shard}_{kind}.npy'


def file_name(model: str) -> str:
    """A model's name in names of files."""
    return model.replace('/', '_')


def cuts(count: int, most: int) -> list[range]:
    """Rows of near-equal shards: as few as can hold them, the first of which have one row more.

    Args:
        most: rows of a shard.
    """
    shards = -(-count // most)
    sizes = [count // shards + (shard < count % shards) for shard in range(shards)]
    ends: Sequence[int] = np.cumsum([0, *sizes]).tolist()
    return [range(*pair) for pair in zip(ends, ends[1:])]
