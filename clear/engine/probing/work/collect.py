"""The finished jobs of several machines as one run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.errors import DataError
from clear.engine.probing.work.folders import LOCK_FILE, MAKING, job_folder
from clear.engine.probing.work.records import stored_records, take_over

if TYPE_CHECKING:
    from clear.engine.probing.jobs import Job

_MOST_NAMED = 20
# Which only a job that is not finished needs.
_STATE = 'state.pth'


def collect(jobs: Sequence[Job], work_dir: Path, others: Sequence[Path]) -> None:
    """Take over all jobs as they ended in a work_dir or in others, whose folders of jobs are copied.

    Raises:
        DataError: naming the jobs that are not done in any, or were done of other weights or data in one than in
            another. Nothing is written then.
        CheckpointError: if a file is damaged.
    """
    folders = list(dict.fromkeys([work_dir, *others]))
    for folder in others:
        if not folder.is_dir():
            raise DataError(f'{folder} does not exist.')
    stored = {folder: stored_records(jobs, folder) for folder in folders}
    found = {job.key: {folder: stored[folder][job.key] for folder in folders if job.key in stored[folder]}
             for job in jobs}
    _refuse_missing(jobs, found, folders)
    places = {}
    for job in jobs:
        done = {folder: record for folder, record in found[job.key].items() if record['state'] == 'done'}
        places[job.key], record = next(iter(done.items()))
        for folder, other in done.items():
            if other['banks'] != record['banks']:
                raise DataError(f'{job.key} was done with other weights or data in {folder} than in '
                                f'{places[job.key]}. Collect one of them.')
        take_over(job, record)
        job.attempts = record['attempts']
    _refuse_other_weights(jobs, places)
    for job in jobs:
        if places[job.key] != work_dir:
            _copy(job_folder(places[job.key], job.key), job_folder(work_dir, job.key))


def _refuse_missing(jobs: Sequence[Job], found: Mapping[str, Mapping[Path, Mapping[str, Any]]],
                    folders: Sequence[Path]) -> None:
    missing = []
    for job in jobs:
        if not any(record['state'] == 'done' for record in found[job.key].values()):
            reasons = [f'failed in {folder}: {record.get("error")}' for folder, record in found[job.key].items()
                       if record['state'] == 'failed']
            missing.append(f'  {job.key}: {reasons[0] if reasons else "not done with these arguments"}')
    if missing:
        more = [f'  and {len(missing) - _MOST_NAMED} more'] if len(missing) > _MOST_NAMED else []
        raise DataError(f'{len(missing)} of {len(jobs)} jobs are not finished in {", ".join(map(str, folders))}; '
                        'nothing was written.\n' + '\n'.join([*missing[:_MOST_NAMED], *more]))


def _refuse_other_weights(jobs: Sequence[Job], places: Mapping[str, Path]) -> None:
    """All jobs of an encoder must have had the same weights, wherever they were done."""
    known: dict[tuple[str, str], Job] = {}
    for job in jobs:
        if 'bank' in job.encoder_cfg or not job.encoder_hash:
            continue
        first = known.setdefault((job.encoder, job.features), job)
        if first.encoder_hash != job.encoder_hash:
            raise DataError(f"encoder '{job.encoder}' had other weights for {job.key} in {places[job.key]} than for "
                            f'{first.key} in {places[first.key]}.')


def _copy(source: Path, target: Path) -> None:
    """Copy the folder of a job; it is there as a whole or not at all."""
    if not source.is_dir():
        return  # of a version that had none
    making = target.with_name(f'{MAKING}{target.name}')
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(source, making, ignore=_left_out)
    shutil.rmtree(target, ignore_errors=True)
    making.rename(target)


def _left_out(folder: str, names: list[str]) -> list[str]:
    """Locks, states and links, which may lead anywhere."""
    return [name for name in names if name in (LOCK_FILE, _STATE) or os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
