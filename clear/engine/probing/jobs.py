"""The jobs of a probing run, encoders x tasks: what each computes, its state on disk, and the banks it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.config import to_plain
from clear.core.errors import ClearError, ConfigError, DataError
from clear.core.files import read_json, write_json
from clear.core.logs import logger
from clear.core.storage.damage import COUNT, NUMBER, Each, Maybe, Such, check_shape
from clear.engine.probing.tasks import FEATURES, build_task, task_data, task_name, task_options
from clear.evaluation.task import ChecksClasses, ReadsFiles, Task, needs_of, reads_jobs, reads_labels

if TYPE_CHECKING:
    from clear.engine.probing.finder import DataFinder

JOBS_FILE = 'jobs.json'
SCHEMA = 1
STATES = ('pending', 'running', 'done', 'failed')
# What is read of a job that an earlier run noted.
RECORD = dict(attempts=COUNT, state=Such(f'one of {", ".join(STATES)}', lambda value: value in STATES),
              time_s=Maybe(NUMBER), banks=Each(str, names=True), encoder_hash=str,
              result=Maybe(dict(metric=str, value=NUMBER, extras=dict)))

IDENTITY = dict(encoder=str, task=str, encoder_cfg=dict, options=dict, data=dict)


@dataclass
class Job:
    """One encoder on one task.

    Args:
        options: type and arguments of the task; data: split -> source; encoder_cfg: the encoder without `info`.
        features: one of `FEATURES`.
        state: one of `STATES`.
        attempts: how often it was started.
        banks: split -> fingerprint of the bank that was read, or that would be made of the images that were; besides
            'encoder' -> fingerprint of an encoder of text that no bank is named by, 'files' -> of what a task reads by
            itself, 'captions' -> of the captions of the images, 'job of x' -> of what the task x read.
        encoder_hash: first 16 digits of the encoder's fingerprint, '' while unknown.
        result: `TaskResult.to_dict()` of a finished job.
        error: last line of the traceback of a failed one.
        read: task -> its job on this encoder, for those whose folders the task reads; None for no task of the config.
    """

    encoder: str
    task: str
    encoder_cfg: dict[str, Any]
    options: dict[str, object]
    data: dict[str, Any]
    features: str = FEATURES[0]
    state: str = 'pending'
    attempts: int = 0
    time_s: float | None = None
    banks: dict[str, str] = field(default_factory=dict)
    encoder_hash: str = ''
    result: dict[str, Any] | None = None
    error: str | None = None
    read: dict[str, Job | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def key(self) -> str:
        return f'{self.encoder}--{self.task}'

    @cached_property
    def _task(self) -> Task:
        return build_task(self.options)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the task reads."""
        return needs_of(self._task)

    @property
    def reads_jobs(self) -> tuple[str, ...]:
        """The tasks whose folders the task reads."""
        return reads_jobs(self._task)

    def read_jobs_fingerprints(self) -> dict[str, str]:
        """`{'job of x': ...}` of the jobs that are read: what they compute, and what they read themselves.

        Raises:
            DataError: for one that is no task of the config, or is not done.
        """
        for name, job in self.read.items():
            if job is None or job.state != 'done':
                why = 'which is no task of this config' if job is None else f'whose job {job.key} is not done'
                raise DataError(f"{self.key} reads what '{name}' leaves, {why}.")
        return {f'job of {name}': _digest(dict(hash=job.hash, banks=job.banks)) for name, job in self.read.items()}

    @property
    def reads_labels(self) -> bool:
        """Whether the task can do nothing without labels."""
        return reads_labels(self._task)

    def files_fingerprint(self) -> dict[str, str]:
        """`dict(files=...)` of a task that reads files of its own.

        Raises:
            DataError: if they cannot be read.
        """
        return dict(files=self._task.files_fingerprint()) if isinstance(self._task, ReadsFiles) else {}

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse images of classes that the task knows by other names.

        Raises:
            DataError: saying why.
        """
        if isinstance(self._task, ChecksClasses):
            self._task.check_classes(known)

    @property
    def levels(self) -> list[int]:
        """Levels of the maps that the task reads."""
        return list(self._task.levels) if 'maps' in self.needs else []

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of what the job computes; names, device and state left out."""
        read = {name: job.hash for name, job in self.read.items() if job is not None}
        return _digest(dict(encoder=self.encoder_cfg, **self._what, **(dict(jobs=read) if read else {})))

    @property
    def task_hash(self) -> str:
        """The same of what is computed of any encoder."""
        read = {name: job.task_hash for name, job in self.read.items() if job is not None}
        return _digest({**self._what, **(dict(jobs=read) if read else {})})

    @property
    def _what(self) -> dict[str, object]:
        what = dict(task=self.options, data=self.data)
        return what if self.features == FEATURES[0] else {**what, 'features': self.features}


def _digest(what: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(to_plain(what), sort_keys=True).encode()).hexdigest()[:16]


def plan_jobs(cfg: dict) -> list[Job]:
    """The jobs of a checked config: all tasks of the first encoder, then of the second, ...

    Raises:
        ConfigError: for tasks that read each other's folders in a circle.
    """
    jobs = []
    for name, encoder in cfg['encoders'].items():
        encoder_cfg = {key: value for key, value in encoder.items() if key != 'info'}
        for task in cfg['tasks']:
            job = Job(name, task_name(task), encoder_cfg, task_options(task, cfg['seed'], cfg['grid']), {},
                      task.get('features', FEATURES[0]))
            job.data = {split: source for split, source in task_data(cfg, task, job.needs).items()
                        if source is not None}
            jobs.append(job)
    _link(jobs)
    return jobs


def _link(jobs: Sequence[Job]) -> None:
    """Give every job those that it reads."""
    known = {(job.encoder, job.task): job for job in jobs}
    for job in jobs:
        job.read = {name: known.get((job.encoder, name)) for name in job.reads_jobs}
    in_order(jobs)


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """The jobs as given, but each behind those that it reads.

    Raises:
        ConfigError: if jobs read each other in a circle.
    """
    ordered: dict[str, Job] = {}

    def visit(job: Job, above: tuple[str, ...]) -> None:
        if job.task in above:
            raise ConfigError(f"tasks: '{job.task}' reads what itself leaves ({' -> '.join([*above, job.task])}).")
        for read in job.read.values():
            if read is not None:
                visit(read, (*above, job.task))
        ordered[job.key] = job

    for job in jobs:
        visit(job, ())
    asked = {job.key for job in jobs}
    return [job for key, job in ordered.items() if key in asked]


def restore_jobs(jobs: list[Job], work_dir: Path, finder: DataFinder) -> int:
    """Take over the finished jobs of an earlier run in `work_dir`, those with the same hash; how many there are.

    A finished job is done again if a bank that it read would have another fingerprint now: other weights behind the
    same path, other images, labels or dtype. Where that cannot be told, as the encoder or the data are gone, the
    result is kept, with a warning.

    Raises:
        DataError, CheckpointError: if `jobs.json` is damaged.
    """
    path, stored, count = work_dir / JOBS_FILE, _records(work_dir), 0
    for job in in_order(jobs):
        record = stored.get(job.key)
        if record is not None:
            check_shape(path, record, dict(hash=str), job.key)
        if not record or record.get('hash') != job.hash:
            continue
        check_shape(path, record, RECORD, job.key)
        job.attempts = record['attempts']
        is_read_done = all(read is not None and read.state == 'done' for read in job.read.values())
        if record['state'] == 'done' and is_read_done and not _changed_banks(job, record['banks'], finder):
            for key in ('state', 'time_s', 'banks', 'encoder_hash', 'result'):
                setattr(job, key, record[key])
            count += 1
    return count


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
            found.append(Job(**{name: record[name] for name in IDENTITY},
                             features=record.get('features', FEATURES[0]), state='done'))
    return found


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


def identity_of(job: Job) -> dict[str, object]:
    """What the files in a job's folder belong to."""
    return dict(hash=job.hash, banks=job.banks)


def save_jobs(jobs: list[Job], work_dir: Path) -> None:
    """Write `jobs.json`, atomically. Jobs of an earlier config that are not planned any more are left out."""
    records = {}
    for job in jobs:
        own = {item.name: getattr(job, item.name) for item in fields(job) if item.name != 'read'}
        records[job.key] = {**to_plain(own), 'hash': job.hash}
        if job.features == FEATURES[0]:
            del records[job.key]['features']  # as in the lists of versions that knew no other
    write_json(work_dir / JOBS_FILE, dict(schema=SCHEMA, jobs=records))
