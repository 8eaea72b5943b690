"""VOC 2007 classification by linear support vector machines on the features of a bank."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import nn

from clear.core.checks import check_text, check_whole
from clear.core.errors import DataError
from clear.datasets.readers.voc import VOC_CLASSES, read_voc, voc_targets
from clear.datasets.table import ImageTable
from clear.evaluation.image.logistic_probe import check_strengths
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.metrics.average_precision import average_precision, mean_average_precision
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class VOC07SVM:
    """One linear SVM per class on features of unit length, its cost chosen by cross-validation (protocol 'svm').

    Trained on trainval, tested once on test: the protocol of Goyal et al. 2019 (arXiv:1905.01235) with a squared
    hinge loss and positives of twice the weight. Its list of costs is that of the low-dimensional benchmarks that
    followed. Rows whose class is marked difficult are left out for that class, in training, selection and test (there
    they count as negatives).

    Args:
        data_root: the folder `VOC2007`, or one above it (see `find_voc`); labels and lists are read from there.
        costs: candidates for each class; the highest mean average precision over the folds wins, then the smaller.
        folds: of the cross-validation, stratified, in the order of the list.
        positive_weight: of positives in the loss.
        max_iterations: of each fit; how many fits reached it is in `extras['not_converged']`.
        seed: of liblinear's order of coordinates.

    Raises:
        ConfigError: for a cost that is not above 0, or fewer than two folds.
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')

    def __init__(self, *, data_root: str, costs: Sequence[float] = (0.01, 0.1, 1.0, 10.0, 100.0), folds: int = 3,
                 positive_weight: float = 2.0, max_iterations: int = 2000, seed: int = 0):
        self.data_root = check_text('data_root', data_root)
        self.costs = check_strengths(costs)
        self.folds = check_whole('folds', folds, 2)
        self.positive_weight = positive_weight
        self.max_iterations = check_whole('max_iterations', max_iterations, 1)
        self.seed = seed

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Fit and test on the banks 'train' and 'test', which hold the images of trainval and test by file name.

        One bank of `dict(type='ImageFolder', root='.../VOC2007/JPEGImages')` serves as both, or two of
        `dict(type='VOC2007', root='.../VOC2007', split='trainval')` and `split='test'` do. Images that could not be
        read are left out and counted.

        Raises:
            DataError: if annotations are missing, a bank lacks an image, or a class has too few positives.
        """
        check_splits(data.bank, required=('train', 'test'))
        lists = {'train': read_voc(self.data_root, 'trainval'), 'test': read_voc(self.data_root, 'test')}
        rows = {name: bank_rows(data.bank[name], images) for name, images in lists.items()}
        result = self.fit(*rows['train'], *rows['test'])
        result.extras['unreadable'] = {name: len(images) - len(rows[name][1]) for name, images in lists.items()}
        return result

    def fit(self, features: np.ndarray, targets: np.ndarray, test_features: np.ndarray,
            test_targets: np.ndarray) -> TaskResult:
        """The same on arrays: features (N, D), targets (N, C) with 1, 0, and -1 for difficult."""
        check_positives(targets, 'trainval', self.folds)
        check_positives(test_targets, 'test', 1)
        train, test = _unit_rows(features), _unit_rows(test_features)
        scores = np.empty(test_targets.shape)
        selected, folds_ap, stopped = [], [], 0
        for column in range(targets.shape[1]):
            kept = targets[:, column] >= 0
            rows, labels = train[kept], targets[kept, column]
            means, count = self._cross_validate(rows, labels)
            # argmax takes the first of equal ones, which is the smallest cost.
            selected.append(self.costs[int(np.argmax(means))] if len(self.costs) > 1 else self.costs[0])
            folds_ap.append(means)
            model, is_stopped = self._train(rows, labels, selected[-1])
            stopped += count + is_stopped
            scores[:, column] = model.decision_function(test)
        extras = voc_metrics(scores, test_targets)
        extras.update(protocol='svm', selected=dict(cost=_by_class(selected)), candidates=self.costs,
                      cross_validation=_by_class(folds_ap), not_converged=stopped, n_train=len(targets), n_val=0,
                      n_test=len(test_targets))
        return TaskResult('map', extras['metrics']['map'], True, extras)

    def _cross_validate(self, features: np.ndarray, labels: np.ndarray) -> tuple[list[float | None], int]:
        """Mean average precision of each cost over the folds (a single one needs none); how many fits were stopped."""
        from sklearn.model_selection import StratifiedKFold

        if len(self.costs) == 1:
            return [None], 0
        splits = list(StratifiedKFold(self.folds).split(features, labels))
        means, stopped = [], 0
        for cost in self.costs:
            found = []
            for train, held_out in splits:
                model, is_stopped = self._train(features[train], labels[train], cost)
                found.append(average_precision(model.decision_function(features[held_out]), labels[held_out]))
                stopped += is_stopped
            means.append(float(np.mean(found)))
        return means, stopped

    def _train(self, features: np.ndarray, labels: np.ndarray, cost: float) -> tuple[Any, bool]:
        """A fitted machine, and whether it ran out of iterations."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC

        model = LinearSVC(C=cost, class_weight={0: 1.0, 1: self.positive_weight}, dual=True, tol=1e-4,
                          max_iter=self.max_iterations, random_state=self.seed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            model.fit(features, labels)
        return model, any(issubclass(item.category, ConvergenceWarning) for item in caught)


def bank_rows(bank: Any, images: ImageTable) -> tuple[np.ndarray, np.ndarray]:
    """Features (M, D) float32 and targets (M, 20) of the readable images of a list, by file name or by VOC's id.

    Raises:
        DataError: if the bank lacks an image, or features are not finite.
    """
    try:
        rows = bank.rows_of(file_names(images))
    except DataError:
        rows = bank.rows_of(images.texts('id'))  # in a bank of dict(type='VOC2007')
    readable = np.asarray(bank.valid)[rows]
    features = bank.tensors(rows)[0]
    check_features(features, images.text('split', 0))
    return features.numpy(), voc_targets(images)[readable]


def file_names(images: ImageTable) -> list[str]:
    """The paths without their folders."""
    return [path.rpartition('/')[2] for path in images.texts('path')]


def check_positives(targets: np.ndarray, split: str, least: int) -> None:
    """Refuse a split in which a class has too few positives, or negatives, to train or rank.

    Raises:
        DataError: naming the class.
    """
    for column in range(targets.shape[1]):
        for value, what in ((1, 'show'), (0, 'do not show')):
            count = int((targets[:, column] == value).sum())
            if count < least:
                name = VOC_CLASSES[column] if targets.shape[1] == len(VOC_CLASSES) else column
                raise DataError(f"{count} of the {len(targets)} images of '{split}' {what} class '{name}', at least "
                                f'{least} are needed. Is the list complete?')


def voc_metrics(scores: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """`metrics`: `map` (area) and `map_11point`, means over classes; `per_class`: class -> average precision (area)."""
    value, each = mean_average_precision(scores, targets)
    eleven, _ = mean_average_precision(scores, targets, '11point')
    return dict(metrics=dict(map=value, map_11point=eleven), per_class=_by_class(each.tolist()))


def _by_class(values: Sequence[Any]) -> dict[str, Any]:
    names = VOC_CLASSES if len(values) == len(VOC_CLASSES) else [str(index) for index in range(len(values))]
    return dict(zip(names, values))


def _unit_rows(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    # The margin is the benchmark's; a row of zeros stays one.
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-5)
