"""Many linear classifiers trained at once: one stacked head over shared batches, with the gradient written out.

The columns of the grid differ in learning rate, weight decay, optimiser, schedule and seed of their first weights.
They see the same batches in the same order, so that a difference between two columns is never one of batch order
(and a spread over seeds is one of first weights alone).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import Tensor

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.evaluation.image.rows import shuffled
from clear.evaluation.image.schedules import check_schedule, lr_factors, schedule_name

OPTIMIZERS = ('sgd', 'adam', 'adamw')
INITS = ('uniform', 'normal')
_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch.optim.Adam's defaults, and AdamW's
_LOGITS_PER_CHUNK = 2**24  # bounds the memory of an evaluation: 64 MB of float32 logits


class Setting(TypedDict):
    """The hyper-parameters of a column, without its seed."""

    lr: float
    weight_decay: float
    optimizer: str
    schedule: str


@dataclass(frozen=True)
class GridPoint:
    """One column: the hyper-parameters of a linear classifier and the seed of its first weights."""

    lr: float
    weight_decay: float = 0.0
    optimizer: str = 'sgd'
    schedule: str | dict = 'constant'
    seed: int = 0

    def setting(self) -> Setting:
        """The hyper-parameters without the seed, as plain values."""
        return dict(lr=self.lr, weight_decay=self.weight_decay, optimizer=self.optimizer,
                    schedule=schedule_name(self.schedule))


def expand_grid(lrs: Sequence[float], weight_decays: Sequence[float] = (0.0,), optimizers: Sequence[str] = ('sgd',),
                schedules: Sequence[str | dict] = ('constant',), seeds: Sequence[int] = (0,)) -> list[GridPoint]:
    """Every combination; the seeds of one setting stand next to each other.

    Raises:
        ConfigError: for an empty list, a value that no column can be trained with, or one given twice.
    """
    axes = dict(lrs=lrs, weight_decays=weight_decays, optimizers=optimizers, schedules=schedules, seeds=seeds)
    for name, values in axes.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ConfigError(f'{name} is {values!r}; expected a list of at least one value.')
        if any(value in values[:index] for index, value in enumerate(values)):
            raise ConfigError(f'{name} holds a value twice: {list(values)}.')
    for value in lrs:
        check_number('lrs', value, above=0)
    for value in weight_decays:
        check_number('weight_decays', value, 0)
    for name in optimizers:
        check_choice('an item of optimizers', name, OPTIMIZERS)
    for schedule in schedules:
        check_schedule(schedule)
    return [GridPoint(float(lr), float(decay), optimizer, schedule, seed) for lr, decay, optimizer, schedule, seed
            in itertools.product(lrs, weight_decays, optimizers, schedules, seeds)]


def drawn_pairs(count: int, seed: int) -> list[tuple[float, float]]:
    """Different random pairs of learning rate and weight decay: a * 10^-b with a in 1 ... 8 and b in 1 ... 2 for the
    rate, 5 ... 9 for the decay (the search of ITRA and ProtoCLIP)."""
    check_whole('draws', count, 1, 100)
    generator = torch.Generator().manual_seed(derive_seed(seed, 'linear probe draws'))
    found: dict[tuple[float, float], None] = {}
    while len(found) < count:  # there are 640 pairs
        a, b, c, d = (int(torch.randint(low, high + 1, (), generator=generator))
                      for low, high in ((1, 8), (1, 2), (1, 8), (5, 9)))
        found[float(f'{a}e-{b}'), float(f'{c}e-{d}')] = None
    return list(found)


def batch_order(num_rows: int, batch_size: int, epoch: int, seed: int, shuffle: bool = True) -> tuple[Tensor, ...]:
    """The rows of each batch of an epoch; the last batch holds what is left."""
    order = shuffled(num_rows, seed, 'linear probe order', epoch) if shuffle else torch.arange(num_rows)
    return order.split(batch_size)


def initial_head(num_classes: int, dim: int, seed: int, dtype: torch.dtype = torch.float32, init: str = 'uniform'
                 ) -> tuple[Tensor, Tensor]:
    """First weight (C, D) and bias (C,), drawn in float64.

    'uniform' draws both in ±1/sqrt(D), as `torch.nn.Linear` does; 'normal' draws weights of standard deviation 0.01,
    with a bias of 0.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, 'linear probe head'))
    if init == 'normal':
        weight = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64).mul_(0.01)
        return weight.to(dtype), torch.zeros(num_classes, dtype=dtype)
    bound = 1 / math.sqrt(dim)
    draws = torch.rand(num_classes, dim + 1, generator=generator, dtype=torch.float64).mul_(2 * bound).sub_(bound)
    return draws[:, :dim].to(dtype), draws[:, dim].to(dtype)


@dataclass
class TrainedGrid:
    """The heads after training, in the order of the points.

    Args:
        weight: (G, C, D); bias: (G, C).
        diverged: (G,) bool, columns whose weights left the finite numbers; their weights mean nothing.
    """

    points: list[GridPoint]
    weight: Tensor
    bias: Tensor
    diverged: Tensor

    def logits(self, features: Tensor, columns: Sequence[int] | None = None) -> Iterator[tuple[slice, Tensor]]:
        """Chunks of rows with their logits (G, C, n), for all columns or some of them.

        The class dimension comes before the rows: see `train_grid`.
        """
        weight, bias = (self.weight, self.bias) if columns is None else (self.weight[columns], self.bias[columns])
        num_columns, num_classes, dim = weight.shape
        step = max(1, _LOGITS_PER_CHUNK // (num_columns * num_classes))
        for start in range(0, len(features), step):
            rows = features[start:start + step]
            flat = torch.addmm(bias.reshape(-1, 1), weight.reshape(-1, dim), rows.T)
            yield slice(start, start + len(rows)), flat.view(num_columns, num_classes, len(rows))

    def evaluate(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Top-1 accuracy (G,) and mean cross-entropy (G,), float64, both NaN for a diverged column.

        A row is a hit if the logit of its class is above that of every other: of equal ones it stands last.
        """
        hits = torch.zeros(len(self.points), dtype=torch.float64, device=features.device)
        losses = torch.zeros_like(hits)
        for rows, logits in self.logits(features):
            targets = labels[rows]
            index = targets.view(1, 1, -1).expand(len(logits), 1, -1)
            own = logits.gather(1, index).squeeze(1)  # (G, n)
            losses += (logits.logsumexp(1) - own).sum(1, dtype=torch.float64)
            hits += (own > logits.scatter_(1, index, -math.inf).amax(1)).sum(1)
        bad = self.diverged | ~losses.isfinite()
        nan = torch.full_like(hits, math.nan)
        return torch.where(bad, nan, hits / len(labels)), torch.where(bad, nan, losses / len(labels))


def train_grid(features: Tensor, labels: Tensor, num_classes: int, points: Sequence[GridPoint], *, epochs: int,
               batch_size: int = 256, momentum: float = 0.9, order_seed: int = 0, shuffle: bool = True,
               init: str = 'uniform', after_epoch: Callable[[int, TrainedGrid], None] | None = None) -> TrainedGrid:
    """Train one linear classifier per point with cross-entropy, all in one pass over the data.

    Equal to training each with `nn.Linear`, `torch.optim.SGD(momentum=momentum)`, `torch.optim.Adam` or
    `torch.optim.AdamW` (weight decay as in these, also of the bias: added to the gradient by the first two, decoupled
    in AdamW), and a scheduler as in `schedules`, over `batch_order`. Adam's betas and eps are torch's defaults.

    Args:
        features: (N, D) floating; its dtype is the dtype of training.
        labels: (N,) int64 in 0 ... num_classes-1.
        shuffle: False takes the rows in their order in every epoch, as the earlier systems did.
        init: of `initial_head`.
        after_epoch: called with the epoch, from 1, and the heads as they are then.

    Raises:
        ValueError: if features and labels do not belong together, or a label is out of range.
    """
    _check_rows(features, labels, num_classes)
    points = list(points)
    # SGD's columns first, then Adam's, then AdamW's: each optimiser then works on one contiguous slice.
    order = sorted(range(len(points)), key=lambda column: OPTIMIZERS.index(points[column].optimizer))
    back = torch.tensor(order, device=features.device).argsort()
    trainer = _StackedTrainer([points[column] for column in order], features.shape[1], num_classes, features,
                              batch_size=min(batch_size, len(labels)), momentum=momentum, init=init)
    per_epoch = math.ceil(len(labels) / batch_size)
    rates = torch.stack([lr_factors(point.schedule, epochs, per_epoch) * point.lr for point in trainer.points], 1)
    rates = rates.to(features)  # (iterations, G)
    iteration = 0
    for epoch in range(epochs):
        for rows in batch_order(len(labels), batch_size, epoch, order_seed, shuffle):
            trainer.step(features, labels, rows.to(features.device), rates[iteration], iteration + 1)
            iteration += 1
        trainer.note_diverged()
        if after_epoch is not None:
            after_epoch(epoch + 1, trainer.trained(points, back))
    return trainer.trained(points, back)


class _StackedTrainer:
    """The stacked head with its optimiser state and the buffers that every iteration uses again.

    Logits are kept as (G, C, B): softmax over a dimension that is not the last runs over the batch in vector
    registers, which for few classes is several times faster than over rows of C numbers.
    """

    def __init__(self, points: list[GridPoint], dim: int, num_classes: int, like: Tensor, *, batch_size: int,
                 momentum: float, init: str):
        heads = [initial_head(num_classes, dim, point.seed, like.dtype, init) for point in points]
        self.points = points
        self.weight = torch.stack([weight for weight, _ in heads]).to(like.device)  # (G, C, D)
        self.bias = torch.stack([bias for _, bias in heads]).to(like.device)  # (G, C)
        self.momentum = momentum
        self.diverged = torch.zeros(len(points), dtype=torch.bool, device=like.device)
        self._batch = like.new_empty(batch_size, dim)
        self._logits = like.new_empty(len(points) * num_classes * batch_size)
        self._minus_one = like.new_full((1, 1, 1), -1.0)
        self._grads = torch.empty_like(self.weight), torch.empty_like(self.bias)
        # AdamW's decay is no part of the gradient.
        self._decays = like.new_tensor([0 if point.optimizer == 'adamw' else point.weight_decay for point in points])
        self._shrinks = like.new_tensor([point.weight_decay for point in points])
        counts = [sum(point.optimizer == name for point in points) for name in OPTIMIZERS]
        ends = list(itertools.accumulate(counts))
        self._slices = {name: slice(end - count, end) for name, count, end in zip(OPTIMIZERS, counts, ends)}
        self._state = {name: [[torch.zeros_like(parameter[part]) for _ in range(1 if name == 'sgd' else 3)]
                              for parameter in (self.weight, self.bias)] for name, part in self._slices.items()}

    def step(self, features: Tensor, labels: Tensor, rows: Tensor, rates: Tensor, count: int) -> None:
        """One iteration on the given rows; `rates` (G,), `count` starts at 1."""
        self._backward(torch.index_select(features, 0, rows, out=self._batch[:len(rows)]), labels[rows])
        for index, (parameter, grad) in enumerate(zip((self.weight, self.bias), self._grads)):
            shape = (-1, *[1] * (parameter.ndim - 1))
            grad.addcmul_(parameter, self._decays.view(shape))
            for name, part in self._slices.items():
                if part.start == part.stop:
                    continue
                if name == 'adamw':
                    parameter[part].mul_(1 - (rates[part] * self._shrinks[part]).view(shape))
                update = self._sgd if name == 'sgd' else self._adam
                update(parameter[part], grad[part], rates[part].view(shape), self._state[name][index], count)

    def _backward(self, batch: Tensor, targets: Tensor) -> None:
        """Fill the gradients of the mean cross-entropy: softmax minus one-hot, times the batch."""
        num_columns, num_classes, dim = self.weight.shape
        size = len(batch)
        flat = self._logits[:num_columns * num_classes * size].view(-1, size)  # (G * C, B)
        torch.addmm(self.bias.view(-1, 1), self.weight.view(-1, dim), batch.T, out=flat)
        errors = flat.view(num_columns, num_classes, size)
        torch.softmax(errors, 1, out=errors)
        index = targets.view(1, 1, size).expand(num_columns, 1, size)
        errors.scatter_add_(1, index, self._minus_one.expand(num_columns, 1, size))
        grad_weight, grad_bias = self._grads
        flat_grad = grad_weight.view(-1, dim)
        torch.addmm(flat_grad, flat, batch, beta=0, alpha=1 / size, out=flat_grad)
        torch.mean(errors, 2, out=grad_bias)

    def _sgd(self, parameter: Tensor, grad: Tensor, rates: Tensor, state: list[Tensor], count: int) -> None:
        velocity = state[0].mul_(self.momentum).add_(grad)
        parameter.addcmul_(velocity, rates, value=-1)

    def _adam(self, parameter: Tensor, grad: Tensor, rates: Tensor, state: list[Tensor], count: int) -> None:
        mean, square, scratch = state
        mean.lerp_(grad, 1 - _BETAS[0])
        square.mul_(_BETAS[1]).addcmul_(grad, grad, value=1 - _BETAS[1])
        torch.sqrt(square, out=scratch).div_(math.sqrt(1 - _BETAS[1] ** count)).add_(_EPS)
        torch.div(mean, scratch, out=scratch)
        parameter.addcmul_(scratch, rates, value=-1 / (1 - _BETAS[0] ** count))

    def trained(self, points: list[GridPoint], back: Tensor) -> TrainedGrid:
        """A copy of the heads as they are, in the order of `points`."""
        return TrainedGrid(points, self.weight[back], self.bias[back], self.diverged[back])

    def note_diverged(self) -> None:
        """Mark columns with a weight that is not finite; they never come back, so once per epoch is enough."""
        self.diverged |= ~(self.weight.isfinite().flatten(1).all(1) & self.bias.isfinite().all(1))


def _check_rows(features: Tensor, labels: Tensor, num_classes: int) -> None:
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise ValueError(f'features {tuple(features.shape)}, labels {tuple(labels.shape)}; expected (N, D) and (N,).')
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f'labels lie in {low} ... {high}, expected 0 ... {num_classes - 1}.')


def check_training(epochs: int, batch_size: int, momentum: float) -> None:
    """Refuse numbers that no grid can be trained with."""
    check_whole('epochs', epochs, 1)
    check_whole('batch_size', batch_size, 1)
    check_number('momentum', momentum, 0, below=1)
