"""Beginning a stream where another one has finished a bucket, with the options of its own config."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.engine.checkpoint import load_ours
from clear.engine.schema import differences
from clear.engine.streams.finished import STREAM_FILE, Branch, StreamRecord, read_record
from clear.engine.streams.pretraining import Stream, bucket_config
from clear.engine.training.keys import computed_config
from clear.engine.training.state import CHECKPOINT, KIND
from clear.models.importance import IMPORTANCE_FILE

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.datasets.table import ImageTable


def find_branch(path: str | Path, cfg: Config, stream: Stream, images: ImageTable, work_dir: Path) -> Branch:
    """The bucket of another stream whose checkpoint is `path`; nothing is written.

    Args:
        images: of all buckets of this stream, see `read_stream_images`.

    Raises:
        CheckpointError: if the file is no checkpoint of a finished bucket, is damaged, of other data, or leaves nothing
            to train; or if this stream needs what the other one did not measure.
        ConfigError: if the other stream lies in `work_dir`, or its evaluation is another one.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'Nothing to branch from: {path} does not exist.')
    origin, sizes = path.parent.parent, {name: len(rows) for name, rows in images.in_buckets()[1].items()}
    record = read_record(origin)
    if record is None:
        raise CheckpointError(f'{path} is of no stream over buckets: {origin / STREAM_FILE} is not there. To start '
                              f"from its weights use load_from='{path}'.")
    if origin.resolve() == work_dir.resolve():
        raise ConfigError(f'--branch begins another run than that in {origin}: choose another folder with --work-dir.')
    position = next((place for place, each in enumerate(record.buckets)
                     if (origin / each.checkpoint).resolve() == path.resolve()), None)
    if position is None:
        known = [origin / each.checkpoint for each in record.buckets[record.num_taken:]]
        raise CheckpointError(f'{path} is not what a finished bucket has left; branch from '
                              f"{', '.join(map(str, known)) or 'one that has, none is finished so far'}.")
    taken, names = record.buckets[:position + 1], list(sizes)
    if [(each.bucket, each.num_images) for each in taken] != [*sizes.items()][:position + 1]:
        raise CheckpointError(f'{path} was written on other data: on buckets '
                              f'{_sizes((each.bucket, each.num_images) for each in taken)}; this stream has '
                              f'{_sizes(sizes.items())}.')
    if len(taken) == len(names):
        earlier = [str(origin / each.checkpoint) for each in taken[record.num_taken:-1]]
        advice = f', e.g. {earlier[-1]}' if earlier else ''
        raise CheckpointError(f'{path} was written after the last of {len(names)} bucket(s): nothing is left to '
                              f'train. Branch from an earlier checkpoint{advice}.')
    if record.stream.get('evaluation') and stream.evaluation and record.stream['evaluation'] != stream.evaluation:
        raise ConfigError(f'stream.evaluation is another than that of {origin}: its rows and those of this run would '
                          'stand in one matrix. Use the same, or leave it out.')
    if stream.ewc is not None and not (path.parent / IMPORTANCE_FILE).is_file():
        raise CheckpointError(f'stream.ewc holds the weights that mattered before, and {path.parent} has no '
                              f'{IMPORTANCE_FILE}: branch from a run that has stream.ewc.')
    checkpoint = load_ours(path, CHECKPOINT, KIND)
    try:
        before = Stream(**{**record.stream, 'buckets': stream.buckets})
    except TypeError as error:
        raise DataError(f'{origin / STREAM_FILE} does not hold the options of a stream: {error}.') from error
    expected = computed_config(bucket_config(cfg, before, names, position, origin), dist.world_size())
    changes = differences(record.stream, asdict(stream), 'stream') + differences(checkpoint['config'], expected)
    note = dict(checkpoint=f'{path.parent.name}/{path.name}', config_hash=checkpoint['config_hash'],
                buckets=len(taken), changes=changes)
    return Branch(path, StreamRecord(taken, asdict(stream), note))


def _sizes(buckets: Iterable[tuple[str, int]]) -> str:
    return ', '.join(f'{name} ({count:,} images)' for name, count in buckets)
