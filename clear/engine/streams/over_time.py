"""Every checkpoint x every time bucket: encode once, probe everywhere, keep what is done, report matrices."""

from __future__ import annotations

import hashlib
import json
import time
from functools import cached_property
from pathlib import Path

from torch import nn

from clear.core import dist
from clear.core.config import config_hash, to_plain
from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json, write_json
from clear.core.logs import logger
from clear.core.programs.startup import choose_device
from clear.core.results import RESULTS_FILE, Results, software, write_results
from clear.engine.probing.tasks import build_task, task_name, task_options
from clear.engine.progress import Progress
from clear.engine.schema import check_names
from clear.engine.streams.over_time_data import choose_buckets, read_stream
from clear.engine.streams.over_time_keys import (
    KNOWN,
    Checkpoint,
    check_over_time_config,
    find_checkpoints,
    with_defaults,
)
from clear.engine.streams.over_time_table import format_results, matrix_metrics, write_table
from clear.evaluation.over_time import (
    EACH_BUCKET,
    OWN_BUCKET,
    PER_BUCKET,
    accuracy_matrix,
    protocols_of,
    reads_text,
    score_task,
    score_text_task,
    wanted_cells,
)
from clear.evaluation.task import ChecksClasses, ReadsFiles, Task, needs_of
from clear.features import FeatureBank, extract, identity_of, planned_banks
from clear.features.build import make_encoder

CELLS_FILE, TABLE_FILE, FIGURES, REPORT = 'cells.json', 'results.csv', 'figures', 'report.html'
SCHEMA = 1
PROTOCOL = 'clear/representation/v1'
_HEADINGS = {PER_BUCKET: 'a probe per bucket, trained and tested there',
             OWN_BUCKET: 'one probe per encoder, trained on its own bucket, tested on every',
             EACH_BUCKET: 'on each bucket'}


class RepresentationOverTime:
    """Measures how well every checkpoint's features serve every bucket.

    Finished feature banks and cells are kept: a run that was killed continues when it is started again. A cell belongs
    to the fingerprint of its bank, the lists of the stream and the task's options, so that what has changed is
    measured anew.

    Args:
        cfg: see `clear.engine.streams.over_time_keys`; not changed.
        work_dir: where cells, results, table and figures are written.
        is_checked: whether its keys have been checked.

    Raises:
        ConfigError, DataError, CheckpointError: for a config that cannot be run, before anything is encoded.
    """

    @building('The config')
    def __init__(self, cfg: dict, work_dir: str | Path, is_checked: bool = False):
        if dist.world_size() > 1:
            raise ConfigError('This program works in one process; tools/extract_features.py makes banks with several.')
        self.cfg = with_defaults(cfg)
        if not is_checked:
            check_names(cfg, KNOWN)
            check_over_time_config(self.cfg)
        self.work_dir = Path(work_dir)
        self.device = choose_device(self.cfg['device'])
        self.checkpoints = find_checkpoints(self.cfg['checkpoints'])
        self.data, self.source = read_stream(self.cfg['data'])
        self.columns = choose_buckets(self.data, self.cfg['buckets'])
        self.bucket_names = [self.data.train[place].name for place in self.columns]
        self.owns = [self.bucket_names.index(each.through) if each.through in self.bucket_names else None
                     for each in self.checkpoints]
        self.tasks = {str(task_name(task)): task_options(task, self.cfg['seed']) for task in self.cfg['tasks']}
        self._built = {name: build_task(options, str(self.device), self.cfg['num_workers'])
                       for name, options in self.tasks.items()}
        self._check_text()
        self._cells: dict[str, float] = {}
        self._keys: dict[tuple, str] = {}  # (checkpoint, task, trained on, tested on) -> key of the cell

    def describe(self) -> str:
        """What the run will do."""
        names = [f'{each.name} (through {each.through or "no bucket"})' for each in self.checkpoints]
        cells = sum(len(tests) for own in self.owns for task in self._built.values()
                    for tests in self._wanted(task, own).values())
        return '\n'.join([f'data         {self.data.root}, {len(self.source)} images',
                          f'buckets      {", ".join(self.bucket_names)}', f'checkpoints  {", ".join(names)}',
                          f'tasks        {", ".join(self.tasks)}', f'protocols    {", ".join(self._protocols())}',
                          f'cells        {cells} on {self.device.type}', f'work_dir     {self.work_dir}'])

    def plan(self) -> None:
        """Build every encoder with its weights and say which banks are there; nothing is encoded or written."""
        with planned_banks():
            for checkpoint in self.checkpoints:
                self._bank(checkpoint)

    def resume(self) -> int:
        """How many cells there are of an earlier run in the work_dir; `run` takes every one that still holds."""
        count = len(read_cells(self.work_dir / CELLS_FILE))
        logger.info('resumed: %d cells are there', count)
        return count

    def run(self) -> Results:
        """Measure what is missing; the results are also in the work_dir."""
        self._cells = read_cells(self.work_dir / CELLS_FILE)
        started = time.monotonic()
        progress = Progress(len(self.checkpoints) * len(self.tasks) * max(len(self.columns), 1))
        for index, checkpoint in enumerate(self.checkpoints):
            self._measure(index, *self._bank(checkpoint), progress)
            self._write(time.monotonic() - started)
            logger.info('%s  %s  %d of %d checkpoints  ETA %s', checkpoint.name, self._row_text(index), index + 1,
                        len(self.checkpoints), progress.eta())
        progress.close()
        results = self.results(time.monotonic() - started)
        self._draw(results)
        logger.info('%s\n\nresults  %s', format_results(results), self.work_dir / RESULTS_FILE)
        return results

    def _check_text(self) -> None:
        """Refuse data without what tasks on text read.

        Raises:
            DataError: for images without captions, or of other classes.
        """
        for name, task in self._built.items():
            if 'text' in needs_of(task) and 'caption' not in self.source:
                raise DataError(f'{name} needs captions, and the images of data have none.')
            if isinstance(task, ChecksClasses):
                task.check_classes(self.data.class_names)

    def _wanted(self, task: Task, own: int | None) -> dict[int, list[int]]:
        """Bucket that a probe is trained on -> those that it is tested on; a task on text is tested where it stands."""
        return wanted_cells((PER_BUCKET,) if reads_text(task) else self.cfg['protocols'], own, len(self.columns))

    def _protocols(self) -> list[str]:
        return list(dict.fromkeys(each for task in self._built.values()
                                  for each in protocols_of(task, self.cfg['protocols'])))

    def _bank(self, checkpoint: Checkpoint) -> tuple[nn.Module, FeatureBank]:
        encoder = dict(self.cfg['encoder'])
        if checkpoint.path is not None:
            options = encoder.get('weights') or {}
            if not isinstance(options, dict):
                raise ConfigError(f'encoder.weights is {options!r}; files come from checkpoints, so it may only be a '
                                  "dict of options such as dict(source='moco').")
            encoder['weights'] = {**options, 'path': str(checkpoint.path)}
        else:
            encoder['weights'] = None
        made, banks = make_encoder(encoder), self.cfg['banks']
        storage = {key: banks[key] for key in ('dtype',) if key in banks}
        identity = identity_of(made, self.source, data_hash=self._data_hash, **storage)
        return made, extract(made, self.source, identity=identity, device=self.device,
                             num_workers=self.cfg['num_workers'], **banks)

    @cached_property
    def _data_hash(self) -> str:
        """Of the images that every checkpoint encodes: their files are looked at once."""
        return self.source.fingerprint()

    @cached_property
    def _captions(self) -> dict[str, list[str]]:
        """Those of every image, by id."""
        return {name: self.source.captions(row) for row, name in enumerate(self.source.texts('id'))}

    @cached_property
    def _captions_hash(self) -> str:
        return hashlib.sha256(json.dumps(self._captions).encode()).hexdigest()

    def _measure(self, index: int, encoder: nn.Module, bank: FeatureBank, progress: Progress) -> None:
        """Fill the cells of one checkpoint; each probe's are written as soon as they are there."""
        for name, options in self.tasks.items():
            task = self._built[name]
            wanted = self._wanted(task, self.owns[index])
            for train in range(len(self.columns)):
                tests = wanted.get(train, [])
                for test in tests:
                    self._keys[index, name, train, test] = self._key(bank, task, options, train, test)
                todo = [test for test in tests if self._keys[index, name, train, test] not in self._cells]
                if todo:
                    scores = self._scores(task, encoder, bank, train, todo)
                    self._cells.update({self._keys[index, name, train, test]: score
                                        for test, score in zip(todo, scores)})
                    write_json(self.work_dir / CELLS_FILE, dict(schema=SCHEMA, cells=self._cells))
                progress.step(f'{self.checkpoints[index].name}  {name} on bucket {self.bucket_names[train]}')

    def _scores(self, task: Task, encoder: nn.Module, bank: FeatureBank, train: int, tests: list[int]) -> list[float]:
        lists, names = [self.data.test[self.columns[test]] for test in tests], self.data.class_names
        if not reads_text(task):
            return score_task(task, bank, self.data.train[self.columns[train]], lists, names)
        captions = self._captions if 'text' in needs_of(task) else None
        return [score_text_task(task, encoder, bank, bucket, names, captions) for bucket in lists]

    def _key(self, bank: FeatureBank, task: Task, options: dict, train: int, test: int) -> str:
        what = [bank.fingerprint, self.data.fingerprint, to_plain(options), self.bucket_names[train],
                self.bucket_names[test], *([self._captions_hash] if 'text' in needs_of(task) else []),
                *([task.files_fingerprint()] if isinstance(task, ReadsFiles) else [])]
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]

    def _value(self, index: int, task: str, train: int, test: int) -> float | None:
        return self._cells.get(self._keys.get((index, task, train, test), ''))

    # Results

    def matrices(self) -> dict[str, list[list[float | None]]]:
        """`'<task>/<protocol>'` -> accuracies, checkpoints x buckets, as far as they are measured."""
        return {f'{task}/{protocol}': accuracy_matrix(
            protocol, self.owns, len(self.columns),
            lambda row, train, test, task=task: self._value(row, task, train, test))
            for task, built in self._built.items() for protocol in protocols_of(built, self.cfg['protocols'])}

    def results(self, time_s: float) -> Results:
        """Everything measured so far; `acc_matrix` is the first matrix if it holds fractions, `extras.matrices` all."""
        matrices, metrics, undefined = self.matrices(), {}, {}
        for name, matrix in matrices.items():
            values, reasons = matrix_metrics(matrix, self.owns, self.bucket_names)
            metrics.update({f'{name}/{metric}': value for metric, value in values.items()})
            undefined[name] = reasons
        rows = [dict(name=each.name, through=each.through, file=each.path and each.path.name)
                for each in self.checkpoints]
        extras = dict(bucket_names=self.bucket_names, class_names=self.data.class_names, checkpoints=rows,
                      matrices=matrices, undefined=undefined, data_fingerprint=self.data.fingerprint)
        first = next(iter(matrices.values()))
        is_accuracy = all(value is None or 0 <= value <= 1 for row in first for value in row)
        return Results(name=self.cfg['name'] or 'representation_over_time', runner=type(self).__name__,
                       protocol=PROTOCOL, metrics=metrics, acc_matrix=first if is_accuracy else None,
                       config_hash=config_hash(self.cfg), seeds=dict(train=self.cfg['seed']), **software(),
                       timing=dict(measuring=time_s), extras=extras)

    def _write(self, time_s: float) -> None:
        results = self.results(time_s)
        write_results(self.work_dir / RESULTS_FILE, results)
        write_table(self.work_dir / TABLE_FILE, results)

    def _row_text(self, index: int) -> str:
        means = [(name, [value for value in matrix[index] if value is not None])
                 for name, matrix in self.matrices().items()]
        return '  '.join(f'{name} {sum(values) / len(values):.3f}' for name, values in means if values)

    def _draw(self, results: Results) -> None:
        from clear.visualization.figures import write_figures
        from clear.visualization.report import write_report
        from clear.visualization.representation import representation_figure

        title = self.cfg['name'] or 'representation over time'
        figures = {}
        for name, matrix in self.matrices().items():
            task, protocol = name.rsplit('/', 1)
            figures[f'{task}_{protocol}'] = representation_figure(
                matrix, [each.name for each in self.checkpoints], self.bucket_names, self.owns, title,
                f'{task}, {_HEADINGS[protocol]}', task if protocol == EACH_BUCKET else 'accuracy')
        write_figures(figures, self.work_dir / FIGURES)
        write_report(results, self.work_dir / REPORT, date=time.time())


def read_cells(path: Path) -> dict[str, float]:
    """The finished cells of an earlier run; none if there was none.

    Raises:
        DataError: if the file is damaged.
    """
    if not path.exists():
        return {}
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get('schema') != SCHEMA or not isinstance(stored.get('cells'), dict):
        raise DataError(f'{path} holds no cells of schema {SCHEMA}. Delete it to measure everything again.')
    wrong = [value for value in stored['cells'].values()
             if not isinstance(value, (int, float)) or not -1e300 < value < 1e300]
    if wrong:
        raise DataError(f'{path} holds {str(wrong[0])[:40]}, no number. Delete it to measure everything again.')
    return stored['cells']
