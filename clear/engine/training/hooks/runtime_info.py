"""What mmengine's loggers read: losses and learning rates, without waiting for a GPU at every iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from mmengine.hooks import LoggerHook
from mmengine.hooks import RuntimeInfoHook as MMRuntimeInfoHook

from clear.core import dist
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.hooks.hook import DATA_BATCH

    from clear.engine.training.runner import Runner

# Values that a history keeps at least. mmengine's grows to a million, and copies all of it at every iteration.
HISTORY = 10_000


@HOOKS.register_module()
class RuntimeInfoHook(MMRuntimeInfoHook):
    """mmengine's, with losses fetched from a GPU when the logger is about to read them, and histories that end.

    Of several processes every number is the mean, as in `results.json`; they agree on it when it is fetched.
    A history holds the last 10,000 values, or an epoch of them where that is more.
    """

    def __init__(self):
        self._waiting: list[dict[str, torch.Tensor]] = []
        self._interval = 1
        self._longest, self._num_bounded = HISTORY, 0

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = min(intervals, default=10)
        self._longest = max(HISTORY, len(runner.train_dataloader)) if runner.is_epoch_based else HISTORY
        self._num_bounded = 0

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None,
                         outputs: dict | None = None) -> None:
        if runner.device.type == 'cpu' and dist.world_size() == 1:  # nothing to wait for
            for name, value in (outputs or {}).items():
                number = value.item() if isinstance(value, torch.Tensor) else value
                runner.message_hub.update_scalar(f'train/{name}', float(number))
            self._bound_histories(runner)
            return
        if outputs:
            # float64, or a plain number such as 1.111 or 2**24 + 1 would be rounded on its way.
            self._waiting.append({key: torch.as_tensor(value, dtype=torch.float64).detach()
                                  for key, value in outputs.items()})
        is_last = batch_idx + 1 == len(runner.train_dataloader)
        # Both numbers by which a LoggerHook may count: in the epoch, and over the run.
        if is_last or (batch_idx + 1) % self._interval == 0 or (runner.iter + 1) % self._interval == 0:
            self._fetch(runner)

    def before_checkpoint(self, runner: Runner) -> None:
        self._fetch(runner)

    def _fetch(self, runner: Runner) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        numbers = torch.stack([value.reshape(()) for values in waiting for value in values.values()])
        if dist.world_size() > 1:
            numbers = dist.sum_over_ranks(numbers.to(runner.device)) / dist.world_size()
        numbers = numbers.tolist()
        names = [name for values in waiting for name in values]
        for name, number in zip(names, numbers):
            runner.message_hub.update_scalar(f'train/{name}', number)
        self._bound_histories(runner)

    def _bound_histories(self, runner: Runner) -> None:
        histories = runner.message_hub.log_scalars
        if len(histories) > self._num_bounded:  # one has begun
            for history in histories.values():
                history.max_length = self._longest
            self._num_bounded = len(histories)
