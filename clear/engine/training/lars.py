"""LARS as the authors of self-supervised methods run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from clear.core.checks import check_flag, check_number
from clear.registry import OPTIMIZERS

if TYPE_CHECKING:
    from clear.core.types import State


@OPTIMIZERS.register_module()
class PublishedLARS(Optimizer):
    """SGD with momentum whose step is scaled per tensor by its weights' norm (LARS, You et al. 2017,
    arXiv:1708.03888), in the forms of published self-supervised code.

    With g the gradient, w the weights, d = g + weight_decay * w and q = eta * |w| / |d| (1 where a norm is 0):

    - default, as in the codes of Barlow Twins, VICReg and BYOL:  m <- momentum * m + q * d;  w <- w - lr * m
    - `rate_in_momentum`, as in SimCLR's code and in the paper:   m <- momentum * m + lr * q * d;  w <- w - m
    - `separate_norms`, as SwAV's code does through apex' LARC:   q = eta * |w| / (|g| + weight_decay * |w| + 1e-8), no
      decay where |g| = 0

    The first two differ after the rate changes: what momentum has gathered keeps its old rate in the second.
    mmpretrain's `LARS` has the rate inside and separate norms, and reads two norms of every tensor one by one, which
    waits for a GPU each time; here no value leaves the device.

    A group marked `lars_exclude=True` (by `paramwise_cfg`) is not adapted: q = 1.

    Args:
        lr, weight_decay, eta: >= 0.
        momentum: in [0, 1).

    Raises:
        ConfigError: for values out of range.
    """

    def __init__(self, params: Iterable, lr: float, momentum: float = 0.9, weight_decay: float = 0.0,
                 eta: float = 0.001, *, rate_in_momentum: bool = False, separate_norms: bool = False):
        for name, value in (('lr', lr), ('weight_decay', weight_decay), ('eta', eta)):
            check_number(f'optimizer.{name}', value, 0)
        check_number('optimizer.momentum', momentum, 0, below=1)
        self.rate_in_momentum = check_flag('optimizer.rate_in_momentum', rate_in_momentum)
        self.separate_norms = check_flag('optimizer.separate_norms', separate_norms)
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, eta=eta))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step, after `closure` has computed gradients anew if it is given; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        pairs = [(group, weight) for group in self.param_groups for weight in group['params']
                 if weight.grad is not None]
        if not pairs:
            return loss
        groups, weights = (list(each) for each in zip(*pairs))
        updates = torch._foreach_mul(weights, [group['weight_decay'] for group in groups])
        torch._foreach_add_(updates, [weight.grad for weight in weights])
        adapted = [index for index, group in enumerate(groups) if not group.get('lars_exclude', False)]
        if adapted:
            factors = self._factors(*([each[index] for index in adapted] for each in (groups, weights, updates)))
            torch._foreach_mul_([updates[index] for index in adapted], factors)
        rates = [group['lr'] for group in groups]
        if self.rate_in_momentum:
            torch._foreach_mul_(updates, rates)
            rates = [1.0] * len(rates)
        gathered = [self._momentum_of(weight) for weight in weights]
        torch._foreach_mul_(gathered, [group['momentum'] for group in groups])
        torch._foreach_add_(gathered, updates)
        torch._foreach_sub_(weights, torch._foreach_mul(gathered, rates))
        return loss

    def _factors(self, groups: list[State], weights: list[Tensor], updates: list[Tensor]) -> list[Tensor]:
        """q of each tensor, as tensors without dimensions."""
        own = torch.stack(torch._foreach_norm(weights))
        like = dict(dtype=own.dtype, device=own.device)
        etas = torch.tensor([group['eta'] for group in groups], **like)
        if not self.separate_norms:
            norms = torch.stack(torch._foreach_norm(updates))
            factors = torch.where((own > 0) & (norms > 0), etas * own / norms, 1.0)
        else:
            grads = torch.stack(torch._foreach_norm([weight.grad for weight in weights]))
            decays = torch.tensor([group['weight_decay'] for group in groups], **like)
            factors = torch.where(own > 0, etas * own / (grads + decays * own + 1e-8), 1.0)
            factors = torch.where(grads > 0, factors, 0.0)  # the update is decay alone, which LARC leaves out
        return list(factors.unbind())

    def _momentum_of(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if 'momentum_buffer' not in state:
            state['momentum_buffer'] = torch.zeros_like(weight)
        return state['momentum_buffer']
