"""The metrics of ViRB as its code has them (Kotar et al. 2021, arXiv:2103.14005), to compare with published figures.

Each is of a batch, and its mean over batches depends on how they were cut; `ConfusionMatrix` and `DepthErrors` do not.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-8


def batch_iou(logits: Tensor, labels: Tensor, void: int | None = None) -> float:
    """Mean over the classes above 0 that are in the batch, of the mean over images of their intersection over union.

    An image in which a class is neither there nor predicted scores 1 for it. NaN if the batch has only class 0.

    Args:
        logits: (N, C, H, W); labels: (N, H, W).
        void: label of pixels that count for no class, neither as truth nor as prediction; there is none in ViRB.
    """
    predictions = logits.argmax(1)
    if void is not None:
        predictions = predictions.masked_fill(labels == void, void)
    classes = [label for label in labels.unique().tolist() if label not in (0, void)]
    scores = [_ratio(predictions == label, labels == label).mean() for label in classes]
    return torch.stack(scores).mean().item() if scores else float('nan')


def batch_binary_iou(logits: Tensor, labels: Tensor) -> float:
    """Mean over images and channels of the intersection over union of what is above one half; empty and empty is 1.

    Args:
        logits, labels: (N, C, H, W), labels 0 or 1.
    """
    predictions = logits.sigmoid().round().bool().flatten(0, 1)
    return _ratio(predictions, labels.bool().flatten(0, 1)).mean().item()


def neighbour_accuracy(outputs: Tensor, labels: Tensor, delta: float = 0.05) -> float:
    """Share of pixels with a label other than 0 whose output is at most `delta` from it.

    Args:
        outputs: (N, 1, H, W) or (N, H, W); labels: (N, H, W).
    """
    valid = labels != 0
    near = (outputs.reshape(labels.shape) - labels).abs() <= delta
    return near[valid].double().mean().item()


def _ratio(predictions: Tensor, targets: Tensor) -> Tensor:
    """(N,) of masks (N, H, W)."""
    common, either = (predictions & targets).sum((1, 2)), (predictions | targets).sum((1, 2))
    return (common.double() + _SMALL) / (either.double() + _SMALL)
