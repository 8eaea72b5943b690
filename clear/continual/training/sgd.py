"""Steps of torch's SGD without the calls around their arithmetic.

Profiler, hooks, compiler and the choice of an implementation cost a linear head a sixth of its time: what they touch
has left the caches each time, behind a batch of features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim import optimizer as torch_optimizer


def zero_grad(optimizer: Optimizer) -> None:
    """Do what `optimizer.zero_grad()` does."""
    if type(optimizer).zero_grad is not Optimizer.zero_grad or 'zero_grad' in vars(optimizer):
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = None


def take_step(method: Callable[[], None], optimizer: Optimizer) -> None:
    """Do what a strategy's `optimizer_step`, here called `method`, does, to the last bit."""
    from avalanche.training.templates.base_sgd import BaseSGDTemplate

    updates = None
    if getattr(method, '__func__', None) is BaseSGDTemplate.optimizer_step and is_plain(optimizer):
        updates = _updates(optimizer)
    if updates is None:
        method()
        return
    with torch.no_grad():
        for parameter, gradient, momentum_buffer, group in updates:
            _update(parameter, gradient, momentum_buffer, group)


def is_plain(optimizer: Optimizer) -> bool:
    """Whether a step is SGD's on the CPU, of which nobody is told; a scheduler needs to be told of one step only."""
    step = vars(optimizer).get('step')
    is_watched = step is not None and not (hasattr(step, '_wrapped_by_lr_sched') and
                                           getattr(optimizer, '_opt_called', False))
    return type(optimizer) is SGD and not is_watched and not any(
        (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks,
         torch_optimizer._global_optimizer_pre_hooks, torch_optimizer._global_optimizer_post_hooks))


def _updates(optimizer: SGD) -> list[tuple[Tensor, Tensor, Tensor | None, dict]] | None:
    """(parameter, gradient, momentum buffer, group) of what is updated; None if it takes more than `_update`."""
    updates = []
    for group in optimizer.param_groups:
        if group['fused'] or group['foreach'] or group['differentiable'] or isinstance(group['lr'], Tensor):
            return None
        for parameter in group['params']:
            gradient = parameter.grad
            if gradient is None:
                continue
            buffer = optimizer.state[parameter].get('momentum_buffer') if group['momentum'] else None
            if not parameter.is_cpu or gradient.is_sparse or (group['momentum'] and buffer is None):
                return None  # the first step makes the buffer
            updates.append((parameter, gradient, buffer, group))
    return updates


def _update(parameter: Tensor, gradient: Tensor, momentum_buffer: Tensor | None, group: dict) -> None:
    if group['maximize']:
        gradient = -gradient
    if group['weight_decay']:
        gradient = gradient.add(parameter, alpha=group['weight_decay'])
    if momentum_buffer is not None:
        momentum_buffer.mul_(group['momentum']).add_(gradient, alpha=1 - group['dampening'])
        gradient = gradient.add(momentum_buffer, alpha=group['momentum']) if group['nesterov'] else momentum_buffer
    parameter.add_(gradient, alpha=-group['lr'])
