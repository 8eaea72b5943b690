"""Stage after stage: what is finished is skipped, what is half done goes on shard by shard, what differs is refused."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import config_hash
from clear.core.configs.building import building
from clear.core.errors import ConfigError, Interrupted
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.programs.signals import on_stop
from clear.core.results import RESULTS_FILE, Results, software, write_results
from clear.curation.manifest import MANIFEST, PLAN, SCHEMA, Finished, Plan, StageFolder, manifest_of
from clear.curation.stage import Job
from clear.engine.progress import Progress
from clear.engine.schema import differences
from clear.engine.stages.keys import Entry, chosen, entries, inputs_of, with_defaults
from clear.engine.stages.pool import in_pool
from clear.registry import STAGES

if TYPE_CHECKING:
    from clear.core.types import Plain

FOLDER, TIMING = 'stages', 'timing.json'
PROTOCOL = 'clear/curation/v1'


class StageRunner:
    """Runs the stages of a config in their order.

    A stage belongs to its config, to what its inputs' manifests say and to the files that it reads. One that is
    finished and still belongs is skipped; one that is half done goes on; one that belongs to anything else is refused,
    naming the difference, until it is to be made anew (`overwrite`).

    Args:
        cfg: see `clear.engine.stages.keys`; not changed.
        work_dir: stages are folders in its `stages`.
        names: the stages to run; None = all.
        overwrite: make these stages anew.
    """

    @building('The config')
    def __init__(self, cfg: dict, work_dir: str | Path, names: Collection[str] | None = None, overwrite: bool = False):
        self.cfg = with_defaults(cfg)
        self.work_dir = Path(work_dir)
        self.entries = entries(self.cfg)
        self.todo = chosen(self.entries, names)
        self.overwrite = overwrite
        for entry in self.todo:
            entry.stage.overwrite = overwrite

    def folder(self, entry: Entry) -> StageFolder:
        return StageFolder(self.work_dir / FOLDER / entry.name)

    def describe(self) -> str:
        """Every stage and how far it is."""
        width = max(len(entry.name) for entry in self.entries)
        lines = [f'work_dir  {self.work_dir}', f'workers   {self.cfg["num_workers"] or "none but this process"}']
        for entry in self.entries:
            state = self.state(entry) if entry in self.todo else 'not asked for'
            lines.append(f'  {entry.name:<{width}}  {entry.config["type"]:<16}  {state}')
        return '\n'.join(lines)

    def state(self, entry: Entry) -> str:
        """'finished', '3 of 7 shards' or 'to do'."""
        folder = self.folder(entry)
        plan = folder.read(PLAN)
        if plan is None:
            return 'to do'
        if self.overwrite:
            return 'to be made anew'
        if folder.read(MANIFEST) is not None:
            return 'finished'
        shards = len(plan['plan']['shards'])
        return f'{sum(folder.receipt(shard) is not None for shard in range(shards))} of {shards} shards'

    def refuse_begun(self) -> None:
        """Refuse to go on with what another run began.

        Raises:
            ConfigError: if a stage that is to run has a folder.
        """
        begun = [entry.name for entry in self.todo if self.folder(entry).read(PLAN) is not None]
        if begun:
            raise ConfigError(f"{self.work_dir} already holds stage '{begun[0]}'. Go on with --resume, or make "
                              f'{"these stages" if len(self.todo) > 1 else "it"} anew with --overwrite.')

    def plan(self) -> None:
        """Look at what every stage reads, as far as it is there; nothing is written.

        Raises:
            ConfigError, DataError: for what cannot be run.
        """
        for entry in self.todo:
            entry.stage.check()
            if self.overwrite or self.folder(entry).read(PLAN) is None:
                entry.stage.inputs = inputs_of(entry, self.work_dir / FOLDER, if_finished=True)
                for line in entry.stage.preview():
                    logger.info('%s  %s', entry.name, line)
            else:
                self._check_same(entry)

    def run(self) -> Results:
        """Do what is not done yet; `results.json` in the work_dir has the counts of every stage."""
        started = time.monotonic()
        for entry in self.todo:
            entry.stage.check()
        if self.overwrite:
            for entry in self.todo:
                shutil.rmtree(self.folder(entry).path, ignore_errors=True)
        for entry in self.todo:
            self._run_stage(entry)
        results = self.results(time.monotonic() - started)
        write_results(self.work_dir / RESULTS_FILE, results)
        logger.info('results  %s', self.work_dir / RESULTS_FILE)
        return results

    def results(self, time_s: float) -> Results:
        """Counts of all finished stages."""
        metrics: dict[str, Plain] = {}
        for entry in self.entries:
            if self.folder(entry).read(MANIFEST) is not None:
                counts = Finished(self.folder(entry).path).counts
                metrics |= {f'{entry.name}/{name}': count for name, count in counts.items()}
        return Results(name=str(self.cfg['name'] or 'curation'), runner=type(self).__name__, protocol=PROTOCOL,
                       metrics=metrics, config_hash=config_hash(self.cfg), **software(), timing=dict(stages=time_s))

    def _run_stage(self, entry: Entry) -> None:
        folder = self.folder(entry)
        if folder.read(PLAN) is not None:
            self._check_same(entry)
        if folder.read(MANIFEST) is not None:
            finished = Finished(folder.path)
            again, lacking = entry.stage.redo(finished), entry.stage.lacking(finished)
            if again:
                logger.info('%s  finished before; %d shards are made again', entry.name, len(again))
                folder.take_back(again)
            elif lacking:
                logger.info('%s  finished before, but %s', entry.name, lacking)
            else:
                logger.info('%s  finished before', entry.name)
                return
        folder.clear_attempts()
        inputs = entry.stage.inputs = inputs_of(entry, self.work_dir / FOLDER)
        stored = folder.read(PLAN)
        if stored is None:
            logger.info('%s  planning', entry.name)
            plan = entry.stage.plan(inputs, folder)
            stored = dict(schema=SCHEMA, stage=entry.config['type'], config=entry.computed,
                          inputs=self._inputs(entry), plan=asdict(plan))
            write_json(folder.path / PLAN, stored)
        plan = Plan(**stored['plan'])
        started = time.monotonic()
        todo = [shard for shard in range(len(plan.shards)) if folder.receipt(shard) is None]
        with _stopping():
            self._do(entry, plan, todo)
        summary = entry.stage.finish(folder, plan)
        receipts = [folder.receipt(shard) for shard in range(len(plan.shards))]
        folder.clear_attempts()
        write_json(folder.path / TIMING, dict(schema=SCHEMA, host=os.uname().nodename, shards=len(todo),
                                              workers=self.cfg['num_workers'], seconds=time.monotonic() - started))
        write_json(folder.path / MANIFEST, manifest_of(stored, receipts, summary, _versions(entry.stage.PACKAGES)))
        for line in entry.stage.report(Finished(folder.path)):
            logger.info('%s  %s', entry.name, line)

    def _do(self, entry: Entry, plan: Plan, todo: Sequence[int]) -> None:
        jobs = plan.jobs if plan.jobs is not None else [[shard] for shard in range(len(plan.shards))]
        waiting = set(todo)
        jobs = [left for job in jobs if (left := [shard for shard in job if shard in waiting])]
        reads = {kind: str(source if isinstance(source, Path) else self.work_dir / FOLDER / source)
                 for kind, source in entry.reads.items()}
        progress = Progress(len(plan.shards))
        progress.start_at(len(plan.shards) - len(todo))
        tasks = [(dict(entry.config), str(self.folder(entry).path), reads, shard) for shard in jobs]
        if not self.cfg['num_workers']:
            for task in tasks:
                for shard in job_of(*task):
                    progress.step(f'{entry.name}  shard {shard}')
        else:
            for count in in_pool(do_job, tasks, self.cfg['num_workers']):
                for _ in range(count):
                    progress.step(entry.name)
        progress.close()

    def _inputs(self, entry: Entry) -> dict[str, Plain]:
        made = {kind: finished.fingerprint for kind, finished in inputs_of(entry, self.work_dir / FOLDER).items()}
        return dict(stages=made, sources=dict(entry.stage.sources()))

    def _check_same(self, entry: Entry) -> None:
        """Raise ConfigError if what stands in a stage's folder belongs to something else."""
        stored = self.folder(entry).read(PLAN)
        now = dict(stage=entry.config['type'], config=entry.computed, inputs=self._inputs(entry))
        changed = differences({key: stored.get(key) for key in now}, now)
        if changed:
            raise ConfigError(f"stage '{entry.name}' in {self.work_dir} was made of something else: "
                              f'{"; ".join(changed[:3])}. Make it anew with --stages {entry.name} --overwrite, or '
                              'choose another folder with --work-dir.')


def do_job(config: Mapping[str, Plain], folder: str, reads: Mapping[str, str], shards: Sequence[int]) -> int:
    """Do some shards of a stage in any process that sees the folder; how many."""
    return sum(1 for _ in job_of(config, folder, reads, shards))


def job_of(config: Mapping[str, Plain], folder: str, reads: Mapping[str, str], shards: Sequence[int]) -> Iterator[int]:
    """Do some shards of a stage, and yield the number of each."""
    place = StageFolder(Path(folder))
    plan = Plan(**place.read(PLAN)['plan'])
    inputs = {kind: Finished(source) for kind, source in reads.items()}
    yield from STAGES.build(dict(config)).work(Job(plan, shards, inputs, place))


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: metadata.version(name) for name in packages}


@contextmanager
def _stopping() -> Iterator[None]:
    with on_stop(_stop):
        yield


def _stop() -> None:
    raise Interrupted('stopped; shards that are finished are kept. Go on with --resume.')
