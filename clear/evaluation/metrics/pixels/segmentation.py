"""Intersection over union and accuracy of pixels, from one confusion matrix of the whole data set."""

from __future__ import annotations

import torch
from torch import Tensor

from clear.core.checks import check_whole

_BYTE = 256
_CHUNK = 2**19  # pixels counted at once: what is made of them stays in the cache


class ConfusionMatrix:
    """Counts of pixels by target and prediction, added up over batches: nothing of it depends on how they were cut.

    Means follow the rule of most published figures, mmsegmentation's and torchmetrics' `MulticlassJaccardIndex`: a
    class that is neither in a target nor in a prediction is left out, one that is only predicted counts as 0.

    Args:
        num_classes: C.
        ignore_index: target of pixels that do not count. It may be one of the classes: then no pixel is of that class,
            yet it is still predicted, wrongly.
        device: where counts are kept.

    Example:
        >>> matrix = ConfusionMatrix(4)
        >>> matrix.update(torch.tensor([[0, 0, 1, 1], [0, 0, 1, 3]]), torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]]))
        >>> matrix.iou(), matrix.mean_iou()
        (tensor([1.0000, 0.7500,    nan, 0.0000], dtype=torch.float64), 0.5833333333333334)
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None, device: torch.device | str = 'cpu'):
        self.num_classes = check_whole('num_classes', num_classes, 1)
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count pixels.

        Args:
            predictions: class indices of any shape; targets: of the same shape, `ignore_index` among them.

        Raises:
            ValueError: for other shapes, or an index that is no class.
        """
        if predictions.shape != targets.shape:
            raise ValueError(f'predictions {tuple(predictions.shape)} and targets {tuple(targets.shape)} differ in '
                             'shape.')
        if not targets.numel():
            return
        for part, other in zip(predictions.reshape(-1).split(_CHUNK), targets.reshape(-1).split(_CHUNK)):
            self._count(part, other)

    def _count(self, predictions: Tensor, targets: Tensor) -> None:
        size, void = self.num_classes, self.ignore_index
        _check_range('predictions', predictions, size)
        if void is not None and not 0 <= void < _BYTE:
            targets, void = targets.masked_fill(targets == void, size), size
        if targets.dtype != torch.uint8:
            _check_range('targets', targets, max(size, -1 if void is None else void + 1))
        # Whatever a byte may hold has a row of its own, so that pixels that do not count are not taken out.
        rows = max(size + 1, _BYTE)
        kind = torch.int16 if rows * size < 2**15 else torch.int32
        cells = torch.add(predictions.to(kind), targets.to(kind), alpha=size)
        counts = torch.bincount(cells, minlength=rows * size).view(rows, size)
        if void is not None:
            counts[void] = 0
        beyond = counts[size:].sum(1).nonzero()
        if len(beyond):
            _refuse('targets', size + int(beyond[0]), size)
        self.counts += counts[:size]

    def iou(self) -> Tensor:
        """(C,) float64: intersection over union of each class, NaN for one that is nowhere."""
        hits = self.counts.diagonal().double()
        return hits / (self.counts.sum(0) + self.counts.sum(1) - hits)

    def mean_iou(self) -> float:
        """The mean of `iou` over classes that are somewhere."""
        return self.iou().nanmean().item()

    def pixel_accuracy(self) -> float:
        """Share of pixels whose class is right (aAcc)."""
        return (self.counts.diagonal().sum().double() / self.counts.sum()).item()

    def mean_class_accuracy(self) -> float:
        """The mean over classes that are in a target of the share of their pixels that is right (mAcc)."""
        return (self.counts.diagonal().double() / self.counts.sum(1)).nanmean().item()


def _check_range(name: str, indices: Tensor, size: int) -> None:
    low, high = torch.aminmax(indices)
    if low < 0 or high >= size:
        _refuse(name, int(low if low < 0 else high), size)


def _refuse(name: str, index: int, size: int) -> None:
    raise ValueError(f'{name} hold {index}, which is none of the classes 0 ... {size - 1}.')
