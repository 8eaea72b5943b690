"""Stop a run whose loss or weights left the finite numbers, before anything of it is saved."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NoReturn

import torch
from mmengine.hooks import Hook

from clear.core import dist
from clear.core.checks import check_whole
from clear.core.errors import TrainingError
from clear.engine.training.hooks.checkpoint import GPU_INTERVAL
from clear.engine.training.state import describe_last_checkpoint
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.hooks.hook import DATA_BATCH
    from torch import Tensor

    from clear.engine.training.runner import Runner


@HOOKS.register_module()
class NaNGuardHook(Hook):
    """Ends a run at the first loss that is not finite; with several processes all of them end.

    On a GPU the losses are looked at every `interval` iterations, because looking waits for the device, and before
    every checkpoint. A checkpoint with weights that are not finite is never written.

    Args:
        interval: iterations between two looks on a GPU; on a CPU every loss is looked at.

    Raises:
        TrainingError: naming iteration, epoch, losses and the last good checkpoint, which is left as it is.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = GPU_INTERVAL):
        self.interval = check_whole('NaNGuardHook.interval', interval, 1)
        self._is_finite: torch.Tensor | None = None
        self._last: dict[str, Tensor | float] = {}

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        loss = (outputs or {}).get('loss')
        if not isinstance(loss, torch.Tensor):
            return
        self._last = {name: value.detach() if isinstance(value, torch.Tensor) else value
                      for name, value in outputs.items()}
        if loss.device.type == 'cpu' and loss.ndim == 0 and dist.world_size() == 1:
            if not math.isfinite(loss.item()):
                self._stop(runner, runner.iter + 1)
            return
        finite = torch.isfinite(loss.detach()).all()
        self._is_finite = finite if self._is_finite is None else self._is_finite & finite
        if loss.device.type == 'cpu' or (runner.iter + 1) % self.interval == 0:
            self._look(runner, runner.iter + 1)

    def before_checkpoint(self, runner: Runner) -> None:
        self._look(runner, runner.iter)
        bad = [name for name, tensor in runner.bare_model.state_dict().items()
               if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
        if dist.any_rank(bool(bad), runner.device):
            raise TrainingError(f'After iteration {runner.iter} the weights are not finite ({len(bad)} tensors, first '
                                f'{bad[:1]}), though the losses were. {self._advice(runner)}')

    def _look(self, runner: Runner, iteration: int) -> None:
        if self._is_finite is None:
            return
        is_bad, self._is_finite = not bool(self._is_finite), None
        if dist.any_rank(is_bad, runner.device):
            self._stop(runner, iteration)

    def _stop(self, runner: Runner, iteration: int) -> NoReturn:
        values = ', '.join(f'{name}={float(value):g}' for name, value in self._last.items())
        epoch, batch = divmod(iteration - 1, len(runner.train_dataloader))
        raise TrainingError(f'The loss is not finite at iteration {iteration} (epoch {epoch + 1}, batch {batch + 1}): '
                            f'{values}. {self._advice(runner)}')

    def _advice(self, runner: Runner) -> str:
        return (f'Nothing of this was saved; {describe_last_checkpoint(runner)} Lower the learning rate, warm it up '
                'longer, or train without --amp.')
