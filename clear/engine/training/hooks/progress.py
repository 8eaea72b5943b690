"""Tell the model how far training is, and the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook

from clear.core.contracts import FollowsProgress
from clear.engine.progress import Progress
from clear.engine.training.optimisation import is_step_start, wrappers_of
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.hooks.hook import DATA_BATCH
    from torch import Tensor

    from clear.engine.training.runner import Runner


@HOOKS.register_module()
class ProgressHook(Hook):
    """Tells the model how far training is, before every iteration, and the user.

    Calls `model.set_progress(iteration, max_iterations, iterations_per_epoch, is_step_start)`.

    Schedules inside a model (momentum of an average, temperature of a teacher, frozen layers) are functions of these
    four numbers alone, so a resumed run follows them exactly. `iteration` counts micro-batches from 0;
    `is_step_start` is False for all but the first micro-batch of an accumulated step. A model without that method is
    left alone. On a terminal a bar with the time left is drawn, elsewhere a line now and then; both show the loss and
    the learning rate of the last iteration.
    """

    priority = 'VERY_HIGH'

    def __init__(self):
        self.bar: Progress | None = None
        self._is_followed = False
        self._loss: Tensor | float | None = None
        self._lr: float | None = None

    def before_train(self, runner: Runner) -> None:
        self.bar = Progress(runner.max_iters)
        self.bar.start_at(runner.iter)
        self._is_followed = isinstance(runner.bare_model, FollowsProgress)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        if self._is_followed:
            runner.bare_model.set_progress(runner.iter, runner.max_iters, len(runner.train_dataloader),
                                           is_step_start(runner.optim_wrapper))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        loss = (outputs or {}).get('loss')
        self._loss = loss.detach() if isinstance(loss, torch.Tensor) else loss
        # Schedules move later in this iteration.
        self._lr = wrappers_of(runner.optim_wrapper)[0].param_groups[0]['lr']

    def after_whole_iter(self, runner: Runner) -> None:
        where = f'epoch {runner.epoch + 1}/{runner.max_epochs}' if runner.is_epoch_based else 'training'
        self.bar.step(where, lambda: dict(loss=None if self._loss is None else float(self._loss), lr=self._lr))

    def after_train(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()
