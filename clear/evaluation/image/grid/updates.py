"""SGD, Adam and AdamW on stacked parameters, each column with its own rate, decay and momentum, as `torch.optim` does.

Small columns are updated together, by operations on the whole stack. Large ones, whose numbers would leave the
processor's cache between two of these operations, go through torch's fused kernels one after another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from clear.evaluation.image.grid.points import OPTIMIZERS, GridPoint
from clear.evaluation.image.schedules import lr_factors, momenta

_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch.optim.Adam's defaults, and AdamW's
_LARGE = 2**15  # numbers of a column from which on it is updated alone; see benchmarks/mlp_grid.py


class Course:
    """The learning rate and the momentum of every column in every iteration.

    Args:
        momentum: of SGD, for columns without their own.
        steps: False keeps both as they are in the first iteration: schedules that are never stepped.
        like: dtype and device of the tables.

    Attributes:
        rates: (T, G). sizes: (T, G), Adam's are divided by its first bias correction.
        momenta: (T, G), for Adam its first beta; constant: (G,) that of a column whose momentum never changes, else
            None. All of these are float64 on the host.
    """

    def __init__(self, points: Sequence[GridPoint], epochs: int, per_epoch: int, *, momentum: float, like: Tensor,
                 steps: bool = True):
        rates, found = [], []
        self.constant: list[float | None] = []
        for point in points:
            factors, cycle = (table if steps or table is None else table[:1].expand(len(table)) for table in
                              (lr_factors(point.schedule, epochs, per_epoch),
                               momenta(point.schedule, epochs, per_epoch)))
            usual = _BETAS[0] if point.optimizer != 'sgd' else momentum if point.momentum is None else point.momentum
            rates.append(factors * point.lr)
            found.append(torch.full_like(factors, usual) if cycle is None else cycle)
            self.constant.append(usual if cycle is None else None)
        self.rates, self.momenta = torch.stack(rates, 1), torch.stack(found, 1)
        counts = torch.arange(1, len(self.rates) + 1, dtype=torch.float64)[:, None]
        is_adam = torch.tensor([point.optimizer != 'sgd' for point in points])
        self.sizes = torch.where(is_adam, self.rates / (1 - self.momenta ** counts), self.rates)
        self.device_rates, self.device_sizes = self.rates.to(like), self.sizes.to(like)
        self.device_momenta = self.momenta.to(like)


class StackedUpdate:
    """Some columns of a parameter, all of one optimiser, and its state; call it with their gradient, which it changes.

    Args:
        parameter: (G, ...) of all columns.
        columns: those to update.
    """

    def __init__(self, parameter: Tensor, points: Sequence[GridPoint], columns: slice, course: Course):
        self.columns, self.course = columns, course
        self.parameter = parameter[columns]
        self.optimizer = points[columns.start].optimizer
        decays = [point.weight_decay for point in points[columns]]
        self.decays = self._shaped(parameter.new_tensor(decays)) if any(decays) else None
        constant = {*course.constant[columns]}
        self.momentum = constant.pop() if len(constant) == 1 else None
        self.state = [torch.zeros_like(self.parameter) for _ in range(1 if self.optimizer == 'sgd' else 2)]
        self.scratch = None if self.optimizer == 'sgd' else torch.empty_like(self.parameter)

    def __call__(self, grad: Tensor, iteration: int) -> None:
        if self.decays is not None and self.optimizer == 'adamw':  # no part of the gradient
            self.parameter.mul_(1 - self._now(self.course.device_rates, iteration) * self.decays)
        elif self.decays is not None:
            grad.addcmul_(self.parameter, self.decays)
        momentum = self._now(self.course.device_momenta, iteration) if self.momentum is None else self.momentum
        sizes = self._now(self.course.device_sizes, iteration)
        if self.optimizer == 'sgd':
            self.parameter.addcmul_(self.state[0].mul_(momentum).add_(grad), sizes, value=-1)
            return
        mean, square = self.state
        mean.lerp_(grad, 1 - momentum)
        square.mul_(_BETAS[1]).addcmul_(grad, grad, value=1 - _BETAS[1])
        torch.sqrt(square, out=self.scratch).div_(math.sqrt(1 - _BETAS[1] ** (iteration + 1))).add_(_EPS)
        self.parameter.addcmul_(torch.div(mean, self.scratch, out=self.scratch), sizes, value=-1)

    def _now(self, table: Tensor, iteration: int) -> Tensor:
        return self._shaped(table[iteration, self.columns])

    def _shaped(self, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (self.parameter.ndim - 1))


class FusedUpdate:
    """One column of a parameter, by the kernels that `torch.optim` runs with `fused=True`."""

    def __init__(self, parameter: Tensor, points: Sequence[GridPoint], columns: slice, course: Course):
        self.columns, self.course = columns, course
        point = points[columns.start]
        self.decay, self.optimizer = point.weight_decay, point.optimizer
        self.parameter = [parameter[columns]]
        self.state = [[torch.zeros_like(*self.parameter)] for _ in range(1 if self.optimizer == 'sgd' else 2)]
        self.count = [torch.zeros((), dtype=torch.float32, device=parameter.device)]

    def __call__(self, grad: Tensor, iteration: int) -> None:
        place = iteration, self.columns.start
        rate, momentum = self.course.rates[place].item(), self.course.momenta[place].item()
        if self.optimizer == 'sgd':
            state = self.state[0] if momentum else []
            torch._fused_sgd_(self.parameter, [grad], state, weight_decay=self.decay, momentum=momentum, lr=rate,
                              dampening=0.0, nesterov=False, maximize=False, is_first_step=False)
            return
        self.count[0].fill_(iteration + 1)
        update = torch._fused_adamw_ if self.optimizer == 'adamw' else torch._fused_adam_
        update(self.parameter, [grad], *self.state, [], self.count, lr=rate, beta1=momentum, beta2=_BETAS[1],
               weight_decay=self.decay, eps=_EPS, amsgrad=False, maximize=False)


def updates_of(parameter: Tensor, points: Sequence[GridPoint], course: Course) -> list[StackedUpdate | FusedUpdate]:
    """What updates a parameter (G, ...), for points that are sorted by optimiser."""
    if parameter[0].numel() >= _LARGE:
        return [FusedUpdate(parameter, points, slice(column, column + 1), course) for column in range(len(points))]
    ends = list(itertools.accumulate(sum(point.optimizer == name for point in points) for name in OPTIMIZERS))
    return [StackedUpdate(parameter, points, slice(start, end), course) for start, end in zip([0, *ends], ends)
            if start < end]
