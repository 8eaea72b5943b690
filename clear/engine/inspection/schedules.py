"""The learning rate (and other settings of the optimiser) that a config will train with, without training."""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch.utils.data import Dataset

from clear.core.config import to_plain
from clear.core.errors import ConfigError
from clear.engine.runners import runner_type
from clear.registry import DATASETS
from clear.visualization.figures import new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from mmengine.config import Config
    from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
    from torch.optim import Optimizer

# Iterations past which a curve is too long to be walked step by step in a minute.
LONGEST = 5_000_000
# What a schedule does not depend on, and may want to read data or weights.
_BESIDE_TRAINING = ('load_from', 'visualizer', 'custom_hooks', 'val_dataloader', 'val_cfg', 'val_evaluator',
                    'test_dataloader', 'test_cfg', 'test_evaluator')
# Points that a line of a figure shows; what lies between two of them is narrower than a pixel.
POINTS = 4000


@dataclass
class Schedule:
    """The settings of every parameter group, one value per training iteration.

    Attributes:
        what: the setting, as optimisers call it: 'lr', 'momentum', 'weight_decay'.
        groups: label -> values; groups with equal values are one.
        starts: the first iteration of each part: epochs of an ordinary run, experiences of a stream.
        part: what the parts are called.
    """

    what: str
    groups: dict[str, list[float]]
    starts: list[int] = field(default_factory=list)
    part: str = 'epoch'

    def __len__(self) -> int:
        return len(next(iter(self.groups.values())))


@DATASETS.register_module()
class CountedSamples(Dataset):
    """So many samples, none of which can be read: a schedule needs their number alone.

    Args:
        size: how many.
    """

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> object:
        raise NotImplementedError


def read_schedule(cfg: Config, what: str = 'lr', dataset_size: int | None = None) -> Schedule:
    """The schedule of a config, walked through as its run would.

    The schedulers are the run's own, built from the config and stepped where training steps them. What hooks or
    strategies do to an optimiser beside them is not seen.

    Args:
        cfg: of an ordinary, a continual or a stream config; checked.
        what: a setting of the optimiser.
        dataset_size: training samples to assume, in place of reading the data (ordinary runs; of a stream, the images
            of one bucket, all of which have the schedule of the config).

    Raises:
        ConfigError: for a config without an optimiser, a setting that it has not, or a schedule that follows the loss.
    """
    kind = runner_type(cfg)
    if kind == 'ContinualRunner':
        if dataset_size is not None:
            raise ConfigError('--dataset-size is for ordinary runs; a continual config has a size for every bucket, '
                              'which its data say.')
        return _of_stream(cfg, what)
    if kind not in ('Runner', 'StreamRunner'):
        raise ConfigError(f'A {kind} trains with no schedule that could be shown.')
    if kind == 'StreamRunner' and cfg.get('stream') is not None:
        if dataset_size is None:
            raise ConfigError('Every bucket of the stream has this schedule, over its own number of images: say one '
                              'with --dataset-size, e.g. --dataset-size 10000.')
        cfg = copy.deepcopy(cfg)
        cfg.pop('stream')
    return _of_run(cfg, what, dataset_size)


def _of_run(cfg: Config, what: str, dataset_size: int | None) -> Schedule:
    import tempfile

    from mmengine.optim import ReduceOnPlateauParamScheduler

    from clear.engine.training.hooks.param_scheduler import ParamSchedulerHook
    from clear.engine.training.optimisation import wrappers_of
    from clear.engine.training.program import build_runner

    if dataset_size is not None:
        if dataset_size < 1:
            raise ConfigError(f'--dataset-size is {dataset_size}; expected at least 1.')
        cfg = copy.copy(cfg)
        cfg['train_dataloader'] = {**cfg['train_dataloader'], 'dataset': dict(type='CountedSamples', size=dataset_size)}
    kept = {key: value for key, value in cfg.items() if key not in _BESIDE_TRAINING}
    loader = {**kept['train_dataloader'], 'num_workers': 0, 'persistent_workers': False}
    kept['train_dataloader'] = {key: value for key, value in loader.items() if key != 'prefetch_factor'}
    with tempfile.TemporaryDirectory() as scratch:
        runner = build_runner({**kept, 'work_dir': scratch})
    if any(isinstance(scheduler, ReduceOnPlateauParamScheduler) for scheduler in runner.all_schedulers()):
        raise ConfigError('The schedule lowers the rate when a measurement stands still: it shows in training alone.')
    hook = next((hook for hook in runner.hooks if isinstance(hook, ParamSchedulerHook)), None)
    optimizers = [wrapper.optimizer for wrapper in wrappers_of(runner.optim_wrapper)]
    length = len(runner.train_loop.dataloader) if runner.is_epoch_based else 0
    total = _check_length(runner.train_loop.max_iters)
    for optimizer in optimizers:
        _merge_equal_groups(optimizer, [each for each in runner.all_schedulers() if each.optimizer is optimizer])
    walk = _Walk(what, optimizers)
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Detected call of `scheduler.step')
        for number in range(total):
            walk.note()
            if hook is not None:
                hook.after_train_iter(runner, number)
                if length and (number + 1) % length == 0:
                    hook.after_train_epoch(runner)
    return walk.schedule(list(range(0, total, length)) if length else [], 'epoch')


def _merge_equal_groups(optimizer: Optimizer, schedulers: Sequence[_ParamScheduler]) -> None:
    """Keep one of the groups that have the same settings: a schedule moves them alike, and there may be hundreds."""
    settings = [to_plain({key: value for key, value in group.items() if key != 'params'})
                for group in optimizer.param_groups]
    first = [settings.index(each) for each in settings]
    kept = sorted(set(first))
    for place in kept:
        optimizer.param_groups[place]['merged'] = first.count(place)
    for scheduler in schedulers:
        scheduler.base_values = [scheduler.base_values[place] for place in kept]
    optimizer.param_groups = [optimizer.param_groups[place] for place in kept]


def _of_stream(cfg: Config, what: str) -> Schedule:
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    from clear.continual.training.schedule import SchedulePlugin
    from clear.continual.training.traits import trait
    from clear.engine.continual.plan import planned_iterations
    from clear.engine.continual.runner import ContinualRunner
    from clear.features import planned_banks

    runner = ContinualRunner(cfg, is_checked=True)
    with planned_banks():
        runner.build()
    if not trait(runner.strategy, 'needs_optimizer'):
        raise ConfigError(f"cl_strategy.type {cfg['cl_strategy']['type']} has no optimiser.")
    optimizer = runner.strategy.optimizer
    plugin = next((each for each in runner.strategy.plugins if isinstance(each, SchedulePlugin)), None)
    # A budget cuts an experience short, not its epochs.
    unlimited = planned_iterations({**runner.cfg, 'max_iters_per_experience': None}, runner.info)
    lengths = [max(1, count // runner.cfg['cl_strategy']['train_epochs']) for count in unlimited]
    _check_length(sum(runner.iterations))
    walk, starts = _Walk(what, [optimizer]), []
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Detected call of `lr_scheduler.step')
        for count, length in zip(runner.iterations, lengths):
            starts.append(len(walk))
            if plugin is not None:
                plugin.prepare(optimizer)
                if isinstance(plugin.scheduler, ReduceLROnPlateau):
                    raise ConfigError('ReduceLROnPlateau lowers the rate when the loss stands still: it shows in '
                                      'training alone.')
            for number in range(count):
                walk.note()
                if plugin is not None:
                    plugin.after_training_iteration(runner.strategy)
                    if (number + 1) % length == 0:
                        plugin.after_training_epoch(runner.strategy)
    return walk.schedule(starts, 'experience')


def _check_length(iterations: float) -> int:
    if iterations > LONGEST:
        raise ConfigError(f'{iterations:,.0f} iterations are more than can be walked through in a minute (the most '
                          f'are {LONGEST:,}).')
    return int(iterations)


class _Walk:
    """Notes a setting of every group of some optimisers."""

    def __init__(self, what: str, optimizers: Sequence[Optimizer]):
        self.what = what
        self.groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        self.values: list[list[float]] = [[] for _ in self.groups]
        if not any(self._value(group) is not None for group in self.groups):
            known = sorted({name for group in self.groups for name, value in group.items()
                            if isinstance(value, (int, float)) and not isinstance(value, bool)}
                           - {'initial_lr', 'merged'})
            raise ConfigError(f"The optimiser has no '{what}'. It has: {', '.join(known)}.")

    def __len__(self) -> int:
        return len(self.values[0])

    def note(self) -> None:
        for group, values in zip(self.groups, self.values):
            values.append(self._value(group))

    def _value(self, group: dict) -> float | None:
        value = group.get(self.what)
        if self.what == 'momentum' and value is None and 'betas' in group:
            value = group['betas'][0]  # what mmengine's momentum schedulers change in the Adam family
        return None if value is None else float(value)

    def schedule(self, starts: list[int], part: str) -> Schedule:
        """Groups that have the same values all through are one line, named by how many there are."""
        curves: dict[tuple, int] = {}
        for group, values in zip(self.groups, self.values):
            curves[tuple(values)] = curves.get(tuple(values), 0) + group.get('merged', 1)
        if len(curves) == 1:
            groups = {self.what: list(next(iter(curves)))}
        else:
            total = sum(curves.values())
            groups = {f'{count} of {total} groups': list(curve) for curve, count in curves.items()}
            if len(groups) < len(curves):  # as many of one kind as of another
                groups = {f'curve {number + 1}, {count} of {total} groups': list(curve)
                          for number, (curve, count) in enumerate(curves.items())}
        return Schedule(self.what, groups, starts, part)


def schedule_figure(schedule: Schedule, title: str) -> Figure:
    """The curves over iterations; dotted lines where experiences begin."""
    figure = new_figure(8, 4, title, f'{schedule.what} over {len(schedule):,} iterations, '
                                     f'{len(schedule.starts) or 1} {schedule.part}s')
    axes = figure.subplots()
    shown = sorted(schedule.groups.items(), key=lambda item: max(item[1]), reverse=True)
    styles = ('-', '--', '-.', ':')
    for number, (label, values) in enumerate(shown[:12]):
        step = max(1, math.ceil(len(values) / POINTS))
        axes.step(range(0, len(values), step), values[::step], where='post', label=label,
                  linestyle=styles[number % len(styles)])
    if schedule.part == 'experience':
        for start in schedule.starts[1:]:
            axes.axvline(start, color='0.6', linestyle=':', linewidth=1)
    axes.set_xlabel('iteration')
    axes.set_ylabel(schedule.what)
    axes.grid(color='0.93')
    axes.set_axisbelow(True)
    if len(shown) > 1:
        more = f' ({len(shown) - 12} more not drawn)' if len(shown) > 12 else ''
        axes.legend(fontsize=8, frameon=False, title=f'{len(shown)} curves{more}' if more else None)
    return figure
