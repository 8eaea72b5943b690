"""Tell the model how far training is, and the user."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from clear.engine.progress import Progress
from clear.engine.training.optimisation import is_step_start
from clear.registry import HOOKS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Tells the model how far training is, before every iteration, and the user.

    Calls `model.set_progress(iteration, max_iterations, iterations_per_epoch, is_step_start)`.

    Schedules inside a model (momentum of an average, temperature of a teacher, frozen layers) are functions of these
    four numbers alone, so a resumed run follows them exactly. `iteration` counts micro-batches from 0;
    `is_step_start` is False for all but the first micro-batch of an accumulated step. A model without that method is
    left alone. On a terminal a bar with the time left is drawn, elsewhere a line now and then.
    """

    priority = 'VERY_HIGH'

    def __init__(self):
        self.bar: Progress | None = None

    def before_train(self, runner: Any) -> None:
        self.bar = Progress(runner.max_iters)
        self.bar.start_at(runner.iter)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        if hasattr(runner.bare_model, 'set_progress'):
            runner.bare_model.set_progress(runner.iter, runner.max_iters, len(runner.train_dataloader),
                                           is_step_start(runner.optim_wrapper))

    def after_whole_iter(self, runner: Any) -> None:
        where = f'epoch {runner.epoch + 1}/{runner.max_epochs}' if runner.is_epoch_based else 'training'
        self.bar.step(where)

    def after_train(self, runner: Any) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()
