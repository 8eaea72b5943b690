"""Training over a stream: build from a config, train through the experiences, measure, save, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.evaluate import TestCount, count_correct
from clear.continual.journal import is_self_contained
from clear.continual.training.traits import trait
from clear.core import dist
from clear.core.config import to_plain
from clear.core.configs.building import building
from clear.core.logs import logger
from clear.core.programs.signals import on_stop
from clear.core.programs.startup import choose_device
from clear.core.results import RESULTS_FILE, Results, write_results
from clear.core.seeding import derive_seed, seed_everything
from clear.engine.checkpoint import find_checkpoint, load_model_weights
from clear.engine.continual.branch import branch_run
from clear.engine.continual.keys import check_continual_config, with_defaults
from clear.engine.continual.plan import (
    check_fit,
    check_last_batches,
    check_one_head,
    describe,
    planned_iterations,
    warn_of_unseen,
)
from clear.engine.continual.record import RunRecord
from clear.engine.continual.resume import resume_run
from clear.engine.continual.state import RunState
from clear.engine.progress import Progress
from clear.models import build_classifier, freeze, load_weights
from clear.models.sync_batch_norm import convert_sync_batch_norm
from clear.registry import STRATEGIES

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch.utils.data import Dataset

    from clear.continual.samples import SampleIndex

# Avalanche's metrics that look at no output of the model.
METRICS_WITHOUT_LOGITS = ('loss_metrics', 'timing_metrics', 'cpu_usage_metrics', 'gpu_usage_metrics',
                          'ram_usage_metrics', 'disk_usage_metrics', 'MAC_metrics', 'images_samples_metrics',
                          'labels_repartition_metrics', 'weight_checkpoint_metrics')

SECONDS_BETWEEN_RESULTS = 10.0


class ContinualRunner:
    """Trains a strategy over the experiences of a scenario and measures the accuracy matrix.

    Entry (i, j) is the top-1 accuracy on the test set of bucket j after training through bucket i. After every
    experience the checkpoint and `results.json` are written, and inside an experience `iteration.pth`, about once a
    minute or every `checkpoint_config.iter_interval` iterations; a resumed run ends as an uninterrupted one does.

    Args:
        cfg: a continual config (see `clear.engine.continual.keys`); not changed.
        work_dir: where everything is written; None writes nothing.
        is_checked: the config was checked, as a program does before it comes here.

    Raises:
        ConfigError, RegistryError: for a config that cannot be run, before any data are read.
    """

    @building('The config')
    def __init__(self, cfg: Config | dict, work_dir: Path | None = None, *, is_checked: bool = False):
        self.cfg = with_defaults(cfg)
        self.work_dir = Path(work_dir) if work_dir is not None else None
        if not is_checked:
            check_continual_config(self.cfg)
        self.device = choose_device(self.cfg['device'])
        self.strategy = None
        self.benchmark = None  # set before `build` where runs share their data
        self.label = ''  # begins the lines about an experience
        self.lane_width: int | None = None  # of how many runs the steps are made together
        self.is_joint = trait(STRATEGIES.require(self.cfg['cl_strategy']['type']), 'is_joint')

    # Building

    @building('The config')
    def build(self) -> None:
        """Read the data and build model, evaluator and strategy.

        Raises:
            ConfigError, DataError, CheckpointError: for parts that do not fit together.
        """
        from clear.continual.loggers import build_evaluator, needs_evaluation_pass, split_metrics
        from clear.continual.multitask import takes_tasks
        from clear.continual.strategies import build_strategy, quiet_avalanche
        from clear.continual.strategies.build import check_distributed
        from clear.continual.training.precision import set_precision

        check_distributed(self.cfg['cl_strategy'], dist.world_size())
        with quiet_avalanche():
            if self.benchmark is None:
                self.build_data()
            self.build_model()
            check_fit(self.cfg, self.model, self.info, self.device)
            (metrics, own), loggers = split_metrics(self.cfg['metrics']), self.cfg['loggers']
            if dist.world_size() > 1 and (metrics or loggers):
                logger.warning("Avalanche's metrics and loggers see the samples of one process only; with %d processes "
                               'they are off. The accuracy matrix and the loss cover all.', dist.world_size())
                metrics, loggers = [], []
            if trait(STRATEGIES.require(self.cfg['cl_strategy']['type']), 'embeds_in_training'):
                metrics = self._without_training_accuracy(metrics)
            if self.work_dir is None:
                loggers = []  # most open a file in the current folder when built
            evaluator = build_evaluator(loggers, metrics, self.work_dir, to_plain(self.cfg))
            self.runs_avalanche_eval = needs_evaluation_pass(evaluator)
            self.strategy = build_strategy(self.cfg['cl_strategy'], self.model, device=self.device, evaluator=evaluator)
            self.model = self.strategy.model  # some strategies need another than the config's, or more of it
            for plugin in self.strategy.plugins:
                check_one_head(self.model, plugin, type(plugin).__name__)
            if takes_tasks(self.model) and self.info.task_labels is not None:
                self.info.protocol = 'task-incremental'
            check_last_batches(self.cfg, self.strategy, self.info, self.device)
            self.scaler = set_precision(self.model, self.cfg['amp'], self.device)
            self.experiences = list(self.benchmark.train_stream)
            self.test_experiences = list(self.benchmark.test_stream)
        warn_of_unseen(self.info, self.is_joint)
        self.size = len(self.experiences)
        self.iterations = planned_iterations(self.cfg, self.info)
        self.record = RunRecord.empty(self.size, len(self.info.test), is_joint=self.is_joint)
        self.record.own_metrics = own
        if own:
            self.results()  # so that one that fails does so before training
        self._are_results_due, self._next_results = False, 0.0
        self.state = RunState(self)
        self.count = self._count
        self._index = None

    def _without_training_accuracy(self, metrics: list[dict]) -> list[dict]:
        """The metrics that do not take a training batch's output for logits: there it is embeddings."""
        kept = [metric for metric in metrics if metric['type'] in METRICS_WITHOUT_LOGITS]
        if len(kept) < len(metrics):
            logger.warning('%s learns embeddings, which are no logits: of the metrics %s are left out. The accuracy '
                           'matrix is measured as always.', self.cfg['cl_strategy']['type'],
                           ', '.join(metric['type'] for metric in metrics if metric not in kept))
        return kept

    def build_data(self) -> None:
        """Read the scenario: `self.benchmark`, `self.info`."""
        from clear.continual.scenarios import build_scenario

        self.benchmark = build_scenario(self.cfg['scenario'], self.work_dir)
        self.info = self.benchmark.info

    def share_data(self, other: ContinualRunner) -> None:
        """Let `build` take the data that a run of the same scenario has read."""
        self.benchmark, self.info = other.benchmark, other.info

    @building('The config')
    def build_model(self) -> None:
        """Build the model from the seed, load weights, freeze: `self.model`."""
        from clear.continual.multitask import with_task_labels

        seed_everything(derive_seed(self.cfg['seed'], 'model'))
        self.model = with_task_labels(build_classifier(self.cfg['model']))
        load_from = self.cfg['load_from']
        if load_from:
            options = dict(load_from) if isinstance(load_from, dict) else dict(path=load_from)
            path = options.pop('path')
            logger.info('load_from %s\n%s', path, load_weights(self.model, path, **options))
        if self.cfg['frozen'] or self.cfg['freeze_bn']:
            logger.info('%s', freeze(self.model, self.cfg['frozen'], self.cfg['freeze_bn']))
        self.model.to(self.device)
        if dist.world_size() > 1:
            convert_sync_batch_norm(self.model)

    def sample_index(self) -> SampleIndex:
        """Names the samples of the training stream by their position in it."""
        from clear.continual.samples import SampleIndex

        if self._index is None:
            self._index = SampleIndex([item.dataset for item in self.experiences])
        return self._index

    def describe(self) -> str:
        """What the run will do: data, model, steps, memory, disk."""
        return describe(self.cfg, self.model, self.info, self.iterations, self.device, self.work_dir)

    def _choose_mode(self) -> str:
        """How several processes divide the training of this strategy."""
        from clear.continual.scenarios import TensorBucket
        from clear.continual.state import loss_has_state
        from clear.continual.training.parallel import choose_mode

        options = self.cfg['cl_strategy']
        mode = choose_mode(trait(self.strategy, 'division'), options.get('plugins') or [],
                           tensors=all(isinstance(dataset, TensorBucket) for dataset in self.info.train))
        if self.info.protocol == 'task-incremental':
            mode = 'replicate'  # a process whose rows are of some tasks only would have gradients of some heads only
        if mode == 'shard' and loss_has_state(self.strategy):
            mode = 'gather'  # each process must see the whole batch, or each would count its own part
        if mode == 'replicate' and dist.world_size() > 1:
            logger.warning('%s updates in a way of its own: each of the %d processes does the whole training alike, '
                           'which is exact and no faster. Only the evaluation is divided.', options['type'],
                           dist.world_size())
        return mode

    # Training

    def train(self, resume: str | bool | None = None, branch: str | None = None) -> Results:
        """Train through the stream, from where the run was left if `resume` says so.

        Args:
            resume: True for `latest.pth` of the work_dir, or the path of a checkpoint.
            branch: path of a checkpoint of another run, to begin this one behind its experiences.

        Raises:
            Interrupted: after SIGTERM or Ctrl-C; what was finished is saved.
        """
        from clear.continual.strategies import quiet_avalanche

        first = self.begin(resume, branch)
        try:
            with on_stop(self.strategy.request_stop), quiet_avalanche():
                for experience in range(first, self.record.total):
                    started = time.monotonic()
                    self.learn(experience)
                    self.conclude(experience, time.monotonic() - started)
        finally:
            self.close()
        return self.finish()

    def begin(self, resume: str | bool | None = None, branch: str | None = None, *, is_silent: bool = False) -> int:
        """Make everything ready for training, as `train` is told to; how many experiences are finished.

        Args:
            is_silent: show no progress.
        """
        self.strategy.attach(seed=self.cfg['seed'], context=self.info.context, mode=self._choose_mode(),
                             scaler=self.scaler, max_iterations=self.cfg['max_iters_per_experience'],
                             max_seconds=self.cfg['max_time_per_experience'], on_iteration=self._on_iteration,
                             save_iteration=self.state.save_iteration)
        self.state.note_settings()
        first = 0
        if resume:
            first = resume_run(self, find_checkpoint(resume, self.work_dir))
        elif branch:
            first = branch_run(self, find_checkpoint(branch, self.work_dir))
        self.state.begin_journal()
        if self.lane_width is not None:
            self._next_results = time.monotonic() + SECONDS_BETWEEN_RESULTS
        self.progress = Progress(sum(self.iterations), is_silent=is_silent)
        self.progress.start_at(sum(self.iterations[:first]))
        return first

    def learn(self, experience: int) -> None:
        """Train on an experience."""
        data = self.experiences if self.is_joint else self.experiences[experience]
        policy = self.cfg['cl_strategy'].get('optimizer_policy', 'reset')
        self.strategy.train(data, eval_streams=[], num_workers=self.cfg['num_workers'],
                            reset_optimizer_state=policy == 'reset')
        self.model = self.strategy.model
        self.state.check_ranks()

    def conclude(self, experience: int, train_s: float) -> None:
        """Measure the row of an experience that is trained, save, and say what was measured."""
        started = time.monotonic()
        row, whole_buckets = self._measure(experience)
        self.record.add(row, whole_buckets, train_s=train_s, eval_s=time.monotonic() - started,
                        loss=self.strategy.epoch_loss, accuracy=self.strategy.epoch_accuracy,
                        iterations=self.strategy.clock.train_exp_iterations)
        self._save(experience)
        self.progress.clear()
        logger.info('%sexperience %d/%d  bucket %s  train loss %.4f  own test bucket %s  mean of all %s  ETA %s',
                    self.label, experience + 1, self.record.total, self.info.bucket_names[experience],
                    self.strategy.epoch_loss, _fraction(row[min(experience, len(row) - 1)]), _fraction(_mean(row)),
                    self.progress.eta())

    def close(self) -> None:
        """Take the progress off the screen and write what is finished, also where training is broken off."""
        self.progress.close()
        self._write_results()

    def _measure(self, experience: int) -> tuple[list[float | None], list[float | None]]:
        """Accuracies on the test sets, and on the whole buckets that training has not reached."""
        row, whole_buckets = [], [None] * len(self.info.test)
        for index, dataset in enumerate(self.info.test):
            count = self.count(dataset, index)
            row.append(count.accuracy)
            self._leave_out(index, count.bad_rows)
            self.strategy.agree_to_stop()
            self.strategy.check_stop()
            if self.info.rest is not None and index > experience and not self.is_joint:
                whole_buckets[index] = self._whole_bucket(index, count)
        if self.runs_avalanche_eval:
            self.strategy.eval(self.test_experiences, num_workers=self.cfg['num_workers'])
        return row, whole_buckets

    def task_of(self, index: int) -> tuple[bool, int | None]:
        """Whether the model has a head for a test set, and the task that it is told; None where tasks have no names."""
        from clear.continual.multitask import known_tasks

        task = self.info.task_labels[index] if self.info.protocol == 'task-incremental' else None
        return task is None or task in known_tasks(self.model), task

    def _count(self, dataset: Dataset, index: int) -> TestCount:
        is_known, task = self.task_of(index)
        if not is_known:
            return TestCount(0, 0, [])
        return count_correct(self.model, dataset, batch_size=self.cfg['cl_strategy']['eval_mb_size'],
                             device=self.device, num_workers=self.cfg['num_workers'], task=task)

    def _whole_bucket(self, index: int, tested: TestCount) -> float | None:
        """Accuracy on all images of a bucket that training has not reached, from the count on its test images."""
        count = self.count(self.info.rest[index], index)
        total = tested.total + count.total
        return (tested.correct + count.correct) / total if total else None

    def _leave_out(self, index: int, bad_rows: list[int]) -> None:
        # Avalanche's evaluation, if the config asks for it, must not meet an unreadable image either.
        experience = self.test_experiences[index]
        if bad_rows and len(experience.dataset) == len(self.info.test[index]):
            bad = set(bad_rows)
            readable = [row for row in range(len(experience.dataset)) if row not in bad]
            experience.dataset = experience.dataset.subset(readable)

    def _on_iteration(self, strategy) -> None:
        clock = strategy.clock
        self.progress.step(f'experience {clock.train_exp_counter + 1}/{self.size} epoch {clock.train_exp_epochs + 1}/'
                           f'{strategy.train_epochs}', self._numbers)

    def _numbers(self) -> dict[str, float | None]:
        """Mean loss of the epoch so far and learning rate, for the progress line."""
        groups = getattr(self.strategy.optimizer, 'param_groups', None)
        return dict(loss=self.strategy.epoch_counts.loss_so_far(), lr=groups[0]['lr'] if groups else None)

    def _save(self, experience: int) -> None:
        if self.work_dir is None or not dist.is_main():
            return
        self.state.save_experience(experience)
        self._are_results_due = True
        # A long stream would spend its time on writing a file that grows with every experience.
        # A lane would write one for each of its runs.
        if (is_self_contained(self.size) and self.lane_width is None) or time.monotonic() >= self._next_results:
            self._write_results()

    def _write_results(self) -> None:
        """Write `results.json` if an experience was finished since the last time."""
        if not self._are_results_due:
            return
        write_results(self.work_dir / RESULTS_FILE, self.results())
        self._are_results_due = False
        self._next_results = time.monotonic() + SECONDS_BETWEEN_RESULTS

    # Results

    def results(self) -> Results:
        """The results of what is finished."""
        results = self.record.to_results(self.cfg, self.info, type(self).__name__)
        if self.lane_width is not None:
            results.extras['lane'] = self.lane_width
        return results

    def finish(self) -> Results:
        """Write and show the results of the whole run."""
        results = self.results()
        if dist.is_main():
            from clear.visualization.tables import format_matrix, format_metrics

            logger.info('\n%s\n\n%s',
                        format_matrix(results.acc_matrix, results.bucket_names), format_metrics(results.metrics))
            if 'streaming' in results.extras:
                streaming = results.extras['streaming']
                logger.info('\nstreaming: whole buckets, before training reached them\n%s\ninflation_gap %s '
                            '(in_domain of iid - next_domain of streaming)', format_metrics(streaming['metrics']),
                            _fraction(streaming['inflation_gap']))
            if self.work_dir is not None:
                write_results(self.work_dir / RESULTS_FILE, results)
                logger.info('\nresults  %s', self.work_dir / RESULTS_FILE)
                if self.cfg['report']:
                    self._write_report(results)
        return results

    def _write_report(self, results: Results) -> None:
        from clear.visualization import draw_figures, write_report

        draw_figures(results, self.work_dir / 'figures')
        write_report(results, self.work_dir / 'report.html', date=time.time())
        logger.info('report   %s', self.work_dir / 'report.html')

    def test(self, checkpoint: Path) -> list[float | None]:
        """Top-1 accuracy of a checkpoint's weights on the test set of every bucket."""
        load_model_weights(self.model, checkpoint)
        return [self._count(dataset, index).accuracy for index, dataset in enumerate(self.info.test)]


def _fraction(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


def _mean(row: list[float | None]) -> float | None:
    known = [value for value in row if value is not None]
    return sum(known) / len(known) if known else None
