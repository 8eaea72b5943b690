"""Many heads trained at once: one stack over shared batches, with the gradient written out.

The columns of the grid differ in learning rate, weight decay, optimiser, schedule and seed of their first weights.
They see the same batches in the same order, so that a difference between two columns is never one of batch order
(and a spread over seeds is one of first weights alone).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clear.core.checks import check_number, check_whole
from clear.core.errors import DataError
from clear.evaluation.image.grid.points import OPTIMIZERS, GridPoint
from clear.evaluation.image.grid.stacked import StackedHeads
from clear.evaluation.image.grid.updates import Course, updates_of
from clear.evaluation.image.rows import shuffled
from clear.models.heads.linear_gradient import softmax_errors

_LOGITS_PER_CHUNK = 2**24  # bounds the memory of an evaluation: 64 MB of float32 logits


def batch_order(num_rows: int, batch_size: int, epoch: int, seed: int, shuffle: bool = True) -> tuple[Tensor, ...]:
    """The rows of each batch of an epoch; the last batch holds what is left."""
    order = shuffled(num_rows, seed, 'linear probe order', epoch) if shuffle else torch.arange(num_rows)
    return order.split(batch_size)


@dataclass
class TrainedGrid:
    """The heads after training, in the order of the points.

    Args:
        diverged: (G,) bool, columns whose weights left the finite numbers; their weights mean nothing.
        train_loss, train_top1: (G,) float64, mean over the rows of the last epoch, each as its batch was seen; None
            where nobody asked.
    """

    points: list[GridPoint]
    heads: StackedHeads
    diverged: Tensor
    train_loss: Tensor | None = None
    train_top1: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """(G, C, D) of linear heads, of others that of the last layer."""
        return self.heads.weights[-1]

    @property
    def bias(self) -> Tensor:
        """(G, C) of the last layer."""
        return self.heads.biases[-1]

    def logits(self, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Chunks of rows with their logits (G, C, n). The class dimension comes before the rows: see `train_grid`."""
        step = max(1, _LOGITS_PER_CHUNK // (len(self.heads) * self.heads.widest))
        for start in range(0, len(features), step):
            rows = features[start:start + step]
            yield slice(start, start + len(rows)), self.heads.logits(rows)

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
               init: str = 'uniform', hidden: int | None = None, drop_last: bool = False, steps: bool = True,
               track: bool = False, after_epoch: Callable[[int, TrainedGrid], None] | None = None) -> TrainedGrid:
    """Train one head per point with cross-entropy, all in one pass over the data.

    Equal to training each with `nn.Linear`, `torch.optim.SGD(momentum=momentum)`, `torch.optim.Adam` or
    `torch.optim.AdamW` (weight decay as in these, also of the bias: added to the gradient by the first two, decoupled
    in AdamW), and a scheduler as in `schedules`, over `batch_order`. Adam's betas and eps are torch's defaults.

    Args:
        features: (N, D) floating; its dtype is the dtype of training.
        labels: (N,) int64 in 0 ... num_classes-1.
        momentum: of SGD, for points without their own.
        shuffle: False takes the rows in their order in every epoch, as the earlier systems did.
        init: of `initial_head`.
        hidden: width of a hidden layer with a rectifier; None trains linear classifiers.
        drop_last: leave the last, smaller batch of every epoch out.
        steps: False never steps the schedules, so that their first value stays.
        track: note loss and accuracy of the batches as they are trained on.
        after_epoch: called with the epoch, from 1, and the heads as they are then.

    Raises:
        ValueError: if features and labels do not belong together, or a label is out of range.
        DataError: with `drop_last`, for fewer rows than a batch.
    """
    _check_rows(features, labels, num_classes)
    points = list(points)
    # SGD's columns first, then Adam's, then AdamW's: each optimiser then works on one contiguous slice.
    order = sorted(range(len(points)), key=lambda column: OPTIMIZERS.index(points[column].optimizer))
    back = torch.tensor(order, device=features.device).argsort()
    per_epoch = len(labels) // batch_size if drop_last else math.ceil(len(labels) / batch_size)
    if not per_epoch:
        raise DataError(f'{len(labels)} training rows make no batch of {batch_size}, and the tail is dropped '
                        '(legacy=True). Give a smaller batch_size.')
    ordered = [points[column] for column in order]
    course = Course(ordered, epochs, per_epoch, momentum=momentum, like=features, steps=steps)
    sizes = [features.shape[1], *([] if hidden is None else [hidden]), num_classes]
    trainer = _StackedTrainer(ordered, course, sizes, features, min(batch_size, len(labels)), init)
    sums = features.new_zeros((2, len(points)), dtype=torch.float64) if track else None
    iteration = 0
    for epoch in range(epochs):
        for rows in batch_order(len(labels), batch_size, epoch, order_seed, shuffle)[:per_epoch]:
            trainer.step(features, labels, rows.to(features.device), iteration, sums)
            iteration += 1
        trainer.note_diverged()
        if after_epoch is not None or epoch == epochs - 1:
            seen = per_epoch * batch_size if drop_last else len(labels)
            means = (None, None) if sums is None else (sums / seen)[:, back]
            trained = TrainedGrid(points, trainer.heads[back], trainer.diverged[back], *means)
            if after_epoch is not None:
                after_epoch(epoch + 1, trained)
        if sums is not None:
            sums.zero_()
    return trained


class _StackedTrainer:
    """The stacked heads with the state of their optimisers and the buffers that every iteration uses again.

    Logits are kept as (G, C, B), see `softmax_errors`.
    """

    def __init__(self, points: list[GridPoint], course: Course, sizes: Sequence[int], like: Tensor, batch_size: int,
                 init: str):
        self.heads = StackedHeads.drawn(sizes, [point.seed for point in points], like.dtype, init).to(like.device)
        self.diverged = torch.zeros(len(points), dtype=torch.bool, device=like.device)
        self._batch = like.new_empty(batch_size, sizes[0])
        self._outputs = [like.new_empty(len(points) * size * batch_size) for size in sizes[1:]]
        self._updates = [(updates_of(weight, points, course), updates_of(bias, points, course))
                         for weight, bias in zip(self.heads.weights, self.heads.biases)]
        # The gradient of one update's columns at a time: it is used while it still lies in the cache.
        self._grads = [like.new_empty(max(update.columns.stop - update.columns.start for update in updates),
                                      *weight.shape[1:]) for weight, (updates, _) in zip(self.heads.weights,
                                                                                         self._updates)]

    def step(self, features: Tensor, labels: Tensor, rows: Tensor, iteration: int, sums: Tensor | None) -> None:
        """One iteration on the given rows; adds loss and hits of each column to `sums` (2, G)."""
        batch = torch.index_select(features, 0, rows, out=self._batch[:len(rows)])
        inputs = self._forward(batch)
        errors = softmax_errors(inputs.pop(), labels[rows], sums)
        for layer in reversed(range(len(self.heads.weights))):
            below = inputs.pop() if layer else batch
            # Before the weights change.
            passed = torch.bmm(self.heads.weights[layer].transpose(1, 2), errors) if layer else None
            self._update(layer, errors, below, iteration)
            if passed is not None:
                errors = passed.mul_(below.sign_())  # the slope of the rectifier, 0 or 1

    def _forward(self, batch: Tensor) -> list[Tensor]:
        """What each layer gives, (G, size, B); of all but the last, rectified."""
        found: list[Tensor] = []
        for weight, bias, buffer in zip(self.heads.weights, self.heads.biases, self._outputs):
            num_columns, size, dim = weight.shape
            out = buffer[:num_columns * size * len(batch)].view(num_columns, size, len(batch))
            if found:
                torch.baddbmm(bias[:, :, None], weight, found[-1].relu_(), out=out)
            else:
                torch.addmm(bias.view(-1, 1), weight.view(-1, dim), batch.T, out=out.view(-1, len(batch)))
            found.append(out)
        return found

    def _update(self, layer: int, errors: Tensor, inputs: Tensor, iteration: int) -> None:
        """Update weight and bias of a layer; its inputs are the batch (B, D), or what the layer before gave."""
        weights, biases = self._updates[layer]
        for update in weights:
            own, grad = errors[update.columns], self._grads[layer]
            grad = grad[:len(own)]
            if layer:
                torch.bmm(own, inputs[update.columns].transpose(1, 2), out=grad)
            else:
                torch.mm(own.reshape(-1, len(inputs)), inputs, out=grad.view(-1, inputs.shape[1]))
            update(grad, iteration)
        grad = errors.sum(2)
        for update in biases:
            update(grad[update.columns], iteration)

    def note_diverged(self) -> None:
        """Mark columns with a weight that is not finite; they never come back, so once per epoch is enough."""
        self.diverged |= ~self.heads.are_finite()


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
