"""What mmengine's optimiser parts lack: mixed precision on any device, gradients bounded one by one, a quarter cosine,
the momentum of one-cycle, rates that stay fixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from torch import Tensor, nn

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.contracts import HoldsParameters
from clear.core.errors import ConfigError
from clear.evaluation.image.schedules import ANNEALS, one_cycle
from clear.registry import OPTIM_WRAPPERS, PARAM_SCHEDULERS

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from clear.core.types import Options

DTYPES = {'float16': torch.float16, 'bfloat16': torch.bfloat16}


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(OptimWrapper):
    """Mixed precision: the forward pass under autocast, losses scaled where gradients would underflow.

    mmengine's refuses to run without a GPU and always scales. This one scales for float16 alone: bfloat16 has the
    range of float32.

    Args:
        dtype: 'float16', 'bfloat16', or None for bfloat16 on a CPU and on GPUs that have it, else float16.
        loss_scale: for float16: 'dynamic', a fixed number, or a dict of arguments of `torch.amp.GradScaler`.
        device: type of the device that the model runs on.

    Raises:
        ConfigError: for another dtype or loss_scale.
    """

    def __init__(self, dtype: str | None = None, loss_scale: str | float | dict = 'dynamic', device: str | None = None,
                 **kwargs):
        super().__init__(**kwargs)
        self.device_type = device or self.optimizer.param_groups[0]['params'][0].device.type
        if dtype is None:
            has_bf16 = self.device_type != 'cuda' or torch.cuda.is_bf16_supported()
            dtype = 'bfloat16' if has_bf16 else 'float16'
        check_choice('optim_wrapper.dtype', dtype, (*DTYPES, None))
        self.cast_dtype = DTYPES[dtype]
        self.loss_scaler = None
        if dtype == 'float16':
            self.loss_scaler = torch.amp.GradScaler(self.device_type, **_scaler_arguments(loss_scale))

    def backward(self, loss: Tensor, **kwargs) -> None:
        if self.loss_scaler is not None:
            loss = self.loss_scaler.scale(loss)
        super().backward(loss, **kwargs)

    def step(self, **kwargs) -> None:
        if self.loss_scaler is None:
            super().step(**kwargs)
            return
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.loss_scaler is not None:
            state['loss_scaler'] = self.loss_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if scaler is not None and self.loss_scaler is not None:
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(self.device_type, dtype=self.cast_dtype):
            yield


def _scaler_arguments(loss_scale: str | float | dict) -> dict[str, float]:
    if loss_scale == 'dynamic':
        return {}
    if isinstance(loss_scale, dict):
        return dict(loss_scale)
    if isinstance(loss_scale, (int, float)) and not isinstance(loss_scale, bool) and loss_scale > 0:
        # Factors of 1 keep it; `update` still forgets that a step met infinite gradients.
        return dict(init_scale=float(loss_scale), growth_factor=1.0 + 1e-12, growth_interval=2**31 - 1,
                    backoff_factor=1.0 - 1e-12)
    raise ConfigError(f"optim_wrapper.loss_scale is {loss_scale!r}; expected 'dynamic', a number above 0, or a dict of "
                      'arguments of torch.amp.GradScaler.')


@torch.no_grad()
def clip_each_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> None:
    """Scale the gradient of each parameter, by itself, to an L2 norm of at most `max_norm`; waits for no device.

    What DINO's authors do (`clip_gradients` of their code), where `torch.nn.utils.clip_grad_norm_` bounds the norm of
    all gradients together. A norm that is not finite leaves a gradient that is not either.
    """
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not grads:
        return
    # 1e-6 as in their code, which lets a norm of exactly max_norm shrink a little.
    factors = [(max_norm / (norm + 1e-6)).clamp(max=1.0) for norm in torch._foreach_norm(grads)]
    torch._foreach_mul_(grads, factors)


def clip_each_parameter(optim_wrapper: OptimWrapper, max_norm: float) -> None:
    """Let a wrapper bound the gradient of each parameter instead of what its own `clip_grad` says.

    A config says `clip_grad=dict(type='norm_per_parameter', max_norm=3.0)`. Like mmengine's it acts once per step: on
    the gradients that were accumulated, averaged over processes, and freed from the scale of a float16 loss. No
    `grad_norm` is logged.
    """
    optim_wrapper.clip_func, optim_wrapper.clip_grad_kwargs = clip_each_grad_norm_, dict(max_norm=max_norm)


@PARAM_SCHEDULERS.register_module()
class QuarterCosineLR(LRSchedulerMixin, _ParamScheduler):
    """`lr * cos(pi * t / (2 * T_max))`: from the full rate to 0 along a quarter of a cosine (`cos=2` of CLSA).

    Args:
        T_max: steps (epochs, or iterations with `by_epoch=False`) until 0; by default `end - begin`.
    """

    def __init__(self, optimizer: Optimizer | OptimWrapper, *args, T_max: int | None = None, begin: int = 0,
                 end: int = INF, **kwargs):
        if T_max is None and end == INF:
            raise ConfigError('QuarterCosineLR needs T_max, or an end.')
        self.T_max = T_max if T_max is not None else end - begin
        super().__init__(optimizer, *args, begin=begin, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, T_max: int | None = None, begin: int = 0, end: int = INF,
                              by_epoch: bool = True, epoch_length: int | None = None, **kwargs) -> QuarterCosineLR:
        """The same curve in iterations, for `convert_to_iter_based=True`."""
        if not by_epoch or not epoch_length:
            raise ConfigError('convert_to_iter_based turns epochs into iterations: it needs by_epoch=True.')
        return cls(*args, T_max=None if T_max is None else T_max * epoch_length, begin=int(begin * epoch_length),
                   end=end if end == INF else int(end * epoch_length), by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        factor = math.cos(math.pi * self.last_step / (2 * self.T_max))
        return [value * factor for value in self.base_values]


@PARAM_SCHEDULERS.register_module()
class OneCycleMomentum(MomentumSchedulerMixin, _ParamScheduler):
    """The momentum that goes with `OneCycleLR`: from the highest to the lowest as the rate rises, and back as it falls.

    torch's `OneCycleLR` moves both; mmengine's moves the rate alone. It is the momentum of SGD, the first beta of Adam.

    Args:
        base_momentum, max_momentum: lowest and highest.
        pct_start, anneal_strategy: as of `OneCycleLR`; give both schedulers the same.
        total_steps: length; by default `end - begin`.

    Raises:
        ConfigError: if there is no length, it leaves no rise or fall, or a value makes no cycle.
    """

    def __init__(self, optimizer: Optimizer | OptimWrapper, *args, base_momentum: float = 0.85,
                 max_momentum: float = 0.95, pct_start: float = 0.3, anneal_strategy: str = 'cos',
                 total_steps: int | None = None, begin: int = 0, end: int = INF, **kwargs):
        if total_steps is None and end == INF:
            raise ConfigError('OneCycleMomentum needs total_steps, or an end.')
        self.total_steps = end - begin if total_steps is None else total_steps
        lowest, highest = (check_number(f'OneCycleMomentum: {name}', value, 0, below=1) for name, value in
                           (('base_momentum', base_momentum), ('max_momentum', max_momentum)))
        check_number('OneCycleMomentum: pct_start', pct_start, above=0, below=1)
        check_choice('OneCycleMomentum: anneal_strategy', anneal_strategy, ANNEALS)
        steps = torch.arange(self.total_steps, dtype=torch.float64)
        heights = highest, lowest, highest
        self.values = one_cycle(steps, self.total_steps, heights, pct_start, anneal_strategy).tolist()
        super().__init__(optimizer, *args, begin=begin, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, total_steps: int | None = None, begin: int = 0, end: int = INF,
                              by_epoch: bool = True, epoch_length: int | None = None, **kwargs) -> OneCycleMomentum:
        """The same curve in iterations, `total_steps`, `begin` and `end` being epochs, for
        `convert_to_iter_based=True`."""
        if not by_epoch or not epoch_length:
            raise ConfigError('convert_to_iter_based turns epochs into iterations: it needs by_epoch=True.')
        return cls(*args, total_steps=None if total_steps is None else total_steps * epoch_length,
                   begin=int(begin * epoch_length), end=end if end == INF else int(end * epoch_length),
                   by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        return [self.values[min(self.last_step, self.total_steps - 1)]] * len(self.base_values)


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """`lr * (t + 1) / warmup` in step t < warmup, then `lr * (1 + cos(pi * (t - warmup) / (T_max - warmup))) / 2`.

    What open_clip and ITRA do, of which mmengine's `LinearLR` and `CosineAnnealingLR` are the same where both count
    iterations. With `convert_to_iter_based=True` this one takes its length in epochs and its warm-up in iterations.

    Args:
        warmup: iterations of warm-up; 0 begins at the full rate.
        T_max: length, warm-up included; by default `end - begin`.

    Raises:
        ConfigError: if there is no length, or it is not longer than the warm-up.
    """

    def __init__(self, optimizer: Optimizer | OptimWrapper, *args, warmup: int = 0, T_max: int | None = None,
                 begin: int = 0, end: int = INF, **kwargs):
        if T_max is None and end == INF:
            raise ConfigError('WarmupCosineLR needs T_max, or an end.')
        self.T_max = T_max if T_max is not None else end - begin
        self.warmup = check_whole('WarmupCosineLR: warmup', warmup, 0)
        if warmup >= self.T_max:
            raise ConfigError(f'WarmupCosineLR: a warm-up of {warmup} steps does not fit into {self.T_max}.')
        super().__init__(optimizer, *args, begin=begin, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, T_max: int | None = None, begin: int = 0, end: int = INF,
                              by_epoch: bool = True, epoch_length: int | None = None, **kwargs) -> WarmupCosineLR:
        """The curve in iterations, `T_max`, `begin` and `end` being epochs, for `convert_to_iter_based=True`."""
        if not by_epoch or not epoch_length:
            raise ConfigError('convert_to_iter_based turns epochs into iterations: it needs by_epoch=True.')
        return cls(*args, T_max=None if T_max is None else T_max * epoch_length, begin=int(begin * epoch_length),
                   end=end if end == INF else int(end * epoch_length), by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        if self.last_step < self.warmup:
            factor = (self.last_step + 1) / self.warmup
        else:
            done = min((self.last_step - self.warmup) / (self.T_max - self.warmup), 1)
            factor = 0.5 * (1 + math.cos(math.pi * done))
        return [value * factor for value in self.base_values]


def hold_fixed_values(optim_wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Put back what schedulers must not touch: the rate of groups marked `fix_lr=True`, and a weight decay of 0.

    A config marks them by `paramwise_cfg=dict(custom_keys={'predictor': dict(fix_lr=True)})`.
    """
    for wrapper in wrappers_of(optim_wrapper):
        for group in wrapper.optimizer.param_groups:
            if group.get('fix_lr') and 'initial_lr' in group:
                group['lr'] = group['initial_lr']
            # A schedule of the weight decay is for weights; biases and norms were left out on purpose.
            if group.get('initial_weight_decay') == 0:
                group['weight_decay'] = 0.0


def leave_held_parameters(optim_wrapper: OptimWrapper | OptimWrapperDict, model: nn.Module) -> None:
    """Let the optimiser skip what the model holds at first (SwAV's prototypes, DINO's last layer).

    A gradient of zero alone would still make Adam count steps, and its first real ones several times too long.
    """
    if not isinstance(model, HoldsParameters):
        return

    def skip(*_: object) -> None:
        for parameter in model.held_parameters():
            parameter.grad = None

    for wrapper in wrappers_of(optim_wrapper):
        wrapper.optimizer.register_step_pre_hook(skip)


def unmatched_patterns(wrapper: object, model: nn.Module) -> list[str]:
    """The patterns of `paramwise_cfg.custom_keys` that are part of no parameter's name, and so change nothing."""
    paramwise = wrapper.get('paramwise_cfg') if isinstance(wrapper, Mapping) else None
    patterns = paramwise.get('custom_keys') if isinstance(paramwise, Mapping) else None
    # The default constructor joins module and parameter by a dot also where the module is the model itself.
    names = [f'.{name}' for name, _ in model.named_parameters()]
    return [pattern for pattern in patterns or () if not any(pattern in name for name in names)]


def check_rates(where: str, wrapper: Options) -> None:
    """Refuse a learning rate that no optimiser can use, in a wrapper or in several by name.

    Raises:
        ConfigError: naming the key, as in `optim_wrapper.optimizer.lr`.
    """
    for name, value in wrapper.items():
        if name == 'optimizer' and isinstance(value, Mapping):
            if value.get('lr') is not None:
                check_number(f'{where}.optimizer.lr', value['lr'], 0)
        elif isinstance(value, Mapping) and 'optimizer' in value:
            check_rates(f'{where}.{name}', value)


def wrappers_of(optim_wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """The wrapper itself, or those of a model with several optimisers."""
    return list(optim_wrapper.values()) if isinstance(optim_wrapper, OptimWrapperDict) else [optim_wrapper]


def count_from(optim_wrapper: OptimWrapper | OptimWrapperDict, done: int, total: int) -> None:
    """Count micro-batches of gradient accumulation from `done`; the last of `total` always ends an optimiser step.

    mmengine counts over a whole run, so that a step may span two epochs; then no checkpoint between them would be
    complete. Here every epoch ends with a step, over fewer micro-batches where they do not divide evenly.
    """
    for wrapper in wrappers_of(optim_wrapper):
        wrapper._inner_count, wrapper._max_counts = done, total
        wrapper._remainder_counts = total % wrapper._accumulative_counts


def is_step_start(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """True if the next micro-batch is the first of an optimiser step."""
    wrapper = wrappers_of(optim_wrapper)[0]
    return wrapper._inner_count % wrapper._accumulative_counts == 0


def is_step_end(optim_wrapper: OptimWrapper | OptimWrapperDict) -> bool:
    """True if the last micro-batch ended an optimiser step: no gradients are waiting."""
    return wrappers_of(optim_wrapper)[0].should_update()
