"""Many heads of ELEVATER trained at once on stored features: they share the batches and the work of BatchNorm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from clear.core.errors import DataError
from clear.evaluation.image.rows import shuffled

BN_EPS, BN_MOMENTUM = 1e-5, 0.1  # torch.nn.BatchNorm1d's defaults
_CACHE_BYTES = 3 * 2**20  # of weights and velocities that train together on a CPU: they stay near its cores
_SMALLEST = 1e-30
_ROWS_AT_ONCE = 2**14  # of an epoch that are normalised ahead
_LOGITS_AT_ONCE = 2**23
# Rows of the stacked weights are padded to whole cache lines, with the bias in the first place behind the features.
_LINE = 16


@dataclass(frozen=True)
class HeadRule:
    """How a head learns: the protocol of ELEVATER (Li et al. 2022, arXiv:2204.08790, their code).

    SGD with momentum, not Nesterov's, at a constant rate; weight decay also of the bias; cross-entropy, or binary
    cross-entropy where an image may show several classes. A last batch of a single row is left out, since BatchNorm
    has no variance of it.

    Args:
        log_scale: logits are multiplied by its exponential, which does not train.
        normalise: bring features to unit length behind BatchNorm.
        multi_label: targets are (N, C) of 0 and 1.
        seed: of the order of the batches, which is the same for all heads.
    """

    batch_size: int = 64
    momentum: float = 0.9
    log_scale: float = 0.0
    normalise: bool = False
    multi_label: bool = False
    seed: int = 0


class HeadGrid:
    """One head for each pair of a learning rate and a weight decay, all with the same first weights.

    Equal to training each alone with `BatchNorm1d(affine=False)`, `Linear`, `torch.optim.SGD` over `head_batches`.
    A head that leaves the finite numbers is dropped: it never comes back.

    Args:
        weight: (C, D) first weights; bias: (C,).
        rates: of each head; decays: likewise.

    Attributes:
        alive: places in `rates` of the heads that are left, ascending.
        mean, var: (D,) of BatchNorm, those of evaluation.
    """

    def __init__(self, weight: Tensor, bias: Tensor, rates: Sequence[float], decays: Sequence[float], rule: HeadRule):
        num_classes, self.dim = weight.shape
        self.rule = rule
        self.num_heads = len(rates)
        self.alive = list(range(self.num_heads))
        width = -(-(self.dim + 1) // _LINE) * _LINE
        self._weight = weight.new_zeros(len(rates), num_classes, width)
        self._weight[:, :, :self.dim], self._weight[:, :, self.dim] = weight, bias
        self._velocity = torch.zeros_like(self._weight)
        self._rates, self._decays = (weight.new_tensor(list(values)).view(-1, 1, 1) for values in (rates, decays))
        self.mean, self.var = weight.new_zeros(self.dim), weight.new_ones(self.dim)

    @property
    def weight(self) -> Tensor:
        """(G, C, D) of the heads that are left."""
        return self._weight[:, :, :self.dim]

    @property
    def bias(self) -> Tensor:
        """(G, C) of the heads that are left."""
        return self._weight[:, :, self.dim]

    @torch.inference_mode()
    def train_epoch(self, features: Tensor, targets: Tensor, epoch: int) -> None:
        """One pass over (N, D) features and their targets.

        Raises:
            DataError: for a single row.
        """
        batches = head_batches(len(features), self.rule.batch_size, self.rule.seed, epoch)
        for part in _parts(batches):
            prepared = [(self._normalised(features[rows]), self._wanted(targets[rows])) for rows in part]
            for heads in self._blocks():
                self._train_block(heads, prepared)
        self._drop_diverged()

    def _wanted(self, targets: Tensor) -> Tensor:
        """Targets in the shape of errors: (C, B) of 0 and 1, or labels (1, 1, B)."""
        return targets.T if self.rule.multi_label else targets.view(1, 1, -1)

    def _blocks(self) -> Iterator[slice]:
        """Heads that train one block after another, so that their weights stay in the cache."""
        size = len(self.alive)
        if self._weight.device.type == 'cpu' and size:
            size = max(1, _CACHE_BYTES // (2 * self._weight[0].nbytes))
        for start in range(0, len(self.alive), size or 1):
            yield slice(start, start + size)

    def _normalised(self, batch: Tensor) -> Tensor:
        """(B, width): the batch behind BatchNorm, a 1 for the bias, zeros; moves the running statistics."""
        return self._padded(functional.batch_norm(batch, self.mean, self.var, training=True, momentum=BN_MOMENTUM,
                                                  eps=BN_EPS))

    def _padded(self, batch: Tensor) -> Tensor:
        padded = batch.new_zeros(len(batch), self._weight.shape[2])
        padded[:, :self.dim] = functional.normalize(batch) if self.rule.normalise else batch
        padded[:, self.dim] = 1
        return padded

    def _train_block(self, heads: slice, prepared: list[tuple[Tensor, Tensor]]) -> None:
        """Some heads over some batches. Each call of torch counts here: a batch of a head takes microseconds."""
        weight, velocity = self._weight[heads], self._velocity[heads]
        decays, rates = self._decays[heads], self._rates[heads]
        num_heads, num_classes, width = weight.shape
        flat_weight, flat_velocity = weight.view(-1, width), velocity.view(-1, width)
        scale = math.exp(self.rule.log_scale)
        minus_one = weight.new_full((1, 1, 1), -1.0)
        for batch, wanted in prepared:
            # Classes before rows, so that softmax runs over rows in vector registers, see `train_grid`.
            logits = torch.mm(flat_weight, batch.T).view(num_heads, num_classes, -1)
            if scale != 1:
                logits *= scale
            if self.rule.multi_label:
                errors = logits.sigmoid_().sub_(wanted)
                factor = scale / (len(batch) * num_classes)
            else:
                # Probabilities below the normal numbers make a product of matrices tens of times slower.
                errors = torch.threshold_(logits.softmax(1), _SMALLEST, 0.0)
                index = wanted.expand(num_heads, 1, -1)
                errors.scatter_add_(1, index, minus_one.expand_as(index))
                factor = scale / len(batch)
            flat_velocity.addmm_(errors.view(-1, len(batch)), batch, beta=self.rule.momentum, alpha=factor)
            velocity.addcmul_(weight, decays)
            weight.addcmul_(velocity, rates, value=-1)

    def _drop_diverged(self) -> None:
        finite = self._weight.isfinite().flatten(1).all(1)
        if not finite.all():
            kept = finite.nonzero().squeeze(1)
            self.alive = [self.alive[place] for place in kept.tolist()]
            for name in ('_weight', '_velocity', '_rates', '_decays'):
                setattr(self, name, getattr(self, name)[kept])

    @torch.no_grad()
    def logits(self, features: Tensor) -> Iterator[Tensor]:
        """Logits (g, C, N) of one head after another, a few at a time, by the running statistics."""
        rows = self._padded(functional.batch_norm(features, self.mean, self.var, eps=BN_EPS))
        num_classes, width = self._weight.shape[1:]
        at_once = max(1, _LOGITS_AT_ONCE // (num_classes * len(rows)))
        scale = math.exp(self.rule.log_scale)
        for weight in self._weight.split(at_once):
            logits = weight.reshape(-1, width) @ rows.T
            yield (logits if scale == 1 else logits.mul_(scale)).view(len(weight), num_classes, len(rows))

    def scores(self, features: Tensor, targets: Tensor, metric: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Metric of every head, in the order of `rates`, (G,) float64; 0 for one that was dropped.

        Args:
            metric: logits (g, C, N), targets -> (g,).
        """
        found = torch.zeros(self.num_heads, dtype=torch.float64)
        if self.alive:
            found[self.alive] = torch.cat([metric(logits, targets) for logits in self.logits(features)]).double().cpu()
        return found


def head_batches(num_rows: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The rows of each batch of an epoch: shuffled, the last, smaller batch with them unless it is a single row.

    Raises:
        DataError: if no batch is left.
    """
    batches = [rows for rows in shuffled(num_rows, seed, 'elevater order', epoch).split(batch_size) if len(rows) > 1]
    if not batches:
        raise DataError(f'{num_rows} rows to train on; BatchNorm needs at least 2.')
    return batches


def _parts(batches: list[Tensor]) -> Iterator[list[Tensor]]:
    """Batches in groups that are prepared together."""
    step = max(1, _ROWS_AT_ONCE // max(map(len, batches)))
    for start in range(0, len(batches), step):
        yield batches[start:start + step]
