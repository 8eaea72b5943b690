"""Learning-rate schedules of a continual learner: begun anew at every experience, or run through the stream."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

from avalanche.core import SupervisedPlugin
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from clear.core.storage.damage import is_alike

if TYPE_CHECKING:
    from clear.core.types import State

POLICIES = ('reset', 'continue')


class SchedulePlugin(SupervisedPlugin, supports_distributed=True):
    """Steps a scheduler after each epoch or iteration.

    Avalanche's own plugin sets `last_epoch = 0` after an experience, which is right for closed-form schedules only.
    Here the scheduler is built anew from the optimiser's first settings, so every schedule starts as the first time.

    Args:
        make: builds the scheduler for an optimiser; None keeps the learning rate constant.
        policy: 'reset' builds it anew at each experience, 'continue' never does.
        by_epoch: step after each epoch, else after each iteration.
    """

    is_saved_elsewhere = True

    def __init__(self, make: Callable[[Optimizer], LRScheduler] | None, policy: str = 'reset', by_epoch: bool = True):
        super().__init__()
        self.make = make
        self.policy = policy
        self.by_epoch = by_epoch
        self.scheduler: LRScheduler | None = None
        self._first_settings: list[State] | None = None

    def before_training_exp(self, strategy, **kwargs):
        self.prepare(strategy.optimizer)

    def prepare(self, optimizer: Optimizer) -> None:
        """Make the scheduler where the policy asks for a new one."""
        if self.make is None or (self.scheduler is not None and self.policy == 'continue'):
            return
        if self._first_settings is None:
            self._first_settings = [_settings(group) for group in optimizer.param_groups]
        for group, settings in zip(optimizer.param_groups, self._first_settings):
            group.pop('initial_lr', None)
            group.update(copy.deepcopy(settings))
        self.scheduler = self.make(optimizer)

    def after_training_epoch(self, strategy, **kwargs):
        if self.scheduler is not None and self.by_epoch:
            if isinstance(self.scheduler, ReduceLROnPlateau):
                self.scheduler.step(strategy.epoch_loss)
            else:
                self.scheduler.step()

    def after_training_iteration(self, strategy, **kwargs):
        if self.scheduler is not None and not self.by_epoch:
            self.scheduler.step()

    def forget(self) -> None:
        """Begin the schedule anew, from the optimiser's settings of now, at the next experience."""
        self.scheduler = self._first_settings = None

    def state_dict(self) -> dict:
        """The scheduler's state and the optimiser's first settings, as plain values."""
        state = None if self.scheduler is None else _plain_state(self.scheduler)
        return dict(scheduler=state, first_settings=self._first_settings)

    def load_state_dict(self, state: dict, optimizer: Optimizer) -> None:
        for saved, group in zip(state['first_settings'] or (), optimizer.param_groups):
            _check_alike('first_settings', saved, _settings(group))
            if 'lr' not in saved:  # other settings may be newer than the file
                raise ValueError('first_settings has no lr')
        self._first_settings = state['first_settings']
        if state['scheduler'] is not None and self.make is not None:
            groups = [_settings(group) for group in optimizer.param_groups]
            self.scheduler = self.make(optimizer)
            _check_alike(type(self.scheduler).__name__, state['scheduler'], _plain_state(self.scheduler))
            self.scheduler.load_state_dict(state['scheduler'])
            # Making a scheduler writes to the optimiser; what the checkpoint holds is right.
            for group, settings in zip(optimizer.param_groups, groups):
                group.update(settings)
            # Else torch warns, at the end of an epoch, that the optimiser has not stepped: it did, before the stop.
            optimizer._opt_called = True


def _check_alike(what: str, saved: State, present: State) -> None:
    for key, value in present.items():
        if key in saved and not is_alike(value, saved[key]):
            raise ValueError(f'{what}: {key} was saved as {saved[key]!r}')


def _settings(group: State) -> State:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != 'params'}


def _plain_state(scheduler: LRScheduler) -> dict:
    return {key: value for key, value in scheduler.state_dict().items() if not callable(value)}
