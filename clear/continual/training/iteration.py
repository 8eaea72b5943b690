"""Where training stands inside an experience: saved, and put back over the beginning of the experience."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from clear.continual.training.counts import EpochCounts
from clear.continual.training.loaders import BatchIterator, IndexLoader, PassState
from clear.core.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from clear.continual.training.mixin import EngineMixin
    from clear.core.types import State


class Inside(TypedDict):
    """Where training is inside an experience: the pass over the data, and what the finished batches of it left."""

    loader: PassState
    gradients: dict[str, Tensor | None]
    sums: Tensor
    stop_training: bool
    seconds_used: float
    training: list[bool]
    requires_grad: list[bool]
    scaler: State | None


def iteration_state(strategy: EngineMixin) -> Inside:
    """Where training is inside an experience, beside what `state.strategy_state` holds.

    Raises:
        TrainingError: for a strategy whose batches cannot be taken up again.
    """
    loader = strategy.dataloader
    iterator = getattr(loader, 'iterator', None)
    if not isinstance(loader, IndexLoader) or iterator is None:
        raise TrainingError(f'{type(strategy).__name__} reads its batches in a way that cannot be taken up in the '
                            'middle of an experience.')
    gradients = {name: None if parameter.grad is None else parameter.grad.detach().cpu().clone()
                 for name, parameter in strategy.model.named_parameters()}
    return dict(loader=iterator.state_dict(), gradients=gradients, sums=strategy.epoch_counts.sums(),
                stop_training=strategy._stop_training, seconds_used=strategy.seconds_used,
                training=[module.training for module in strategy.model.modules()],
                requires_grad=[parameter.requires_grad for parameter in strategy.model.parameters()],
                scaler=None if strategy.scaler is None else strategy.scaler.state_dict())


def read_last_batch_again(strategy: EngineMixin, state: Inside) -> None:
    """Let the loader, made anew by the prologue, go on behind the last batch of `iteration_state`'s result.

    Plugins may look at that batch after an epoch, so it is read again.
    """
    loader = strategy.dataloader
    last = BatchIterator(loader, {**state['loader'], 'position': state['loader']['position'] - 1})
    strategy.mbatch = [column.to(strategy.device) for column in next(last)]
    loader.resume(last.state_dict())


def load_iteration_state(strategy: EngineMixin, state: Inside) -> None:
    """Put `iteration_state`'s result back, behind `read_last_batch_again`."""
    for module, training in zip(strategy.model.modules(), state['training'], strict=True):
        module.training = training
    for parameter, requires_grad in zip(strategy.model.parameters(), state['requires_grad'], strict=True):
        parameter.requires_grad_(requires_grad)
    for name, parameter in strategy.model.named_parameters():
        gradient = state['gradients'][name]
        parameter.grad = None if gradient is None else gradient.to(parameter.device)
    strategy.epoch_counts = EpochCounts(strategy.device, state['sums'])
    strategy._stop_training = state['stop_training']
    strategy.seconds_used = state['seconds_used']
    if strategy.scaler is not None:
        strategy.scaler.load_state_dict(state['scaler'])
