"""The queue of mmpretrain's SwAV, as a part of the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from mmengine.hooks import Hook

from clear.core import dist
from clear.core.checks import check_whole
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.hooks.hook import DATA_BATCH
    from torch import Tensor

    from clear.engine.training.runner import Runner


@HOOKS.register_module()
class SwAVHook(Hook):
    """Gives `mmpretrain.SwAVLoss` its queue from some epoch on, and holds some layers for the first iterations.

    mmpretrain's writes the queue into a file when an epoch ends: a run that is stopped inside one goes on with an older
    queue, and a new run takes the file of the old one in its folder. This one's is in the checkpoint.

    Args:
        batch_size: samples per process, as of the loader.
        epoch_queue_starts: epoch, from 0, in which the queue begins.
        crops_for_assign: views that have one, as the loss has them.
        feat_dim: width of what the neck gives.
        queue_length: rows of each queue over all processes, 0 for none; what is no multiple of the batch is cut off.
        interval: epochs between two files of mmpretrain's; without effect here.
        frozen_layers_cfg: part of a parameter's name -> iterations for which it stays as it is.
    """

    def __init__(self, batch_size: int, epoch_queue_starts: int = 15, crops_for_assign: Sequence[int] = (0, 1),
                 feat_dim: int = 128, queue_length: int = 0, interval: int = 1,
                 frozen_layers_cfg: Mapping[str, int] | None = None):
        check_whole('SwAVHook.batch_size', batch_size, 1)
        check_whole('SwAVHook.queue_length', queue_length, 0)
        self.epoch_queue_starts, self.crops_for_assign, self.feat_dim = epoch_queue_starts, crops_for_assign, feat_dim
        self.queue_length = queue_length - queue_length % (batch_size * dist.world_size())
        self.frozen_layers = dict(frozen_layers_cfg or {})
        self.queue: Tensor | None = None
        self._held: dict[str, bool] = {}

    def state_dict(self) -> dict[str, Tensor | None]:
        return dict(queue=self.queue)

    def load_state_dict(self, state: Mapping[str, Tensor | None]) -> None:
        self.queue = state['queue']

    def merge_states(self, states: Sequence[Mapping[str, Tensor | None]]) -> None:
        """Share the rows of all out to another number of processes."""
        if all(state['queue'] is not None for state in states):
            rows = torch.cat([state['queue'] for state in states], 1)
            self.queue = rows.chunk(dist.world_size(), 1)[dist.rank()].clone()

    def before_train_epoch(self, runner: Runner) -> None:
        if self.queue is None and self.queue_length > 0 and runner.epoch >= self.epoch_queue_starts:
            rows = self.queue_length // dist.world_size()
            self.queue = torch.zeros(len(self.crops_for_assign), rows, self.feat_dim)
        if self.queue is not None:
            self.queue = self.queue.to(runner.device)  # the loss fills this very tensor
        loss = runner.bare_model.head.loss_module
        # It is used once its last row is filled, which the loss finds out by itself.
        loss.queue, loss.use_queue = self.queue, False

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        for part, iterations in self.frozen_layers.items():
            is_held = runner.iter < iterations
            if is_held != self._held.get(part, False):
                self._held[part] = is_held
                for name, parameter in runner.bare_model.named_parameters():
                    if part in name:
                        parameter.requires_grad_(not is_held)
