"""One job after another in this process: what it reads is found, the task is run, the outcome is published."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import to_plain
from clear.core.errors import BusyError, ClearError, Interrupted, TrainingError
from clear.core.files import write_text
from clear.core.results import storable
from clear.core.seeding import derive_seed, seed_everything
from clear.core.storage.locks import locked
from clear.engine.probing.finder import DataFinder
from clear.engine.probing.jobs import Job, identity_of
from clear.engine.probing.tasks import build_task
from clear.engine.probing.work.folders import LOCK_FILE, job_folder, open_folder
from clear.engine.probing.work.records import publish, published, take_over

if TYPE_CHECKING:
    import torch

    from clear.core.types import Plain
    from clear.evaluation.task import TaskData

FAILURES = 'failures'


class Executor:
    """Does jobs of a run in this process, whatever others do meanwhile.

    Args:
        cfg: a checked probing config with its defaults.
        work_dir: where jobs have their folders; None writes nothing.
    """

    def __init__(self, cfg: Mapping[str, Plain], work_dir: Path | None, device: torch.device):
        self.cfg, self.work_dir, self.device = cfg, work_dir, device
        self.finder = DataFinder({**cfg['banks'], 'num_workers': cfg['num_workers'], 'device': device})

    def do(self, job: Job, keep: bool) -> None:
        """Do a job, and note in it how it ended, be it with an error.

        Args:
            keep: go on with what a stopped run left in the folder of the job; what another process has published
                meanwhile of the same inputs is taken over.

        Raises:
            BusyError: if another process does the job, or makes what it reads. Nothing was done.
            Interrupted, KeyboardInterrupt: if the program is stopped.
        """
        started = time.monotonic()
        with self._held(job):
            try:
                self._do(job, keep, started)
            except (BusyError, Interrupted, KeyboardInterrupt):
                raise
            except Exception as error:  # whatever a job raises must not take the others with it
                job.state, job.error, job.result = 'failed', f'{type(error).__name__}: {error}', None
                job.time_s = time.monotonic() - started
                self._record_failure(job)

    def _do(self, job: Job, keep: bool, started: float) -> None:
        # Tasks seed themselves; this fixes what a library may draw on the side, whatever ran before.
        seed_everything(derive_seed(self.cfg['seed'], 'probe', job.hash))
        task = build_task(job.options, str(self.device), self.cfg['num_workers'])
        encoder, data = self.finder.find(job)
        if self.work_dir is not None:
            earlier = published(job, self.work_dir) if keep else None
            if earlier is not None and earlier['state'] == 'done' and earlier['banks'] == job.banks:
                take_over(job, earlier)
                return
            data = self._with_folders(job, data, keep)
        result = task.run(encoder, data)
        if not math.isfinite(result.value):
            raise TrainingError(f'{result.metric} is {result.value}.')
        job.state, job.result = 'done', storable(to_plain(result.to_dict()))
        job.time_s = time.monotonic() - started
        if self.work_dir is not None:
            publish(job, self.work_dir)

    def _with_folders(self, job: Job, data: TaskData, keep: bool) -> TaskData:
        folder = open_folder(job_folder(self.work_dir, job.key), identity_of(job), keep)
        return replace(data, folder=folder, jobs={name: job_folder(self.work_dir, read.key)
                                                  for name, read in job.read.items() if read is not None})

    @contextlib.contextmanager
    def _held(self, job: Job) -> Iterator[None]:
        if self.work_dir is None:
            yield
            return
        folder = job_folder(self.work_dir, job.key)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK_FILE, 'It does this job now.', BusyError):
            yield

    def _record_failure(self, job: Job) -> None:
        if self.work_dir is not None:
            write_text(self.work_dir / FAILURES / f'{job.key}.txt', traceback.format_exc())
            with contextlib.suppress(ClearError):  # a result that cannot be written is the failure itself
                publish(job, self.work_dir)
