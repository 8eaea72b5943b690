"""The log of a run by epochs: means over all samples, `results.json`, and the curves at the end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from mmengine.hooks import Hook

from clear.core import dist
from clear.core.contracts import Measures
from clear.core.logs import logger
from clear.core.results import RESULTS_FILE, write_results
from clear.registry import HOOKS
from clear.visualization import report

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mmengine.hooks.hook import DATA_BATCH

    from clear.core.types import LogEntry
    from clear.engine.training.runner import Runner

# Numbers that one name may hold in the log of an epoch: a confusion matrix of 100 classes.
LARGEST = 10_000


class Sums(TypedDict):
    """What a checkpoint holds of an epoch that is not finished."""

    sums: dict[str, torch.Tensor]
    counts: dict[str, int]
    lr: float | None
    measured: dict[str, float | list]


@HOOKS.register_module()
class ResultsHook(Hook):
    """Keeps one entry per epoch in `runner.train_log` and writes `results.json` after each.

    An entry has `epoch` (from 1), `iteration` (so far), `lr` (of the first parameter group in the last iteration),
    the mean over iterations and processes of everything that the model's loss returns, and what validation and the
    online evaluations measured; of mmpretrain's EMAHook also the numbers of the weights themselves, which it puts into
    the message hub alone. The sums are part of the checkpoint, so a resumed run logs the same numbers.

    Args:
        figures: whether to write `report.html` at the end, and the curves as files where matplotlib is installed.
    """

    priority = 'NORMAL'

    def __init__(self, figures: bool = True):
        self.figures = figures
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = {}
        self._measured: dict[str, float | list] = {}
        self._lr: float | None = None
        self._noted: dict[str, int] = {}
        self._started = time.monotonic()

    def state_dict(self) -> Sums:
        return dict(sums={name: value.cpu() for name, value in self.sums.items()}, counts=dict(self.counts),
                    lr=self._lr, measured=dict(self._measured))

    def load_state_dict(self, state: Sums) -> None:
        self.sums = {name: torch.as_tensor(value) for name, value in state['sums'].items()}
        self.counts = {name: int(state['counts'][name]) for name in self.sums}
        self._lr = None if state['lr'] is None else float(state['lr'])
        # Numbers, or lists of them; anything else is refused here.
        self._measured = {name: np.asarray(value, dtype=float).tolist() for name, value in state['measured'].items()}

    def merge_states(self, states: list[Sums]) -> None:
        """Share the sums of another number of processes out, so that means over all stay what they are."""
        self.sums = {name: sum(state['sums'][name] for state in states) / len(states) for name in states[0]['sums']}

    def before_train(self, runner: Runner) -> None:
        self._noted = _notes(runner)
        self._started = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        for name, value in (outputs or {}).items():
            known = self.sums.get(name)
            if known is None or not isinstance(value, torch.Tensor):
                value = torch.as_tensor(value, dtype=torch.float64)
            value = value.detach().reshape(())
            # A sum is in float64 whatever it adds.
            self.sums[name] = value.clone() if known is None else known.to(value.device) + value
            self.counts[name] = self.counts.get(name, 0) + 1
        self._lr = runner.optim_wrapper.param_groups[0]['lr']

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        for name, value in (metrics or {}).items():
            self.add(f'val_{name}', value)

    def add(self, name: str, value: float) -> None:
        """Put a number, or lists of numbers, into the entry of the current epoch; anything else is left out."""
        plain = measured_value(value)
        if plain is not None:
            self._measured[name] = plain

    def after_whole_epoch(self, runner: Runner) -> None:
        # Before the checkpoint of the epoch, which must hold its entry: CheckpointHook comes later in the order.
        entry: LogEntry = dict(epoch=runner.epoch, iteration=runner.iter, lr=self._lr)
        if self.sums:
            # A model may measure something in some iterations only: each name has its own count.
            means = torch.stack([value.to(runner.device) / self.counts[name] for name, value in self.sums.items()])
            means = (dist.sum_over_ranks(means) / dist.world_size()).tolist()
            entry.update(zip(self.sums, means))
        before, self._noted = self._noted, _notes(runner)
        for name, count in self._noted.items():
            if count > before.get(name, 0):
                self.add(f'val_{name}', runner.message_hub.get_scalar(f'val/{name}').current())
        entry.update(self._measured)
        runner.train_log.append(entry)
        now = time.monotonic()
        runner.timing['train_s'] = runner.timing.get('train_s', 0.0) + now - self._started
        self._started = now
        self.sums, self.counts, self._measured = {}, {}, {}

    def after_train(self, runner: Runner) -> None:
        if dist.is_main():
            self._write(runner)
            if self.figures:
                draw_curves(runner)
                report.write_report(runner.results(), Path(runner.work_dir) / 'report.html')

    def after_epoch_saved(self, runner: Runner) -> None:
        if not dist.is_main():
            return
        self._write(runner)
        runner.clear_progress()
        entry = runner.train_log[-1]
        numbers = '  '.join(f'{name} {value:.4g}' for name, value in entry.items()
                            if name not in ('epoch', 'iteration') and isinstance(value, float))
        logger.info('epoch %d/%d  %s  ETA %s', entry['epoch'], runner.max_epochs, numbers, runner.eta())

    def _write(self, runner: Runner) -> None:
        write_results(Path(runner.work_dir) / RESULTS_FILE, runner.results())


def _notes(runner: Runner) -> dict[str, int]:
    """What mmpretrain's EMAHook has put into the message hub: name -> how many values."""
    return {name.removeprefix('val/'): len(history.data[0]) for name, history in runner.message_hub.log_scalars.items()
            if name.startswith('val/') and name.endswith('_origin')}


def measured_value(value: object) -> float | list | None:
    """What an evaluator measured as a number, or as lists of numbers (a value per class, a confusion matrix).

    None for what is neither, or holds more than 10,000 numbers.
    """
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if array.size > LARGEST:
        return None
    return array.item() if array.size == 1 else array.tolist()


def draw_curves(runner: Runner) -> list[Path]:
    """Write `figures/<name>.png` of everything that was logged over epochs; none where matplotlib is absent."""
    try:
        from clear.visualization.figures import new_figure, write_figures
        measures = {name for hook in runner.hooks if isinstance(hook, Measures) for name in hook.measures}
        log = [*([dict(epoch=0, **runner.measured_at_start)] if runner.measured_at_start else []), *runner.train_log]
        figures = _curves(log, measures, runner.run_name, new_figure)
        return write_figures(figures, Path(runner.work_dir) / 'figures')
    except ImportError:
        logger.info('No figures: matplotlib is not installed.')
        return []


def _curves(train_log: list[LogEntry], measures: Container[str], title: str,
            new_figure: Callable[[float, float, str, str], Figure]) -> dict[str, Figure]:
    """Losses in one figure; what validation and hooks measured in another, if there is any, from before training on."""
    names = dict.fromkeys(key for entry in train_log for key in entry if key not in ('epoch', 'iteration', 'lr'))
    groups = dict(loss=[name for name in names if name.startswith('loss')],
                  measured=[name for name in names if name.startswith('val_') or name in measures])
    figures = {}
    for stem, members in groups.items():
        curves = {name: [(entry['epoch'], entry[name]) for entry in train_log
                         if isinstance(entry.get(name), float) and math.isfinite(entry[name])] for name in members}
        curves = {name: points for name, points in curves.items() if points}
        if not curves:
            continue
        figure = new_figure(6.0, 4.0, title, stem)
        axes = figure.subplots()
        for name, points in curves.items():
            axes.plot(*zip(*points), marker='.', label=name)
        axes.set_xlabel('epoch')
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        figures[stem] = figure
    return figures
