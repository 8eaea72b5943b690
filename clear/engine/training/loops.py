"""Training loops that can begin at any iteration, and say when an iteration or epoch is wholly done.

Beside mmengine's hook points they call two of ours, where the state of a run is complete and may be saved:
`after_whole_iter`, after every hook of an iteration, and `after_whole_epoch`, after the validation of an epoch. Then
comes `after_epoch_saved`, for what must not precede the checkpoint.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeAlias

import torch
from mmengine.runner.base_loop import BaseLoop
from mmengine.runner.loops import EpochBasedTrainLoop as MMEpochBasedTrainLoop
from mmengine.runner.loops import IterBasedTrainLoop as MMIterBasedTrainLoop
from mmengine.runner.utils import calc_dynamic_intervals
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.engine.training.optimisation import count_from
from clear.models.sync_batch_norm import synchronised
from clear.registry import LOOPS

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from clear.engine.training.runner import Runner


Batch: TypeAlias = Tensor | dict | list | tuple


class _ResumableLoop:
    """What both loops share. `batch` counts the finished batches of the current pass over the data."""

    batch = 0

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """The rest of a pass over the data, from batch `self.batch` on; what was used before is not read again."""
        batch_sampler = self.dataloader.batch_sampler
        if hasattr(batch_sampler.sampler, 'set_epoch'):
            batch_sampler.sampler.set_epoch(epoch)
        batch_sampler.start = self.batch
        return iter(self.dataloader)

    def _train_step(self, data_batch: Batch) -> None:
        """One micro-batch with its hooks."""
        runner = self.runner
        runner.call_hook('before_train_iter', batch_idx=self.batch, data_batch=data_batch)
        with synchronised(_num_rows(data_batch)) if runner.has_cpu_sync_bn else nullcontext():
            outputs = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        runner.call_hook('after_train_iter', batch_idx=self.batch, data_batch=data_batch, outputs=outputs)
        self._iter += 1
        self.batch += 1

    def _is_validation_due(self, done: int, last: int) -> bool:
        """After `done` of `last` epochs or iterations."""
        return (self.runner.val_loop is not None and done >= self.val_begin
                and (done % self.val_interval == 0 or done == last))


@LOOPS.register_module()
class EpochBasedTrainLoop(_ResumableLoop, MMEpochBasedTrainLoop):
    """Train for a number of epochs. With gradient accumulation every epoch ends with an optimiser step.

    Args:
        max_epochs: at least 1; the rest as mmengine's.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int, val_begin: int = 1,
                 val_interval: int = 1, dynamic_intervals: list | None = None):
        check_whole('train_cfg.max_epochs', max_epochs, 1)
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)

    def run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._decide_current_val_interval()
            if self._is_validation_due(self._epoch, self._max_epochs):
                self.runner.val_loop.run()
            self.runner.call_hook('after_whole_epoch')
            self.runner.call_hook('after_epoch_saved')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        runner = self.runner
        if self.batch == 0:
            runner.restore_random_numbers()
        runner.call_hook('before_train_epoch')
        runner.model.train()
        count_from(runner.optim_wrapper, self.batch, len(self.dataloader))
        batches = self._batches(self._epoch)
        runner.restore_random_numbers()
        for data_batch in batches:
            self._train_step(data_batch)
            runner.call_hook('after_whole_iter')
        runner.call_hook('after_train_epoch')
        self._epoch += 1
        self.batch = 0


@LOOPS.register_module()
class IterBasedTrainLoop(_ResumableLoop, MMIterBasedTrainLoop):
    """Train for a number of iterations, over the data as often as needed. To mmengine's hooks it is one epoch.

    Args:
        max_iters: at least 1; the rest as mmengine's.
    """

    def __init__(self, runner: Runner, dataloader: DataLoader | dict, max_iters: int, val_begin: int = 1,
                 val_interval: int = 1000, dynamic_intervals: list | None = None):
        check_whole('train_cfg.max_iters', max_iters, 1)
        # Not mmengine's constructor: it would start the loader's workers.
        BaseLoop.__init__(self, runner, dataloader)
        if hasattr(self.dataloader.dataset, 'metainfo'):
            runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo
        self._max_iters, self._max_epochs, self._epoch, self._iter = max_iters, 1, 0, 0
        self.val_begin, self.val_interval, self.stop_training = val_begin, val_interval, False
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)

    def run(self) -> nn.Module:
        runner = self.runner
        runner.call_hook('before_train')
        runner.call_hook('before_train_epoch')
        count_from(runner.optim_wrapper, self._iter, self._max_iters)
        runner.restore_random_numbers()
        while self._iter < self._max_iters and not self.stop_training:
            self._run_pass()
        runner.call_hook('after_train_epoch')
        self._epoch = 1
        runner.call_hook('after_whole_epoch')
        runner.call_hook('after_epoch_saved')
        runner.call_hook('after_train')
        return runner.model

    def _run_pass(self) -> None:
        runner = self.runner
        is_endless = not hasattr(self.dataloader.batch_sampler.sampler, 'set_epoch')
        data_epoch, self.batch = (0, self._iter) if is_endless else divmod(self._iter, len(self.dataloader))
        runner.model.train()
        for data_batch in self._batches(data_epoch):
            self._train_step(data_batch)
            self.val_interval = self.dynamic_intervals[bisect.bisect(self.dynamic_milestones, self._iter + 1) - 1]
            if self._is_validation_due(self._iter, self._max_iters):
                runner.val_loop.run()
                runner.model.train()
            runner.call_hook('after_whole_iter')
            if self._iter >= self._max_iters or self.stop_training:
                return


def _num_rows(data_batch: Batch) -> int:
    """Samples in a batch, from its first tensor."""
    if isinstance(data_batch, torch.Tensor):
        return len(data_batch)
    if isinstance(data_batch, dict):
        inputs = data_batch.get('inputs', next(iter(data_batch.values())))
    else:
        inputs = data_batch[0]
    if isinstance(inputs, (list, tuple)) and isinstance(inputs[0], torch.Tensor) and inputs[0].ndim == 3:
        return len(inputs)  # mmengine's pseudo_collate: a list of single images
    return _num_rows(inputs) if isinstance(inputs, torch.Tensor) else len(inputs[0])
