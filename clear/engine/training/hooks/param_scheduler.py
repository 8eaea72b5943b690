"""Schedules of learning rates, with groups that stay out of them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from mmengine.hooks import ParamSchedulerHook as MMParamSchedulerHook

from clear.engine.training.optimisation import hold_fixed_values
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.hooks.hook import DATA_BATCH

    from clear.engine.training.runner import Runner


@HOOKS.register_module()
class ParamSchedulerHook(MMParamSchedulerHook):
    """mmengine's, but parameter groups with `fix_lr=True` keep their rate (the predictor of SimSiam)."""

    def before_train(self, runner: Runner) -> None:
        # With accumulated gradients a schedule in iterations moves before the first optimiser step, as it should.
        warnings.filterwarnings('ignore', message='Detected call of `scheduler.step', module='mmengine')

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        hold_fixed_values(runner.optim_wrapper)

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        hold_fixed_values(runner.optim_wrapper)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        super().after_val_epoch(runner, metrics)
        if runner.is_training:  # a validation alone has no optimiser
            hold_fixed_values(runner.optim_wrapper)
