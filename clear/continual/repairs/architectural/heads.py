"""Avalanche's growing classifiers as heads of a composed model."""

from __future__ import annotations

import torch
from avalanche.models import IncrementalClassifier as AvalancheIncrementalClassifier
from avalanche.models import MultiHeadClassifier as AvalancheMultiHeadClassifier
from torch import Tensor

from clear.registry import MODELS


@MODELS.register_module()
class MultiHeadClassifier(AvalancheMultiHeadClassifier):
    """A linear head for each task, made when the task begins; a sample is classified by the head of its task.

    Heads of fewer units than the widest are filled up. Avalanche 0.6 fills up with zeros, which a trained head's own
    logits may lie below: a sample is then given a class that its head does not have, and the loss pushes against units
    that do not exist. Here it is `mask_value`.

    Args:
        in_features: length of a feature.
        initial_out_features: units of a new head, before its classes ask for more.
        masking: units of classes that the task does not have give `mask_value`.
        legacy: fill up with zeros.

    Shape:
        x: (N, in_features)   task_labels: (N,), or one label for all   returns: (N, units)
    """

    def __init__(self, in_features: int, initial_out_features: int = 2, masking: bool = True,
                 mask_value: float = -1000, *, legacy: bool = False):
        super().__init__(in_features, initial_out_features, masking, mask_value)
        self.legacy = legacy

    def forward(self, x: Tensor, task_labels: Tensor | int | None) -> Tensor:
        if self.legacy or not isinstance(task_labels, Tensor):
            return super().forward(x, task_labels)
        logits = None
        for task in torch.unique(task_labels).tolist():
            chosen = task_labels == task
            own = self.forward_single_task(x[chosen], task)
            if logits is None:
                logits = own.new_full((len(x), self.max_class_label), self.mask_value)
            logits[chosen, :own.shape[1]] = own
        return logits


@MODELS.register_module()
class IncrementalClassifier(AvalancheIncrementalClassifier):
    """One linear head that gets a unit for every class that comes; units of classes not seen yet are masked.

    Args:
        in_features, initial_out_features, masking, mask_value: as in Avalanche.

    Shape:
        feats: (N, in_features), or a tuple whose last element is that   returns: (N, classes so far)
    """

    def forward(self, feats: Tensor | tuple) -> Tensor:
        return super().forward((feats if isinstance(feats, Tensor) else feats[-1]).flatten(1))
