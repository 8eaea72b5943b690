"""One row of the accuracy matrix: exact counts over a test set, each sample once, on one or several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from clear.continual.multitask import call
from clear.continual.scenarios.base import TensorBucket
from clear.core import dist
from clear.core.modes import evaluation_mode
from clear.datasets import BadSampleError

# Values of features in one forward pass, 64 MB of float32.
FEATURE_VALUES = 2**24


@dataclass
class TestCount:
    """Correct and counted samples of one test set over all processes, and the rows that could not be read here."""

    __test__ = False  # pytest takes the name for a test class

    correct: int
    total: int
    bad_rows: list[int]

    @property
    def accuracy(self) -> float | None:
        """Top-1 accuracy of the readable samples; None if there is none."""
        return self.correct / self.total if self.total else None


def count_correct(model: nn.Module, dataset: Dataset, *, batch_size: int, device: torch.device | str,
                  num_workers: int = 0, task: int | None = None) -> TestCount:
    """Count the samples of `dataset` whose highest logit is their target.

    Every process takes every W-th row, and the integer counts are summed, so the result does not depend on the
    number of processes. Unreadable images are left out and listed. The model's modes and the random number
    generators are left as they were.

    Args:
        model: maps a batch to (N, C) logits.
        dataset: a `TensorBucket`, or a map-style data set of (input, target).
        batch_size: rows per forward pass and process; of features more, up to 64 MB.
        task: of all samples, for a model with a head for each.
    """
    rows = range(dist.rank(), len(dataset), dist.world_size())  # none, if there are more processes than samples
    counts = torch.zeros(2, dtype=torch.int64, device=device)
    bad_rows: list[int] = []
    with evaluation_mode(model):
        for inputs, targets in _batches(dataset, rows, batch_size, num_workers, bad_rows):
            logits = call(model, inputs.to(device, non_blocking=True), task)
            correct = (logits.argmax(1) == targets.to(device, non_blocking=True)).sum()
            counts += torch.stack([correct, correct.new_tensor(len(targets))])
    correct, total = dist.sum_over_ranks(counts).tolist()
    return TestCount(correct, total, bad_rows)


def count_confusions(model: nn.Module, dataset: Dataset, num_classes: int, *, batch_size: int,
                     device: torch.device | str, num_workers: int = 0, task: int | None = None) -> torch.Tensor:
    """How often samples of class i (row) have their highest logit in class j (column), as (C, C) int64.

    The diagonal sums to what `count_correct` counts, which says what the arguments are and what is left out.

    Raises:
        ValueError: if the model has more outputs than there are classes, so that an answer has no column.
    """
    rows = range(dist.rank(), len(dataset), dist.world_size())
    counts = torch.zeros(num_classes * num_classes, dtype=torch.int64, device=device)
    with evaluation_mode(model):
        for inputs, targets in _batches(dataset, rows, batch_size, num_workers, []):
            logits = call(model, inputs.to(device, non_blocking=True), task)
            if logits.shape[1] > num_classes:
                raise ValueError(f'The model has {logits.shape[1]} outputs for {num_classes} classes.')
            predicted = logits.argmax(1)
            pairs = targets.to(device, non_blocking=True) * num_classes + predicted
            counts += torch.bincount(pairs, minlength=num_classes * num_classes)
    return dist.sum_over_ranks(counts).reshape(num_classes, num_classes).cpu()


def _batches(dataset: Dataset, rows: range, batch_size: int, num_workers: int, bad_rows: list[int]
             ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if isinstance(dataset, TensorBucket):
        if dataset.inputs.ndim == 2:  # features: their activations are small, and one product is faster than many
            batch_size = max(batch_size, FEATURE_VALUES // max(dataset.inputs.shape[1], 1))
        inputs, labels = dataset.inputs[rows.start::rows.step], dataset.labels[rows.start::rows.step]
        for start in range(0, len(labels), batch_size):
            yield inputs[start:start + batch_size], labels[start:start + batch_size]
        return
    # A generator of its own: DataLoader would draw a seed from the one that orders training.
    loader = DataLoader(_Readable(dataset, list(rows)), batch_size=batch_size, num_workers=num_workers,
                        collate_fn=_collate_readable, generator=torch.Generator())
    for inputs, targets, bad in loader:
        bad_rows.extend(bad)
        if inputs is not None:
            yield inputs, targets


class _Readable(Dataset):
    """The given rows of a data set; an unreadable one comes as its row number alone."""

    def __init__(self, dataset: Dataset, rows: list[int]):
        self.dataset = dataset
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        try:
            return self.dataset[self.rows[index]]
        except BadSampleError:
            return self.rows[index]


def _collate_readable(items: list):
    bad = [item for item in items if isinstance(item, int)]
    good = [item for item in items if not isinstance(item, int)]
    if not good:
        return None, None, bad
    return torch.stack([image for image, _ in good]), torch.tensor([target for _, target in good]), bad
