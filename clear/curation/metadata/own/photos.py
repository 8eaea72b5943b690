"""The stage that reads a folder of photos -> records, by what each photo, its name or its file says of its time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.curation.manifest import TEMPORARY, Plan, StageFolder
from clear.curation.metadata.own.exif import taken_time
from clear.curation.metadata.own.folders import Photo, PhotoTree, Span
from clear.curation.metadata.own.reading import HOUR, OWN_SCHEMA, table_of
from clear.curation.metadata.own.times import TimeFormat, read_time, time_formats
from clear.curation.metadata.records import Batch
from clear.curation.metadata.writing import refuse_nothing, write_batches
from clear.curation.stage import Inputs, Job, Stage
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

SOURCES = ('exif', 'name', 'mtime')
PHOTO_SCHEMA = OWN_SCHEMA.append(pyarrow.field('time_from', pyarrow.string()))
_EXIF = [TimeFormat('%Y:%m:%d %H:%M:%S'), TimeFormat('%Y:%m:%d %H:%M:%S.%f')]
_BLOCK_ROWS = 8192


@STAGES.register_module()
class PhotoFolder(Stage):
    """Records of the photos below a folder, in the order of their paths; the id is the place in it.

    `time_from` of a record says where its time is from, and the counts how many are from where. A photo without a time
    is rejected, and so is a link that leads out of the folder; links to folders are not followed. A folder that has
    changed between plan and work is refused.

    Args:
        root: the folder; paths in the records are relative to it.
        time: where a photo's time is from, the first that has one: 'exif' (DateTimeOriginal), 'name' (of the file, see
            `name_format`), 'mtime' (of the file, which a copy may change), or a list of these.
        name_format: a format of `own.times.TimeFormat`, or a list of these, in which `*` stands for anything, such as
            'IMG_%Y%m%d_%H%M%S*'; for the name without its suffix.
        utc_offset_hours: what the camera's clock is ahead of UTC, for `uploaded_at`.
        shard_rows: photos of one shard.

    Raises:
        ConfigError: for values that cannot be.
    """

    MAKES = 'records'
    PACKAGES = ('pyarrow', 'duckdb', 'pillow')
    EXECUTION = frozenset({'root'})

    def __init__(self, root: str, time: str | Sequence[str] = 'exif',
                 name_format: str | Sequence[str] | None = None, utc_offset_hours: float = 0.0,
                 shard_rows: int = 100_000):
        self.root = Path(root)
        self.sources_of_time = [time] if isinstance(time, str) else list(time)
        if not self.sources_of_time or not set(self.sources_of_time) <= set(SOURCES):
            raise ConfigError(f'time is {time!r}; expected {", ".join(SOURCES)}, or a list of these.')
        if ('name' in self.sources_of_time) != (name_format is not None):
            raise ConfigError("name_format and 'name' in time belong together: time=['exif', 'name'], "
                              "name_format='IMG_%Y%m%d_%H%M%S*'.")
        self.name_formats = [] if name_format is None else time_formats('name_format', name_format, stars=True)
        self.utc_offset_hours = check_number('utc_offset_hours', utc_offset_hours, -24, 24)
        self.shard_rows = check_whole('shard_rows', shard_rows, 1)

    def check(self) -> None:
        """Look whether the folder has a photo."""
        if next(self._tree().photos(), None) is None:
            raise DataError(f'{self.root} holds no photos.')

    def sources(self) -> Mapping[str, Plain]:
        """How many photos there are, and their size; the plan has digests."""
        return _totals(self._tree())

    def preview(self) -> list[str]:
        """How many photos there are."""
        tree = self._tree()
        found = _totals(tree)
        return [f'{self.root}  {found["photos"]:,} photos, {found["bytes"] / 2**20:,.0f} MiB; {tree.passed_over:,} '
                'files that are not called like one']

    def plan(self, inputs: Inputs, folder: StageFolder) -> Plan:
        """Cut the photos, in the order of their paths, into ranges."""
        tree = self._tree()
        spans = [span._asdict() for span in tree.spans(self.shard_rows, folder.path / TEMPORARY)]
        return Plan(spans, dict(passed_over=tree.passed_over))

    def work(self, job: Job) -> Iterator[int]:
        """Look at the photos of each range."""
        tree = self._tree()
        for shard in job.shards:
            span = Span(**job.plan.shards[shard])
            with job.writing(shard) as attempt:
                write_batches(attempt, self._batches(tree, span), PHOTO_SCHEMA)
            yield shard

    def finish(self, folder: StageFolder, plan: Plan) -> Mapping[str, Plain]:
        """Refuse a folder of which no photo has a time, and tell how many files were passed over.

        Raises:
            DataError: with the most frequent reason.
        """
        refuse_nothing(folder.receipt(shard) for shard in range(len(plan.shards)))
        return dict(passed_over=plan.values['passed_over'])

    def _tree(self) -> PhotoTree:
        return PhotoTree(self.root, 'mtime' in self.sources_of_time)

    def _batches(self, tree: PhotoTree, span: Span) -> Iterator[Batch]:
        photos = tree.of(span)
        for start in range(0, len(photos), _BLOCK_ROWS):
            yield self._batch(tree, photos[start:start + _BLOCK_ROWS], span.first + start)

    def _batch(self, tree: PhotoTree, photos: Sequence[Photo], first: int) -> Batch:
        batch = Batch(PHOTO_SCHEMA.empty_table())
        lines, paths, moments, origins = [], [], [], []
        for line, photo in enumerate(photos, first):
            path = _text(photo.path)
            reason = photo.problem or ('' if path is not None else 'name is no UTF-8')
            found = None if reason else self._time(tree.root / path, photo)
            if found is None:
                batch.rejected[line] = reason or 'no time'
                continue
            lines.append(line)
            paths.append(path)
            moments.append(found[0])
            origins.append(found[1])
            batch.noted[f'time from {found[1]}'] += 1
        taken, numbers = np.array(moments, np.int64), np.array(lines, np.int64)
        is_local = np.array([origin != 'mtime' for origin in origins], bool)
        suffixes = [path.rpartition('.')[2].lower() for path in paths]
        batch.records = table_of(dict(
            id=numbers, line=numbers, is_video=np.zeros(len(lines), bool), taken_at=taken, taken_at_is_local=is_local,
            uploaded_at=np.where(is_local, taken - round(self.utc_offset_hours * HOUR), taken),
            path=pyarrow.array(paths, pyarrow.string()), ext=pyarrow.array(suffixes, pyarrow.string()),
            time_from=pyarrow.array(origins, pyarrow.string())), len(lines), PHOTO_SCHEMA)
        return batch

    def _time(self, path: Path, photo: Photo) -> tuple[int, str] | None:
        """Microseconds since 1970, on the camera's clock or, of the mtime, in UTC, and where they are from."""
        for source in self.sources_of_time:
            if source == 'mtime':
                return photo.mtime, source
            found = read_time(_EXIF, taken_time(path)) if source == 'exif' else read_time(self.name_formats, path.stem)
            if found is not None:
                return found[0], source
        return None


def _totals(tree: PhotoTree) -> dict[str, int]:
    count, size = 0, 0
    for photo in tree.photos():
        count, size = count + 1, size + photo.size
    return dict(photos=count, bytes=size)


def _text(path: bytes) -> str | None:
    try:
        return os.fsdecode(path).encode().decode()
    except UnicodeEncodeError:  # a surrogate: a byte that is no UTF-8
        return None
