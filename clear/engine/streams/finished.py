"""What a stream has finished, as `stream.json` says: bucket by bucket, and where a branch began."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.core.files import atomic_writer, read_json, write_json
from clear.core.logs import logger
from clear.engine.checkpoint import LATEST
from clear.models.importance import IMPORTANCE_FILE

if TYPE_CHECKING:
    from clear.core.types import Plain

STREAM_FILE = 'stream.json'
SCHEMA = 1


@dataclass
class FinishedBucket:
    """A bucket whose run is over; paths are relative to the work_dir."""

    bucket: str
    checkpoint: str
    config_hash: str
    num_images: int
    metrics: dict[str, Plain]


@dataclass
class StreamRecord:
    """Finished buckets, in the order of training.

    Attributes:
        stream: the options under which they were trained, all of them.
        branched_from: of a branch its beginning: `checkpoint`, its `config_hash`, the number of `buckets` that were
            taken over, and `changes`.
    """

    buckets: list[FinishedBucket] = field(default_factory=list)
    stream: dict[str, Plain] = field(default_factory=dict)
    branched_from: dict[str, Plain] | None = None

    @property
    def num_taken(self) -> int:
        """Buckets that another run has trained."""
        return self.branched_from['buckets'] if self.branched_from else 0


def read_record(work_dir: Path) -> StreamRecord | None:
    """What a folder's `stream.json` holds; None if there is none.

    Raises:
        DataError: if it is damaged.
    """
    path = work_dir / STREAM_FILE
    if not path.is_file():
        return None
    stored = read_json(path)
    try:
        if stored['schema'] != SCHEMA:
            raise ValueError(stored['schema'])
        record = StreamRecord([FinishedBucket(**each) for each in stored['buckets']], dict(stored['stream']),
                              stored.get('branched_from'))
        if not isinstance(record.num_taken, int):
            raise ValueError(record.num_taken)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f'{path} is no list of finished buckets of schema {SCHEMA}: {error!r}.') from error
    return record


def write_record(work_dir: Path, record: StreamRecord) -> None:
    """Write `stream.json`."""
    branch = {} if record.branched_from is None else dict(branched_from=record.branched_from)
    write_json(work_dir / STREAM_FILE, dict(schema=SCHEMA, stream=record.stream,
                                            buckets=[asdict(each) for each in record.buckets], **branch))


def require_empty(work_dir: Path) -> None:
    """Refuse a folder that holds buckets of a stream; what a branch has left there that trained nothing is removed.

    Raises:
        ConfigError: saying what to do.
    """
    record = read_record(work_dir)
    found = {*work_dir.glob(f'bucket_*/{LATEST}')}
    taken = {work_dir / each.checkpoint for each in record.buckets} if record else set()
    if (record or found) and not (record and record.num_taken == len(record.buckets) and found <= taken):
        raise ConfigError(f'{work_dir} already holds buckets of a stream. Continue with --resume, or choose another '
                          'folder with --work-dir.')
    dist.barrier()  # Every process has looked.
    if record and dist.is_main():
        for path in (*found, *(each.with_name(IMPORTANCE_FILE) for each in found), work_dir / STREAM_FILE):
            path.unlink(missing_ok=True)
    dist.barrier()


def check_record(record: StreamRecord, names: Sequence[str], hashes: Sequence[str], work_dir: Path) -> None:
    """Refuse to build on buckets that another config has trained, or that are gone.

    Raises:
        ConfigError, CheckpointError: naming the bucket.
    """
    for position, each in enumerate(record.buckets):
        is_own = position >= record.num_taken
        if position >= len(names) or each.bucket != names[position] or is_own and each.config_hash != hashes[position]:
            raise ConfigError(f'{work_dir / STREAM_FILE}: bucket {each.bucket} was trained with another config than '
                              'this one. Resume with the same config, or choose another folder with --work-dir.')
        if (work_dir / each.checkpoint).is_file() or position < record.num_taken - 1:
            continue
        if not is_own:
            raise CheckpointError(f'{work_dir / each.checkpoint}, with which this branch began, is gone. Begin it '
                                  'again with --branch and --overwrite.')
        raise CheckpointError(f'{work_dir / each.checkpoint} of the finished bucket {each.bucket} is gone, but the '
                              f'next bucket starts from it. Put it back, or delete {work_dir / STREAM_FILE} to '
                              'train it again.')


@dataclass(frozen=True)
class Branch:
    """A finished bucket of another stream, from which a new one goes on.

    Attributes:
        path: its checkpoint.
        record: what the new stream begins with: the buckets through this one, with what was measured.
    """

    path: Path
    record: StreamRecord

    @property
    def origin(self) -> Path:
        """The folder of the other stream."""
        return self.path.parent.parent

    @property
    def finished(self) -> int:
        """How many buckets are taken over."""
        return len(self.record.buckets)


def take_over(branch: Branch, work_dir: Path) -> StreamRecord:
    """Begin in a folder with what a branch takes over; by every process, the first one writes."""
    if dist.is_main():
        folder = work_dir / branch.path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        # Before the files: a folder with a checkpoint alone would be taken for a run of its own.
        write_record(work_dir, branch.record)
        for name in (IMPORTANCE_FILE, branch.path.name):
            if (branch.path.parent / name).is_file():
                with (branch.path.parent / name).open('rb') as source, atomic_writer(folder / name) as copy:
                    shutil.copyfileobj(source, copy)
    dist.barrier()
    changes = branch.record.branched_from['changes']
    logger.info('branched from %s after %d buckets; changed: %s', branch.path, branch.finished,
                '; '.join(changes) or 'nothing')
    return branch.record
