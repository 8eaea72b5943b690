"""Logistic regression on sentence embeddings by the protocols of SentEval: its strength is chosen on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import DataError
from clear.evaluation.image.logistic_probe import fit_logistic
from clear.evaluation.image.rows import LabelledRows
from clear.evaluation.task import classification_metrics

# Its seed of the folds.
SEED = 1111
Folds = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Tested:
    """Scores (N, C) of test rows in their order, the C that was chosen (several with outer folds), its accuracies."""

    scores: Tensor
    selected: list[float]
    val_top1: list[float]


def split_folds(labels: Tensor, count: int, seed: int = SEED) -> Folds:
    """(rows that stay, rows of the fold) of each of `count` stratified, shuffled folds, those of scikit-learn.

    Raises:
        DataError: for a class of fewer rows than folds.
    """
    from sklearn.model_selection import StratifiedKFold

    least = int(labels.bincount()[labels.unique()].min())
    if least < count:
        raise DataError(f'{count} folds need {count} rows of each class; one has {least}.')
    splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
    return [(torch.from_numpy(rest), torch.from_numpy(own))
            for rest, own in splitter.split(np.zeros(len(labels)), labels.numpy())]


def select(train: LabelledRows, num_classes: int, cs: Sequence[float], folds: Folds) -> tuple[float, float]:
    """(C, accuracy) of the highest mean accuracy over folds; of equal ones the smaller C."""
    accuracies = torch.zeros(len(cs), dtype=torch.float64)
    for rest, own in folds:
        kept, held, found = train.take(rest), train.take(own), None
        for place, c in enumerate(cs):
            found = fit_logistic(kept.features, kept.labels, num_classes, c, start=found)
            top1 = classification_metrics(found.logits(held.features), held.labels)['top1']
            accuracies[place] += top1 / len(folds)
    best = max(range(len(cs)), key=lambda place: (accuracies[place].item(), -place))
    return cs[best], accuracies[best].item()


def nested(rows: LabelledRows, num_classes: int, cs: Sequence[float], folds: int) -> Tested:
    """Test each of `folds` parts by a fit on the others, its C chosen by as many folds inside these."""
    scores = torch.zeros(len(rows), num_classes)
    selected, accuracies = [], []
    for rest, own in split_folds(rows.labels, folds):
        train = rows.take(rest)
        c, accuracy = select(train, num_classes, cs, split_folds(train.labels, folds))
        scores[own] = fit_logistic(train.features, train.labels, num_classes, c).logits(rows.features[own])
        selected.append(c)
        accuracies.append(accuracy)
    return Tested(scores, selected, accuracies)


def tested(train: LabelledRows, test: LabelledRows, num_classes: int, cs: Sequence[float], folds: int,
           val: LabelledRows | None = None) -> Tested:
    """Choose C by `val`, else by folds of `train`; fit on all of `train`, and test once."""
    if val is None:
        c, accuracy = select(train, num_classes, cs, split_folds(train.labels, folds))
    else:
        both = LabelledRows(torch.cat([train.features, val.features]), torch.cat([train.labels, val.labels]))
        c, accuracy = select(both, num_classes, cs, [(torch.arange(len(train)),
                                                      torch.arange(len(train), len(both)))])
    final = fit_logistic(train.features, train.labels, num_classes, c)
    return Tested(final.logits(test.features), [c], [accuracy])


def f1(predicted: Tensor, labels: Tensor) -> float:
    """F1 of class 1: twice the hits over the predicted and the true ones; 0 if there are neither."""
    hits = int(((predicted == 1) & (labels == 1)).sum())
    total = int((predicted == 1).sum() + (labels == 1).sum())
    return 2 * hits / total if total else 0.0
