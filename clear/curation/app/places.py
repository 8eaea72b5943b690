"""What the page shows: banks with the images they are of, the towers that queries go through, and their buckets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow
from pyarrow import compute, parquet

from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, write_json
from clear.curation.download.kept import kept_images
from clear.curation.explore import Ranked, image_vector, ranked, text_vector, values
from clear.curation.images import as_images
from clear.curation.manifest import Finished
from clear.curation.retrieval.tower import TextTower
from clear.datasets.images.decode import UnreadableImage, decode_image, file_below, read_file
from clear.features.bank import FeatureBank

if TYPE_CHECKING:
    from PIL import Image

    from clear.core.types import Options
    from clear.datasets.table import ImageTable
    from clear.models.towers.image.base import ImageEncoder

ALL = 'all buckets'
TITLES = ('title_text', 'page_url')


@dataclass(frozen=True)
class Place:
    """A data set under one encoder.

    Attributes:
        name: what people choose it by.
        banks: folders of feature banks, of one encoder.
        images: folder of the finished stage that made the images; None if they are files below `root`.
        records: folder of the finished stage that made their records, for titles and links; None without.
        root: what the paths of the banks are relative to; None if they cannot be shown.
        text_encoder, image_encoder: configs of the towers of queries; None = no queries of that kind.
        roots: other folders into which links of `root` and `images` may lead.
    """

    name: str
    banks: Sequence[str]
    images: str | None = None
    records: str | None = None
    root: str | None = None
    text_encoder: Options | None = None
    image_encoder: Options | None = None
    roots: Sequence[str] = ()

    @property
    def all_roots(self) -> list[Path]:
        """Below which of the folders an image must lie, links resolved."""
        return [Path(each).resolve() for each in (*self.roots, self.root, self.images) if each is not None]


@dataclass(frozen=True)
class Session:
    """Everything that a page needs to know.

    Attributes:
        places: at least one.
        answers: the file to which verdicts are appended.
        prompts: the file in which prompts are kept.
    """

    places: Sequence[Place]
    answers: str
    prompts: str

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Session:
        found = read_json(path)
        return cls([Place(**each) for each in found['places']], found['answers'], found['prompts'])


class Hit(NamedTuple):
    """An image of a result, with what is known of it.

    Attributes:
        time: of its upload; None if unknown.
        title: as its owner wrote it.
        link: its page, http or https; empty without one.
        image: None where it cannot be read or shown.
    """

    rank: int
    score: float
    id: str
    bucket: str | None
    time: datetime | None
    title: str
    link: str
    image: Image.Image | None


class OpenPlace:
    """A place with its banks mapped and, once they are asked for, its towers.

    Raises:
        DataError: if a bank or a stage is not there.
    """

    def __init__(self, place: Place):
        self.place = place
        self.banks = [FeatureBank.open(path) for path in place.banks]
        self._images = Finished(place.images) if place.images else None
        self._records = Finished(place.records) if place.records else None
        self._codes: list[np.ndarray] = []
        names: dict[str, int] = {}
        for bank in self.banks:
            column = bank.index['bucket'].cast(pyarrow.string()).combine_chunks().dictionary_encode()
            known = np.array([names.setdefault(name, len(names)) for name in column.dictionary.to_pylist()], np.int32)
            codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            self._codes.append(np.where(codes >= 0, known[codes] if len(known) else -1, -1).astype(np.int32))
        self._names = names

    @property
    def buckets(self) -> list[str]:
        """Names of the buckets; those that are numbers by number."""
        return sorted(self._names, key=lambda name: (0, int(name), '') if name.isdigit() else (1, 0, name))

    @cached_property
    def text_tower(self) -> TextTower:
        """Raises ConfigError without a text encoder, DataError where it is none of the bank's model."""
        if self.place.text_encoder is None:
            raise ConfigError(f"'{self.place.name}' has no text_encoder: it takes images only.")
        tower = TextTower(self.place.text_encoder)
        tower.check(self.banks[0])
        return tower

    @cached_property
    def image_tower(self) -> ImageEncoder:
        """Raises ConfigError without an image encoder."""
        from clear.features.build import make_encoder

        if self.place.image_encoder is None:
            raise ConfigError(f"'{self.place.name}' has no image_encoder: it takes texts only.")
        return make_encoder(self.place.image_encoder)

    def of_text(self, text: str, prefix: str = '') -> np.ndarray:
        """(D,) the vector of a text."""
        return text_vector(self.text_tower, text, prefix)

    def of_image(self, content: bytes) -> np.ndarray:
        """(D,) the vector of an image that somebody brings, under the limits of our decoder."""
        return image_vector(self.image_tower, content)

    def search(self, vector: np.ndarray, bucket: str, last: int, first: int = 1) -> Ranked:
        """Ranks `first` to `last` in a bucket, or in `ALL`."""
        masks = None
        if bucket != ALL:
            if bucket not in self._names:
                raise ConfigError(f"there is no bucket '{bucket}'; there are {', '.join(self.buckets)}.")
            masks = [codes == self._names[bucket] for codes in self._codes]
        return ranked(self.banks, vector, last, first, masks=masks)

    def hits(self, found: Ranked) -> list[Hit]:
        """What there is to show of a result: read for these images alone."""
        ids = [str(each) for each in found.ids]
        buckets, times = (values(self.banks, found.rows, name) for name in ('bucket', 'timestamp'))
        paths = values(self.banks, found.rows, 'path')
        pictures, records = self._pictures(ids, paths), self._titles(ids)
        return [Hit(int(found.ranks[place]), float(found.scores[place]), ids[place], buckets[place], times[place],
                    *records.get(ids[place], ('', '')), pictures[place]) for place in range(len(found))]

    def bucket_counts(self, found: Ranked) -> dict[str, int]:
        """Bucket -> how many of a result are in it, empty ones too."""
        names = values(self.banks, found.rows, 'bucket')
        return {bucket: names.count(bucket) for bucket in self.buckets}

    def _pictures(self, ids: Sequence[str], paths: Sequence[str]) -> list[Image.Image | None]:
        if self._images is not None:
            table = self._images_of(ids)
            rows = {name: row for row, name in enumerate(table.texts('id'))} if table is not None else {}
            return [self._opened(table, rows.get(each)) for each in ids]
        if self.place.root is None:
            return [None] * len(ids)
        return [self._opened_file(path) for path in paths]

    def _images_of(self, ids: Sequence[str]) -> ImageTable | None:
        wanted = pyarrow.array(sorted(int(each) for each in ids if each.isdigit()), pyarrow.int64())
        columns = ('id', 'path', 'taken_at', 'uploaded_at', 'shard', 'offset', 'bytes')
        found = []
        for shard in range(len(self._images)):
            images = kept_images(self._images, shard, columns)
            here = images.filter(compute.is_in(images['id'], value_set=wanted))
            if len(here):
                found.append(here)
        return as_images(self._images, pyarrow.concat_tables(found)) if found else None

    def _opened(self, table: ImageTable | None, row: int | None) -> Image.Image | None:
        if table is None or row is None:
            return None
        try:
            shard = table.text('shard', row) if 'shard' in table else None
            self._check_below(table.root / (shard or table.text('path', row)))
            return table.open_image(row)
        except (UnreadableImage, DataError):
            return None

    def _opened_file(self, path: str) -> Image.Image | None:
        try:
            file = Path(file_below(self.place.root, path))
            self._check_below(file)
            return decode_image(read_file(str(file)))
        except (UnreadableImage, DataError):
            return None

    def _check_below(self, file: Path) -> None:
        if not any(file.resolve().is_relative_to(root) for root in self.place.all_roots):
            raise DataError(f'{file} leads out of {", ".join(map(str, self.place.all_roots))}.')

    def _titles(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        if self._records is None:
            return {}
        wanted = pyarrow.array(sorted(int(each) for each in ids if each.isdigit()), pyarrow.int64())
        found = {}
        for file in self._records.files('records.parquet'):
            names = [name for name in TITLES if name in parquet.read_schema(file).names]
            table = parquet.read_table(file, columns=['id', *names], filters=compute.field('id').isin(wanted))
            for row in table.to_pylist():
                found[str(row['id'])] = (row.get('title_text') or '', web_link(row.get('page_url')))
        return found


def web_link(text: str | None) -> str:
    """An address of http or https as it is; anything else becomes empty."""
    try:
        parts = urlsplit(text or '')
    except ValueError:
        return ''
    return text if parts.scheme in ('http', 'https') and parts.hostname else ''


def thumbnail(image: Image.Image, size: int = 192) -> Image.Image:
    """At most `size` pixels wide and high."""
    small = image.copy()
    small.thumbnail((size, size))
    return small
