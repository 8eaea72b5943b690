"""What a continual run records: its accuracy matrices, a line of log per experience, times, where it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.journal import Entry, is_self_contained, require_entries, streaming_results
from clear.continual.metrics import accuracy_by_task, clear_metrics, overlap_mask, own_metrics, without_unseen
from clear.continual.scenarios import ScenarioInfo
from clear.core import dist
from clear.core.config import config_hash
from clear.core.results import Results, config_text, software
from clear.core.storage.damage import damaged
from clear.engine.schema import computed_config

if TYPE_CHECKING:
    from clear.core.contracts import MeasuresMatrix
    from clear.core.types import Plain
    from clear.engine.checkpoint import ContinualCheckpoint

Matrix = list[list[float | None]]


@dataclass
class RunRecord:
    """The one owner of what a continual run has measured and noted, from the first row to `results.json`.

    Args:
        acc_matrix: rows x columns, fractions: trained through bucket i, tested on bucket j; None where not measured.
            A square, or one column where one test set serves all.
        streaming_matrix: of the same shape: whole buckets that training has not reached, for the protocol 'both'.
        is_joint: one model is trained on all buckets at once and stands for every row.
        train_log: `experience`, `loss`, `accuracy` and `iterations` of every finished experience.
        timing: seconds of training and of measuring.
        branched_from: the checkpoint of another run that this one began with, how many experiences it had finished
            and what the config changes.
        own_metrics: of the config, computed from the matrix beside those of CLEAR.
    """

    acc_matrix: Matrix
    streaming_matrix: Matrix
    is_joint: bool = False
    train_log: list[dict[str, float]] = field(default_factory=list)
    timing: dict[str, float] = field(default_factory=lambda: dict(train_s=0.0, eval_s=0.0))
    branched_from: dict[str, Plain] | None = None
    own_metrics: Sequence[MeasuresMatrix] = ()

    @classmethod
    def empty(cls, rows: int, columns: int, *, is_joint: bool = False) -> RunRecord:
        """The record of a run that has measured nothing yet."""
        return cls(_unmeasured(rows, columns), _unmeasured(rows, columns), is_joint)

    @property
    def total(self) -> int:
        """Experiences that are trained in all; joint training is one."""
        return 1 if self.is_joint else len(self.acc_matrix)

    def add(self, row: Sequence[float | None], whole_buckets: Sequence[float | None], *, train_s: float, eval_s: float,
            **log: float) -> None:
        """Take what was measured behind the next experience.

        Args:
            row: accuracy on each test set.
            whole_buckets: accuracy on each whole bucket that training has not reached.
            train_s, eval_s: what training and measuring took.
            log: the numbers of the training log.
        """
        experience = len(self.train_log)
        for index in range(len(self.acc_matrix)) if self.is_joint else [experience]:
            self.acc_matrix[index] = list(row)
        self.streaming_matrix[experience] = list(whole_buckets)
        self.train_log.append(dict(experience=experience, **log))
        self.timing['train_s'] += train_s
        self.timing['eval_s'] += eval_s

    # The journal

    def entry(self, experience: int) -> Entry:
        """What the journal holds of a finished experience."""
        return dict(experience=experience, row=self.acc_matrix[experience],
                    whole_buckets=self.streaming_matrix[experience], log=self.train_log[experience])

    def entries(self) -> list[Entry]:
        """Those of all finished experiences."""
        return [self.entry(experience) for experience in range(len(self.train_log))]

    # Checkpoints

    def state(self) -> dict[str, object]:
        """What a checkpoint holds of it: `acc_matrix`, and `progress`; of a long stream the journal has the rows."""
        has_rows = is_self_contained(len(self.acc_matrix))
        return dict(acc_matrix=self.acc_matrix if has_rows else None,
                    progress=dict(timing=self.timing, branched_from=self.branched_from,
                                  train_log=self.train_log if has_rows else None,
                                  streaming_matrix=self.streaming_matrix if has_rows else None))

    def check(self, path: Path, checkpoint: ContinualCheckpoint) -> None:
        """Refuse a checkpoint whose place or matrices cannot be of this stream.

        The rows that the checkpoint of a long stream leaves to its journal are put into `checkpoint` first.

        Raises:
            CheckpointError: naming the key, or the rows that the journal has not got.
        """
        progress = checkpoint['progress']
        finished = progress['experience']
        # Inside an experience none may be finished yet, and the last one is not.
        first, last = (0, self.total - 1) if 'inside' in checkpoint else (1, self.total)
        if not first <= finished <= last:
            raise damaged(path, f'progress.experience is {finished} in a stream of {self.total}')
        if checkpoint['acc_matrix'] is None:
            self._fill_in(checkpoint, require_entries(path, finished))
        missing = [name for name in ('train_log', 'streaming_matrix') if progress[name] is None]
        if missing:
            raise damaged(path, f'progress.{missing[0]} is None')
        if len(progress['train_log']) != finished:
            raise damaged(path, f"progress.train_log has {len(progress['train_log'])} entries for {finished} "
                                'experience(s)')
        for name, matrix in (('acc_matrix', checkpoint['acc_matrix']),
                             ('progress.streaming_matrix', progress['streaming_matrix'])):
            if [len(row) for row in matrix] != [len(row) for row in self.acc_matrix]:
                raise damaged(path, f'{name} is not {len(self.acc_matrix)} rows of {len(self.acc_matrix[0])}')
            if not all(value is None or 0 <= value <= 1 for row in matrix for value in row):
                raise damaged(path, f'{name} holds what is no accuracy')

    def _fill_in(self, checkpoint: ContinualCheckpoint, entries: list[Entry]) -> None:
        matrices = dict(row=[list(row) for row in self.acc_matrix],
                        whole_buckets=[list(row) for row in self.streaming_matrix])
        for entry in entries[:len(self.acc_matrix)]:
            for name, matrix in matrices.items():
                matrix[entry['experience']] = entry[name]
        checkpoint['acc_matrix'] = matrices['row']
        checkpoint['progress'].update(streaming_matrix=matrices['whole_buckets'],
                                      train_log=[entry['log'] for entry in entries])

    def take_rows(self, checkpoint: ContinualCheckpoint) -> None:
        """Take over the rows and the log of a checkpoint that was checked, of this run or of another one."""
        self.acc_matrix = checkpoint['acc_matrix']
        self.streaming_matrix = checkpoint['progress']['streaming_matrix']
        self.train_log = checkpoint['progress']['train_log']

    def take(self, checkpoint: ContinualCheckpoint) -> None:
        """Go on as this run's own checkpoint says, which was checked."""
        self.take_rows(checkpoint)
        self.timing = checkpoint['progress']['timing']
        self.branched_from = checkpoint['progress'].get('branched_from')

    # Results

    def to_results(self, cfg: dict, info: ScenarioInfo, runner: str) -> Results:
        """The results of what is finished.

        Args:
            cfg: of the run, with all defaults.
            runner: name of its class.
        """
        config = computed_config(cfg)
        unseen = None if self.is_joint else info.unseen  # joint training has seen all classes
        extras = dict(bucket_names=info.column_names, class_names=info.class_names,
                      strategy=config['cl_strategy']['type'], config_text=config_text(config),
                      data_fingerprint=info.fingerprint, train_log=self.train_log)
        budget = {key: cfg[key] for key in ('max_iters_per_experience', 'max_time_per_experience')
                  if cfg[key] is not None}
        if budget:
            extras['budget'] = budget
        if info.rest is not None:
            extras['streaming'] = streaming_results(self.acc_matrix, self.streaming_matrix, unseen)
        if self.branched_from is not None:
            extras['branched_from'] = self.branched_from
        if unseen is not None:
            extras['unseen_mask'] = unseen
        if info.protocol == 'task-incremental':
            extras['task_labels'] = info.task_labels
            newest = self.acc_matrix[max(len(self.train_log) - 1, 0)]
            extras['task_accuracy'] = accuracy_by_task(newest, info.task_labels)
        if cfg['amp']:
            extras['amp'] = cfg['amp']
        if info.bad_samples is not None:
            extras['bad_samples'] = info.bad_samples.counts()
        return Results(
            name=cfg['name'] or 'run', runner=runner, protocol=f'clear/{info.protocol}/v1',
            metrics=self._metrics(info.protocol, unseen), acc_matrix=self.acc_matrix,
            overlap_mask=overlap_mask(len(self.acc_matrix), info.protocol), config_hash=config_hash(cfg),
            seeds=dict(train=cfg['seed'], split=cfg['scenario'].get('seed')), **software(),
            world_size=dist.world_size(), timing=self.timing, joint=self.is_joint, extras=extras)

    def _metrics(self, protocol: str, unseen: list[list[bool]] | None) -> dict[str, Plain]:
        """CLEAR's, then those of the config, of what could be known."""
        matrix = without_unseen(self.acc_matrix, unseen)
        found = clear_metrics(matrix, protocol)
        return {**found, **own_metrics(self.own_metrics, matrix, found)}


def _unmeasured(rows: int, columns: int) -> Matrix:
    return [[None] * columns for _ in range(rows)]
