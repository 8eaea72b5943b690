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
_AHEAD = 4096  # iterations whose rates are laid out at once
_LARGE = 2**15  # numbers of a column from which on it is updated alone; see benchmarks/mlp_grid.py


class Course:
    """The learning rate and the momentum of every column in every iteration, in tables of a few thousand at a time.

    Args:
        momentum: of SGD, for columns without their own.
        steps: False keeps both as they are in the first iteration: schedules that are never stepped.
        like: dtype and device of the tables for the stack.

    Attributes:
        constant: (G,) the momentum of a column where it never changes, else None.
        rates, momenta: (T, G) float64 on the host; for Adam momentum is its first beta. `at` says which row is meant.
        stacked_rates, stacked_momenta, stacked_sizes: the same for the stack; sizes are rates, Adam's divided by its
            first bias correction.
    """

    def __init__(self, points: Sequence[GridPoint], epochs: int, per_epoch: int, *, momentum: float, like: Tensor,
                 steps: bool = True):
        self._like, self._start = like, 0
        names = [repr(point.schedule) for point in points]
        schedules = {name: point.schedule for name, point in zip(names, points)}
        # Of each schedule that differs: the factors, and the momenta or NaN.
        tables = [[table(schedule, epochs, per_epoch, too_few=not steps) for schedule in schedules.values()]
                  for table in (lr_factors, momenta)]
        tables[1] = [torch.full_like(factors, math.nan) if cycle is None else cycle for factors, cycle in zip(*tables)]
        self._factors, self._cycles = (torch.stack(rows) if steps else torch.stack(rows)[:, :1].expand(
            -1, epochs * per_epoch) for rows in tables)
        self._which = torch.tensor([[*schedules].index(name) for name in names])
        self._lrs = torch.tensor([point.lr for point in points], dtype=torch.float64)
        self._is_adam = torch.tensor([point.optimizer != 'sgd' for point in points])
        self._usual = torch.tensor([_BETAS[0] if point.optimizer != 'sgd' else momentum if point.momentum is None else
                                    point.momentum for point in points], dtype=torch.float64)
        is_constant = self._cycles[self._which, 0].isnan().tolist()
        self.constant = [usual if still else None for usual, still in zip(self._usual.tolist(), is_constant)]
        self._load(0)

    def at(self, iteration: int) -> int:
        """The row of the tables that holds an iteration."""
        if not 0 <= iteration - self._start < len(self.rates):
            self._load(iteration)
        return iteration - self._start

    def _load(self, start: int) -> None:
        self._start, rows = start, slice(start, start + _AHEAD)
        self.rates = (self._factors[:, rows][self._which] * self._lrs[:, None]).T
        cycles = self._cycles[:, rows][self._which].T
        self.momenta = torch.where(cycles.isnan(), self._usual, cycles)
        counts = torch.arange(start + 1, start + 1 + len(self.rates), dtype=torch.float64)[:, None]
        sizes = torch.where(self._is_adam, self.rates / (1 - self.momenta ** counts), self.rates)
        self.stacked_rates, self.stacked_momenta, self.stacked_sizes = (table.to(self._like).contiguous() for table in (
            self.rates, self.momenta, sizes))


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
        row = self.course.at(iteration)
        if self.decays is not None and self.optimizer == 'adamw':  # no part of the gradient
            self.parameter.mul_(1 - self._now(self.course.stacked_rates, row) * self.decays)
        elif self.decays is not None:
            grad.addcmul_(self.parameter, self.decays)
        momentum = self._now(self.course.stacked_momenta, row) if self.momentum is None else self.momentum
        sizes = self._now(self.course.stacked_sizes, row)
        if self.optimizer == 'sgd':
            self.parameter.addcmul_(self.state[0].mul_(momentum).add_(grad), sizes, value=-1)
            return
        mean, square = self.state
        mean.lerp_(grad, 1 - momentum)
        square.mul_(_BETAS[1]).addcmul_(grad, grad, value=1 - _BETAS[1])
        torch.sqrt(square, out=self.scratch).div_(math.sqrt(1 - _BETAS[1] ** (iteration + 1))).add_(_EPS)
        self.parameter.addcmul_(torch.div(mean, self.scratch, out=self.scratch), sizes, value=-1)

    def _now(self, table: Tensor, row: int) -> Tensor:
        return self._shaped(table[row, self.columns])

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
        place = self.course.at(iteration), self.columns.start
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
