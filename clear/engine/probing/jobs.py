"""The jobs of a probing run, encoders x tasks x seeds: what each computes, and what it reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from clear.core.config import to_plain
from clear.core.errors import ConfigError, DataError
from clear.engine.probing.tasks import FEATURES, build_task, job_seeds, task_data, task_name, task_options
from clear.evaluation.task import ChecksClasses, ReadsFiles, Task, needs_of, reads_jobs, reads_labels
from clear.features.planned import is_planning

STATES = ('pending', 'running', 'done', 'failed')


@dataclass
class Job:
    """One encoder on one task, with one seed where each seed of the task is a job of its own.

    Args:
        options: type and arguments of the task; data: split -> source; encoder_cfg: the encoder without `info`.
        features: one of `FEATURES`.
        seed: of the task; None where the task has its seeds, or its only one, within.
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
    seed: int | None = None
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
        return self.cell if self.seed is None else f'{self.cell}--seed{self.seed}'

    @property
    def cell(self) -> str:
        """What the jobs of all seeds share."""
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
            DataError: for one that is no task of the config, or is not done; a dry run does none.
        """
        for name, job in self.read.items():
            if job is None or job.state != 'done' and not is_planning():
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
            for seed in job_seeds(task, cfg['seed']):
                job = Job(name, task_name(task), encoder_cfg, task_options(task, cfg['seed'], cfg['grid'], seed), {},
                          task.get('features', FEATURES[0]), seed)
                job.data = {split: source for split, source in task_data(cfg, task, job.needs).items()
                            if source is not None}
                jobs.append(job)
    _link(jobs)
    return jobs


def _link(jobs: Sequence[Job]) -> None:
    """Give every job those that it reads: of its own seed if there is one, else the first."""
    known: dict[tuple[str, str, int | None], Job] = {}
    for job in jobs:
        known[job.encoder, job.task, job.seed] = job
        known.setdefault((job.encoder, job.task, None), job)
    for job in jobs:
        job.read = {name: known.get((job.encoder, name, job.seed)) or known.get((job.encoder, name, None))
                    for name in job.reads_jobs}
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


def identity_of(job: Job) -> dict[str, object]:
    """What the files in a job's folder belong to."""
    return dict(hash=job.hash, banks=job.banks)
