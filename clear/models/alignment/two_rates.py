"""Learning rates of two towers that begin and end to train at different times."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mmengine.optim import BaseOptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler

from clear.core.checks import check_flag, check_whole
from clear.core.errors import ConfigError
from clear.models.alignment.optim_groups import IMAGE_PART, REST_PART
from clear.registry import PARAM_SCHEDULERS

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper
    from torch.optim import Optimizer


@PARAM_SCHEDULERS.register_module()
class TwoRateCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Warm-up and a cosine to 0 for the image tower, and another for everything else (ProtoCLIP, arXiv:2206.10996).

    The image tower trains from the beginning until `image_end`, and rests afterwards, so that texts are aligned with
    images that no longer change (LiT), if nothing but the optimiser changes them: a rate of 0 does not stop the
    statistics of BatchNorm, nor dropout. `PrototypeHook(lit_start_epoch=...)` does. The rest has a rate of 0 before
    `text_start`, then its own warm-up, and reaches 0 at `text_end`. Groups are told apart by
    `paramwise_cfg=dict(two_rates=True)` of `AlignmentOptimConstructor`.

    Times are epochs, or iterations with `by_epoch=False`; with `convert_to_iter_based=True` epochs become iterations,
    and the warm-up is in iterations at once. With ProtoCLIP's options, `image_end` is its `lit-start-epoch` - 1.

    Args:
        warmup: iterations of warm-up; 0 begins at the full rate.
        T_max: length of the run; by default `end - begin`.
        image_end, text_end: by default `T_max`.
        legacy: what the published code does: `text_end` is compared with the time since `text_start`, so that after the
            end the rate of the rest rises again for as long as it was 0 at first, before it is set to 0.

    Raises:
        ConfigError: if there is no length, a span is not longer than the warm-up, a number is no whole one, or the
            optimiser has no such groups.
    """

    def __init__(self, optimizer: Optimizer | OptimWrapper, *args, warmup: int = 0, T_max: int | None = None,
                 image_end: int | None = None, text_start: int = 0, text_end: int | None = None, legacy: bool = False,
                 begin: int = 0, end: int = INF, **kwargs):
        if T_max is None and end == INF:
            raise ConfigError('TwoRateCosineLR needs T_max, or an end.')
        T_max = end - begin if T_max is None else T_max
        self.warmup = check_whole('TwoRateCosineLR: warmup', warmup, 0)
        self.image_end = T_max if image_end is None else check_whole('TwoRateCosineLR: image_end', image_end, 1)
        self.text_start = check_whole('TwoRateCosineLR: text_start', text_start, 0)
        self.text_end = T_max if text_end is None else check_whole('TwoRateCosineLR: text_end', text_end, 1)
        self.legacy = check_flag('TwoRateCosineLR: legacy', legacy)
        for name, length in (('image tower', self.image_end), ('rest', self.text_end - self.text_start)):
            if warmup >= length:
                raise ConfigError(f'TwoRateCosineLR: the {name} trains for {length} steps, into which a warm-up of '
                                  f'{warmup} does not fit.')
        groups = (optimizer.optimizer if isinstance(optimizer, BaseOptimWrapper) else optimizer).param_groups
        if not {group.get('part') for group in groups} <= {IMAGE_PART, REST_PART}:
            raise ConfigError("TwoRateCosineLR needs groups of the image tower and of the rest: "
                              "optim_wrapper=dict(constructor='AlignmentOptimConstructor', "
                              'paramwise_cfg=dict(two_rates=True), ...).')
        super().__init__(optimizer, *args, begin=begin, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(cls, *args, T_max: int | None = None, image_end: int | None = None, text_start: int = 0,
                              text_end: int | None = None, begin: int = 0, end: int = INF, by_epoch: bool = True,
                              epoch_length: int | None = None, **kwargs) -> TwoRateCosineLR:
        """The curves in iterations, all times but the warm-up being epochs, for `convert_to_iter_based=True`."""
        if not by_epoch or not epoch_length:
            raise ConfigError('convert_to_iter_based turns epochs into iterations: it needs by_epoch=True.')
        times = dict(T_max=T_max, image_end=image_end, text_start=text_start, text_end=text_end)
        return cls(*args, **{name: None if value is None else value * epoch_length for name, value in times.items()},
                   begin=int(begin * epoch_length), end=end if end == INF else int(end * epoch_length), by_epoch=False,
                   **kwargs)

    def _get_value(self) -> list[float]:
        factors = {IMAGE_PART: self._factor(self.last_step, self.image_end), REST_PART: self._rest_factor()}
        # A wrapper shows one group more, of no parameters, for the log: `base_lr` is that of the image tower.
        return [value * factors[group.get('part', IMAGE_PART)]
                for value, group in zip(self.base_values, self.optimizer.param_groups)]

    def _rest_factor(self) -> float:
        step, length = self.last_step - self.text_start, self.text_end - self.text_start
        if step < 0:
            return 0.0
        return self._factor(step, length, ends_at=self.text_end if self.legacy else None)

    def _factor(self, step: int, length: int, ends_at: int | None = None) -> float:
        if step < self.warmup:
            return (step + 1) / self.warmup
        if step > (length if ends_at is None else ends_at):
            return 0.0
        return 0.5 * (1 + math.cos(math.pi * (step - self.warmup) / (length - self.warmup)))
