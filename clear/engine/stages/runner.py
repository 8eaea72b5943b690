"""Stage after stage: what is finished is skipped, what is half done goes on shard by shard, what differs is refused."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.config import config_hash
from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError, Interrupted
from clear.core.files import write_json
from clear.core.logs import logger
from clear.core.programs.signals import on_stop, received
from clear.core.results import RESULTS_FILE, Results, software, write_results
from clear.curation.manifest import MANIFEST, PLAN, SCHEMA, Finished, Plan, StageFolder, manifest_of
from clear.engine.progress import Progress
from clear.engine.schema import differences
from clear.engine.stages.cluster import Cluster, cluster
from clear.engine.stages.keys import ENGINE_KEYS, Entry, chosen, entries, imports_of, inputs_of, with_defaults
from clear.engine.stages.pool import Pool, pool
from clear.engine.stages.tasks import Task, do_task, shards_of

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.curation.stage import Stage

FOLDER, TIMING = 'stages', 'timing.json'
PROTOCOL = 'clear/curation/v1'
_SEEN_S = 60.0  # until what another machine has renamed shows in a folder of a network disk


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
        self._hands: Cluster | Pool | None = None
        for entry in self.todo:
            entry.stage.overwrite = overwrite

    def folder(self, entry: Entry) -> StageFolder:
        return StageFolder(self.work_dir / FOLDER / entry.name)

    def describe(self) -> str:
        """Every stage and how far it is."""
        width = max(len(entry.name) for entry in self.entries)
        lines = [f'work_dir  {self.work_dir}', f'workers   {self._workers_in_words()}']
        for entry in self.entries:
            state = self.state(entry) if entry in self.todo else 'not asked for'
            lines.append(f'  {entry.name:<{width}}  {entry.config["type"]:<16}  {state}')
            if entry in self.todo and state != 'finished':
                lines += [f'  {"":<{width}}  {line}' for line in entry.stage.shares(self._workers(entry))]
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
        made = {entry.name for entry in self.todo}
        for entry in self.todo:  # nothing is removed for a stage that cannot be made
            if self.overwrite or self.folder(entry).read(MANIFEST) is None:
                _check_whole(entry.stage, self._inputs_of(entry, without=made))
        if self.overwrite:
            for entry in self.todo:
                shutil.rmtree(self.folder(entry).path, ignore_errors=True)
        with ExitStack() as running:
            for entry in self.todo:
                self._run_stage(entry, running)
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
        made_of = {key: value for key, value in self.cfg.items() if key not in ENGINE_KEYS}
        return Results(name=str(self.cfg['name'] or 'curation'), runner=type(self).__name__, protocol=PROTOCOL,
                       metrics=metrics, config_hash=config_hash(made_of), **software(), timing=dict(stages=time_s))

    def _inputs_of(self, entry: Entry, without: Collection[str]) -> dict[str, Finished]:
        """What a stage reads of those that are not called so."""
        reads = {kind: source for kind, source in entry.reads.items() if source not in without}
        return inputs_of(replace(entry, reads=reads), self.work_dir / FOLDER)

    def _run_stage(self, entry: Entry, running: ExitStack) -> None:
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
        folder.clear_strangers()
        inputs = entry.stage.inputs = inputs_of(entry, self.work_dir / FOLDER)
        _check_whole(entry.stage, inputs)
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
            self._do(entry, plan, todo, running)
            _wait_for(folder, todo)
        summary = entry.stage.finish(folder, plan)
        receipts = [folder.receipt(shard) for shard in range(len(plan.shards))]
        folder.clear_attempts()
        write_json(folder.path / TIMING, dict(schema=SCHEMA, host=os.uname().nodename, shards=len(todo),
                                              engine=self.cfg['engine'],
                                              workers=self._workers(entry), seconds=time.monotonic() - started))
        write_json(folder.path / MANIFEST, manifest_of(stored, receipts, summary, _versions(entry.stage.PACKAGES)))
        for line in entry.stage.report(Finished(folder.path)):
            logger.info('%s  %s', entry.name, line)

    def _do(self, entry: Entry, plan: Plan, todo: Sequence[int], running: ExitStack) -> None:
        jobs = plan.jobs if plan.jobs is not None else [[shard] for shard in range(len(plan.shards))]
        waiting = set(todo)
        jobs = [left for job in jobs if (left := [shard for shard in job if shard in waiting])]
        reads = {kind: str(self._place(source)) for kind, source in entry.reads.items()}
        if jobs and self._hands is None:
            self._hands = self._hired(running)
        folder, workers = self.folder(entry), self._workers(entry) or (self._hands.workers if self._hands else 1)
        tasks = [Task(dict(entry.config), str(self._place(entry.name)), reads, shards, workers, imports_of(self.cfg))
                 for shards in jobs]
        progress = Progress(len(plan.shards), unit='shards')
        progress.start_at(len(plan.shards) - len(todo))
        for _ in self._ended(tasks, workers):
            for _ in range(folder.count() - progress.done):
                progress.step(entry.name)
        progress.close()

    def _hired(self, running: ExitStack) -> Cluster | Pool | None:
        """Who works, until the run ends; None = nobody but this process."""
        workers = self.cfg['num_workers']
        if self.cfg['engine'] == 'ray':
            return running.enter_context(cluster(self.work_dir, workers, self.cfg['ray_address'], self.cfg['ray_gpus']))
        return running.enter_context(pool(workers)) if workers else None

    def _ended(self, tasks: Sequence[Task], workers: int) -> Iterator[int]:
        """Do the tasks; yields how many shards were done, whenever one may have been."""
        if self._hands is not None:
            yield from self._hands.run(do_task, tasks, workers)
            return
        for task in tasks:
            for _ in shards_of(task):
                yield 1

    def _workers(self, entry: Entry) -> int:
        """How many work at a stage at once; 0 = as many as an existing cluster has processors."""
        wanted, most = self.cfg['num_workers'], entry.stage.most_workers()
        if self.cfg['engine'] != 'ray':
            wanted = wanted or 1
        return wanted if most is None else min(wanted or most, most)

    def _workers_in_words(self) -> str:
        count = self.cfg['num_workers']
        if self.cfg['engine'] == 'ray':
            address = self.cfg['ray_address']
            where = f'the cluster at {address}' if address else 'a cluster of this machine'
            return f'{count or "all"} of Ray on {where}'
        return str(count or 'none but this process')

    def _place(self, source: str | Path) -> Path:
        """The folder of a stage, or one given; as other machines find it, if some take part."""
        path = source if isinstance(source, Path) else self.work_dir / FOLDER / source
        return path.absolute() if self.cfg['engine'] == 'ray' else path

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


def _wait_for(folder: StageFolder, shards: Sequence[int]) -> None:
    """Wait until the receipts of shards that were done elsewhere show here.

    Raises:
        DataError: if one does not.
    """
    deadline = time.monotonic() + _SEEN_S
    for shard in shards:
        while folder.receipt(shard) is None:
            if time.monotonic() > deadline:
                raise DataError(f'shard {shard} was done, but {folder.shard_folder(shard)} does not show. Is it on a '
                                'disk that every worker sees?')
            time.sleep(0.1)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: metadata.version(name) for name in packages}


def _check_whole(stage: Stage, inputs: Mapping[str, Finished]) -> None:
    """Raise DataError if a file is gone, or has another size than its stage's manifest says."""
    for kind, finished in inputs.items():
        damage = '' if kind in stage.FORGIVES else finished.damage()
        if damage:
            raise DataError(f'{kind}: {damage}. Bring it back, or make {finished.folder.path} again.')


@contextmanager
def _stopping() -> Iterator[None]:
    with on_stop(_stop):
        try:
            yield
        except (KeyboardInterrupt, SystemError):  # what Ray makes of an error that a handler raises
            if received() is None:
                raise
            _stop()


def _stop() -> None:
    raise Interrupted('stopped; shards that are finished are kept. Go on with --resume.')
