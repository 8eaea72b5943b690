"""When a run is saved: after every epoch, now and then inside one, and when it is told to stop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.hooks import Hook

from clear.core import dist
from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.contracts import Measures
from clear.core.errors import ConfigError, Interrupted
from clear.core.logs import logger
from clear.engine.checkpoint import LATEST, link_checkpoint, numbered_checkpoints
from clear.engine.training.optimisation import is_step_end
from clear.engine.training.state import write_checkpoint
from clear.registry import HOOKS

if TYPE_CHECKING:
    from clear.engine.training.runner import Runner

# Iterations between two questions to the other processes on GPUs, where asking waits for the device.
GPU_INTERVAL = 10


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Writes `latest.pth` after every epoch, and keeps some epochs as `epoch_<n>.pth` (n counts from 1).

    mmengine's writes pickled objects, not atomically, and only between epochs. On SIGTERM the run is saved at the end
    of the optimiser step and ends; several processes agree on the iteration.

    Args:
        interval: keep every so many epochs (with `by_epoch=False`, iterations, as `iter_<n>.pth`); -1 keeps none.
        iter_interval: also write `latest.pth` every so many iterations, at the end of the optimiser step.
        max_keep: of those kept by `interval`, only so many, the newest; None keeps all.
        milestones: epochs that are kept whatever `interval` and `max_keep` say.
        save_best: what the validation or an online evaluation measures, e.g. 'accuracy/top1' or 'knn_top1'; 'auto' is
            the first metric of the validation, or of the online evaluations where there is none. `best.pth` is the
            epoch where it was best, the first of equal ones; values that are not finite do not count.
        rule: 'greater', or 'less' where lower is better; None is 'less' for names with 'loss' in them.
        max_keep_ckpts: mmengine's name of `max_keep`.

    Raises:
        ConfigError: for numbers that are no positive whole ones, and before training if nothing measures `save_best`.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = -1, by_epoch: bool = True, iter_interval: int | None = None,
                 max_keep: int | None = None, milestones: Sequence[int] = (), save_best: str | None = None,
                 rule: str | None = None, max_keep_ckpts: int | None = None):
        if max_keep is None and max_keep_ckpts is not None and max_keep_ckpts > 0:
            max_keep = max_keep_ckpts
        if interval != -1:
            check_whole('CheckpointHook.interval', interval, 1)
        for name, value in (('iter_interval', iter_interval), ('max_keep', max_keep)):
            if value is not None:
                check_whole(f'CheckpointHook.{name}', value, 1)
        if not isinstance(milestones, (list, tuple, set, frozenset)):
            raise ConfigError(f'CheckpointHook.milestones is {milestones!r}; expected a list of epochs.')
        for value in milestones:
            check_whole('CheckpointHook.milestones', value, 1)
        check_choice('CheckpointHook.rule', rule, ('greater', 'less', None))
        check_flag('CheckpointHook.by_epoch', by_epoch)
        if save_best is not None and (not isinstance(save_best, str) or not save_best):
            raise ConfigError(f"CheckpointHook.save_best is {save_best!r}; expected 'auto' or the name of one metric.")
        self.interval, self.by_epoch, self.iter_interval = interval, by_epoch, iter_interval
        self.max_keep, self.milestones = max_keep, frozenset(milestones)
        self.save_best, self.rule = save_best, rule
        self.best: float | None = None
        self._online: tuple[str, ...] = ()
        self._is_best = self._is_overdue = self._keeps = self._stop_agreed = False

    def state_dict(self) -> dict[str, float | None]:
        return dict(best=self.best)

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self.best = None if state['best'] is None else float(state['best'])

    def before_run(self, runner: Runner) -> None:
        if self.save_best is None or not runner.is_training:
            return
        self._online = tuple(name for hook in runner.hooks if isinstance(hook, Measures)
                             for name in hook.measures)
        if runner._val_loop is not None:
            return  # What it measures shows when it has run.
        if self.save_best == 'auto' and self._online:
            self.save_best = self._online[0]
        if self.save_best not in self._online:
            raise ConfigError(f"CheckpointHook.save_best is '{self.save_best}', but there is no validation, and "
                              f'{self._measured()}. Add val_dataloader, val_cfg and val_evaluator, or an '
                              'OnlineKNNHook.')

    def before_train(self, runner: Runner) -> None:
        if runner.iter > 0 and dist.is_main():
            self._drop_old(Path(runner.work_dir))  # a kill may have come before

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if self.save_best is None or not metrics or self.save_best in self._online:
            return
        name = next(iter(metrics)) if self.save_best == 'auto' else self.save_best
        if name not in metrics:
            raise ConfigError(f"CheckpointHook.save_best is '{name}', but the validation measures "
                              f'{", ".join(metrics)}, and {self._measured()}.')
        self._compare(name, metrics[name])

    def after_measurement(self, runner: Runner, metrics: dict[str, float]) -> None:
        """What an online evaluation measured, in the first process alone: it also names the files."""
        if self.save_best in metrics:
            self._compare(self.save_best, metrics[self.save_best])

    def _compare(self, name: str, value: float) -> None:
        value = float(value)
        is_less = self.rule == 'less' or self.rule is None and 'loss' in name
        if math.isfinite(value) and (self.best is None or (value < self.best if is_less else value > self.best)):
            self.best, self._is_best = value, True

    def _measured(self) -> str:
        return f'online evaluations measure {", ".join(self._online) or "nothing"}'

    def after_whole_iter(self, runner: Runner) -> None:
        loop = runner.train_loop
        done = runner.iter
        self._is_overdue |= self.iter_interval is not None and done % self.iter_interval == 0
        self._keeps |= not self.by_epoch and self.interval > 0 and done % self.interval == 0
        self._is_overdue |= self._is_best and not runner.is_epoch_based
        must_stop = self._must_stop(runner)
        if not is_step_end(runner.optim_wrapper):
            # Waiting gradients are no part of a checkpoint: save at the end of the step.
            return
        # The end of an epoch follows at once and saves more.
        ends_epoch = runner.is_epoch_based and loop.batch == len(loop.dataloader)
        if self._keeps or ((self._is_overdue or must_stop) and not ends_epoch):
            names = [f'iter_{done}.pth'] if self._keeps else []
            self._is_overdue = self._keeps = False
            self._save(runner, names)
        if must_stop and not ends_epoch and done < runner.max_iters:
            raise Interrupted(f'Stopped by a signal after iteration {done} of {runner.max_iters}; saved in '
                              f'{Path(runner.work_dir) / LATEST}. Continue with --resume.')

    def after_whole_epoch(self, runner: Runner) -> None:
        epoch = runner.epoch
        is_kept = self.by_epoch and self.interval > 0 and epoch % self.interval == 0
        names = [f'epoch_{epoch}.pth'] if runner.is_epoch_based and (is_kept or epoch in self.milestones) else []
        self._is_overdue = False
        self._save(runner, names)

    def after_epoch_saved(self, runner: Runner) -> None:
        if runner.iter < runner.max_iters and dist.any_rank(runner.stop_requested, runner.device):
            raise Interrupted(f'Stopped by a signal after epoch {runner.epoch} of {runner.max_epochs}; saved in '
                              f'{Path(runner.work_dir) / LATEST}. Continue with --resume.')

    def _must_stop(self, runner: Runner) -> bool:
        if dist.world_size() == 1:
            return runner.stop_requested
        if self._stop_agreed:
            return True
        if runner.device.type == 'cuda' and runner.iter % GPU_INTERVAL:
            return False
        self._stop_agreed = dist.any_rank(runner.stop_requested, runner.device)
        return self._stop_agreed

    def _save(self, runner: Runner, names: list[str]) -> None:
        """Write a checkpoint under all of `names`, and `latest.pth`; every process takes part."""
        runner.call_hook('before_checkpoint')
        if self._is_best:
            names, self._is_best = [*names, 'best.pth'], False
        # latest.pth comes last: a run that is killed before it has it makes the others again.
        first, *others = [Path(runner.work_dir) / name for name in (*names, LATEST)]
        write_checkpoint(runner, first)
        if dist.is_main():
            for path in others:
                link_checkpoint(first, path)
            self._drop_old(Path(runner.work_dir))
        dist.barrier()

    def _drop_old(self, work_dir: Path) -> None:
        if self.max_keep is None:
            return
        kind = 'epoch' if self.by_epoch else 'iter'
        passing = [path for path in numbered_checkpoints(work_dir, kind)
                   if int(path.stem.partition('_')[2]) not in self.milestones]
        for path in passing[:-self.max_keep]:
            path.unlink()
            logger.debug('dropped %s', path)
