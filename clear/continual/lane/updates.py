"""The steps of torch's SGD, Adam and AdamW for stacked learners, each with its own learning rate and decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from clear.continual.lane.stack import Stack

Setting = float | Tensor


class StackedOptimizer:
    """What the updates have in common. The settings of a step are those of S torch optimisers, whose schedulers
    change them; their state is taken over before an experience and given back behind it.

    Args:
        stack: what is trained.
    """

    # Keys of torch's class that an update here takes, and those that may differ between learners.
    TAKES: ClassVar[frozenset[str]]
    DIFFERS: ClassVar[frozenset[str]]
    # Tensors of torch's state of a parameter.
    AVERAGES: ClassVar[tuple[str, ...]]

    def __init__(self, stack: Stack):
        self.stack = stack
        self.state: dict[str, list[Tensor]] = {}
        self.steps = 0
        self.settings: dict[str, Setting] = {}

    def load(self, optimizers: Sequence[Optimizer]) -> None:
        """Take over state and settings of S optimisers that have made equally many steps."""
        first = optimizers[0].state[optimizers[0].param_groups[0]['params'][0]]
        self.steps = int(first.get('step', 0))
        self.state = {}
        for optimizer in optimizers:
            optimizer._opt_called = True  # else torch warns that a scheduler steps before its optimiser
        for name in self.AVERAGES:
            if not any(_state_of(optimizer, 0).get(name) is not None for optimizer in optimizers):
                continue
            self.state[name] = [torch.zeros_like(parameter) for parameter in self.stack.parameters]
            for place, optimizer in enumerate(optimizers):
                for position, target in enumerate(self.state[name]):
                    value = _state_of(optimizer, position).get(name)
                    if value is not None:
                        target[place].copy_(value.view_as(target[place]))
        self.read_settings(optimizers)

    def read_settings(self, optimizers: Sequence[Optimizer]) -> None:
        """Read learning rates and so on; a setting that is the same for all stays a number."""
        groups = [optimizer.param_groups[0] for optimizer in optimizers]
        self.settings = {}
        for name in self.TAKES:
            values = [group[name] for group in groups]
            if all(value == values[0] for value in values):
                self.settings[name] = values[0]
            else:
                self.settings[name] = self.stack.parameters[0].new_tensor(values).view(-1, 1, 1)

    def store(self, place: int, optimizer: Optimizer) -> None:
        """Give an optimiser the state of its place."""
        for position, parameter in enumerate(optimizer.param_groups[0]['params']):
            state = {name: values[position][place].view_as(parameter).clone() for name, values in self.state.items()}
            optimizer.state[parameter] = self._as_torch(state, optimizer)

    def _as_torch(self, state: dict[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
        return state

    def step(self) -> None:
        """Update the stack's parameters by its gradients."""
        raise NotImplementedError


class StackedSGD(StackedOptimizer):
    """torch.optim.SGD: momentum, dampening, Nesterov's form, weight decay."""

    TAKES = frozenset({'lr', 'momentum', 'dampening', 'weight_decay', 'nesterov'})
    DIFFERS = frozenset({'lr', 'momentum', 'weight_decay'})
    AVERAGES = ('momentum_buffer',)

    def _as_torch(self, state: dict[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
        return state if optimizer.param_groups[0]['momentum'] else {}

    def step(self) -> None:
        lr, momentum, decay = (self.settings[name] for name in ('lr', 'momentum', 'weight_decay'))
        has_momentum = isinstance(momentum, Tensor) or momentum != 0
        gain = 1 - self.settings['dampening']
        if isinstance(momentum, Tensor) and gain != 1:  # torch has no dampening where there is no momentum
            gain = torch.where(momentum == 0, 1.0, gain)
        buffers = self.state.get('momentum_buffer')
        if has_momentum and buffers is None:
            self.state['momentum_buffer'] = []
        for position, (parameter, gradient) in enumerate(zip(self.stack.parameters, self.stack.gradients)):
            _decay(gradient, parameter, decay)
            update = gradient
            if has_momentum:
                if buffers is None:  # torch's first step has no dampening
                    self.state['momentum_buffer'].append(gradient.clone())
                else:
                    _add(buffers[position].mul_(momentum), gradient, gain)
                update = self.state['momentum_buffer'][position]
                if self.settings['nesterov']:
                    update = gradient.add_(update * momentum)
            _add(parameter, update, -lr)


class StackedAdam(StackedOptimizer):
    """torch.optim.Adam, without amsgrad."""

    TAKES = frozenset({'lr', 'betas', 'eps', 'weight_decay'})
    DIFFERS = frozenset({'lr', 'weight_decay'})
    AVERAGES = ('exp_avg', 'exp_avg_sq')
    is_decoupled = False

    def _as_torch(self, state: dict[str, Tensor], optimizer: Optimizer) -> dict[str, Tensor]:
        return dict(step=torch.tensor(float(self.steps)), **state)

    def step(self) -> None:
        lr, (beta1, beta2), decay = (self.settings[name] for name in ('lr', 'betas', 'weight_decay'))
        for name in self.AVERAGES:
            if name not in self.state:
                self.state[name] = [torch.zeros_like(parameter) for parameter in self.stack.parameters]
        self.steps += 1
        size = lr / (1 - beta1 ** self.steps)
        root = (1 - beta2 ** self.steps) ** 0.5
        for position, (parameter, gradient) in enumerate(zip(self.stack.parameters, self.stack.gradients)):
            if not self.is_decoupled:
                _decay(gradient, parameter, decay)
            elif isinstance(decay, Tensor) or decay != 0:
                parameter.mul_(1 - lr * decay)
            mean, square = (self.state[name][position] for name in self.AVERAGES)
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            update = mean / (square.sqrt().div_(root)).add_(self.settings['eps'])
            _add(parameter, update, -size)


class StackedAdamW(StackedAdam):
    """torch.optim.AdamW, without amsgrad: the decay acts on the weights, not on the gradient."""

    is_decoupled = True


UPDATES: dict[type, type[StackedOptimizer]] = {torch.optim.SGD: StackedSGD, torch.optim.Adam: StackedAdam,
                                               torch.optim.AdamW: StackedAdamW}


def _state_of(optimizer: Optimizer, position: int) -> dict:
    return optimizer.state.get(optimizer.param_groups[0]['params'][position], {})


def _decay(gradient: Tensor, parameter: Tensor, decay: Setting) -> None:
    if isinstance(decay, Tensor) or decay != 0:
        _add(gradient, parameter, decay)


def _add(target: Tensor, values: Tensor, factor: Setting) -> None:
    """Add values times a number, or times one of each learner."""
    if isinstance(factor, Tensor):
        target.addcmul_(values, factor)
    else:
        target.add_(values, alpha=factor)
