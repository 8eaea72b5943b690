"""Parts of a run's jobs, for machines that know nothing of each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import ConfigError
from clear.engine.probing.jobs import Job

FOLDER = 'shards'


@dataclass(frozen=True)
class Shard:
    """One part of several, counted from 1."""

    place: int
    count: int

    def __str__(self) -> str:
        return f'{self.place}/{self.count}'

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard that an option names.

        Raises:
            ConfigError: for anything but I/N with 1 <= I <= N.
        """
        found = re.fullmatch(r'([0-9]{1,6})/([0-9]{1,6})', text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"--shard is '{text}'; expected I/N with I from 1 to N, such as --shard 1/4.")
        return cls(int(found[1]), int(found[2]))

    def folder(self, work_dir: Path) -> Path:
        """Where the log, the table and the state of this part lie; its jobs lie with all others."""
        return work_dir / FOLDER / f'{self.place}-of-{self.count}'


def shard_numbers(jobs: Sequence[Job], count: int) -> list[int]:
    """The part of each job, from 1.

    Neighbours stay together, so that most encoders and banks are needed in one part alone; a job is where those are
    that it reads.
    """
    groups = _groups(jobs)
    numbers, before = {}, 0
    for group in groups:
        for job in group:
            numbers[job.key] = before * count // len(jobs) + 1
        before += len(group)
    return [numbers[job.key] for job in jobs]


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that read each other, in the order of their first."""
    group_of: dict[str, list[Job]] = {}
    for job in jobs:
        own = group_of.setdefault(job.key, [job])
        for read in job.read.values():
            other = group_of.setdefault(read.key, [read]) if read is not None else own
            if other is not own:
                own += other
                group_of.update({each.key: own for each in other})
    return [*{id(group): group for group in (group_of[job.key] for job in jobs)}.values()]
