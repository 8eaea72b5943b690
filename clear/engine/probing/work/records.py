"""What stands on disk of the jobs of a run: `jobs/<key>/result.json` of each, and `jobs.json` of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.config import to_plain
from clear.core.errors import ClearError, DataError
from clear.core.files import read_json, write_json
from clear.core.logs import logger
from clear.core.storage.damage import COUNT, NUMBER, Each, Maybe, Such, check_shape
from clear.engine.probing.jobs import STATES, Job, in_order
from clear.engine.probing.tasks import FEATURES
from clear.engine.probing.work.folders import RESULT_FILE, job_folder

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.engine.probing.finder import DataFinder

JOBS_FILE = 'jobs.json'
SCHEMA = 1
# What is read of a job that an earlier run noted.
RECORD = dict(attempts=COUNT, state=Such(f'one of {", ".join(STATES)}', lambda value: value in STATES),
              time_s=Maybe(NUMBER), banks=Each(str, names=True), encoder_hash=str,
              result=Maybe(dict(metric=str, value=NUMBER, extras=dict)))
IDENTITY = dict(encoder=str, task=str, encoder_cfg=dict, options=dict, data=dict)
# What doing a job changes in it.
OUTCOME = ('state', 'time_s', 'banks', 'encoder_hash', 'result', 'error')
_NOT_STORED = ('read', 'features', 'seed')


def record_of(job: Job) -> dict[str, Plain]:
    """A job as plain values."""
    record = {item.name: getattr(job, item.name) for item in fields(job) if item.name not in _NOT_STORED}
    # As in the lists of versions that knew no other.
    own = {} if job.features == FEATURES[0] else dict(features=job.features)
    return to_plain({**record, **own, **({} if job.seed is None else dict(seed=job.seed)), 'hash': job.hash})


def take_over(job: Job, record: Mapping[str, Any]) -> None:
    """Let a job be what its record says of how it ended."""
    for key in OUTCOME:
        setattr(job, key, record.get(key))


def publish(job: Job, work_dir: Path) -> None:
    """Write how a job ended, atomically: from the rename on it is there, and whole."""
    write_json(job_folder(work_dir, job.key) / RESULT_FILE, dict(schema=SCHEMA, **record_of(job)))


def published(job: Job, work_dir: Path) -> dict[str, Any] | None:
    """How this very job ended in a work_dir, by its hash; None if that does not stand there.

    Raises:
        DataError, CheckpointError: if the file is damaged.
    """
    path = job_folder(work_dir, job.key) / RESULT_FILE
    if not path.exists():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or record.get('schema') != SCHEMA:
        raise DataError(f'{path} is no result of a job of schema {SCHEMA}. Remove it, and the job is done again.')
    return _checked(path, job, record)


def restore_jobs(jobs: list[Job], work_dir: Path, finder: DataFinder) -> int:
    """Take over the finished jobs of an earlier run in `work_dir`, those with the same hash; how many there are.

    A finished job is done again if a bank that it read would have another fingerprint now: other weights behind the
    same path, other images, labels or dtype; or if one that it reads is done again. Where that cannot be told, as the
    encoder or the data are gone, the result is kept, with a warning.

    Raises:
        DataError, CheckpointError: if what is stored is damaged.
    """
    stored, count = stored_records(jobs, work_dir), 0
    for job in in_order(jobs):
        if job.key not in stored:
            continue
        record = stored[job.key]
        job.attempts = record['attempts']
        is_read_done = all(read is not None and read.state == 'done' for read in job.read.values())
        if record['state'] == 'done' and is_read_done and not _changed_banks(job, record['banks'], finder):
            take_over(job, record)
            count += 1
    return count


def stored_records(jobs: Iterable[Job], work_dir: Path) -> dict[str, dict[str, Any]]:
    """Key -> record, of the jobs of which a work_dir knows how they ended or how far they came.

    Raises:
        DataError, CheckpointError: if what is stored is damaged.
    """
    path, listed, found = work_dir / JOBS_FILE, _records(work_dir), {}
    for job in jobs:
        old = _checked(path, job, listed[job.key], job.key) if job.key in listed else None
        record = published(job, work_dir) or old
        if record is not None:
            # A run that was killed in the midst of a job counted that attempt in the list alone.
            found[job.key] = {**record, 'attempts': max(record['attempts'], old['attempts'] if old else 0)}
    return found


def finished_jobs(work_dir: Path) -> list[Job]:
    """What an earlier run in `work_dir` has finished, without its results.

    Raises:
        DataError, CheckpointError: if `jobs.json` is damaged.
    """
    found = []
    for key, record in _records(work_dir).items():
        check_shape(work_dir / JOBS_FILE, record, dict(state=str), key)
        if record['state'] == 'done':
            check_shape(work_dir / JOBS_FILE, record, IDENTITY, key)
            found.append(Job(**{name: record[name] for name in IDENTITY}, state='done', seed=record.get('seed'),
                             features=record.get('features', FEATURES[0])))
    return found


def save_jobs(jobs: Iterable[Job], work_dir: Path) -> None:
    """Write `jobs.json`, atomically. Jobs of an earlier config that are not planned any more are left out."""
    write_json(work_dir / JOBS_FILE, dict(schema=SCHEMA, jobs={job.key: record_of(job) for job in jobs}))


def _checked(path: Path, job: Job, record: Any, where: str = '') -> dict[str, Any] | None:
    """A record, if it is of this very job."""
    check_shape(path, record, dict(hash=str), where)
    if record['hash'] != job.hash:
        return None
    check_shape(path, record, RECORD, where)
    return record


def _records(work_dir: Path) -> dict[str, Any]:
    """The jobs in `jobs.json` by their keys; none if there is no file."""
    path = work_dir / JOBS_FILE
    if not path.exists():
        return {}
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get('schema') != SCHEMA or not isinstance(stored.get('jobs'), dict):
        raise DataError(f'{path} is no job list of schema {SCHEMA}. Start again with --overwrite.')
    return stored['jobs']


def _changed_banks(job: Job, fingerprints: dict[str, str], finder: DataFinder) -> bool:
    try:
        return finder.fingerprints(job) != fingerprints
    except ClearError as error:
        logger.warning('%s: its banks cannot be compared with those of now; its result is kept. %s', job.key, error)
        return False
