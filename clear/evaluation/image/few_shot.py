"""Few-shot classification: a handful of training rows per class, drawn several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from clear.core.checks import check_choice, check_whole
from clear.evaluation.image.logistic_probe import check_strengths, fit_logistic
from clear.evaluation.image.nearest_class_mean import nearest_mean_scores
from clear.evaluation.image.rows import LabelledRows, ProbeData, read_splits, sample_shots, seed_list
from clear.evaluation.image.scaling import check_scale, fit_scale
from clear.evaluation.task import TaskData, TaskResult, classification_metrics, seed_extras
from clear.registry import TASKS

CLASSIFIERS = ('logistic', 'nearest_mean')


@TASKS.register_module()
class FewShotProbe:
    """Train on `shots` rows of every class, test on all of 'test'; mean and sample standard deviation over draws.

    With one seed the rows of fewer shots are a subset of those of more. Nothing is chosen on validation: a handful of
    rows cannot spare any, and the strength of the penalty is fixed beforehand. A 'val' bank is not read.

    Args:
        seeds: of the draws; how many (seed, seed + 1, ...), or a list.
        classifier: 'logistic', or 'nearest_mean' (cosine), which has no setting at all.
        c: inverse strength of the penalty of 'logistic', as in `LogisticProbe`.
        scale: of the features for 'logistic'; 'l2' by default, because the variance of a dimension over a few rows
            says little.

    Raises:
        ConfigError: for an unknown classifier or scale, or a number that is not positive.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> FewShotProbe(shots=1, seeds=2).fit(data).value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True

    def __init__(self, *, shots: int = 5, seeds: int | Sequence[int] = 5, classifier: str = 'logistic', c: float = 10.0,
                 scale: str = 'l2', seed: int = 0, device: str = 'cpu'):
        check_choice('classifier', classifier, CLASSIFIERS)
        self.shots, self.seeds = check_whole('shots', shots, 1), seed_list(seeds, seed)
        self.classifier, self.scale, self.device = classifier, check_scale(scale), device
        self.c = check_strengths(c)[0]

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Draw, train and test.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`), or a class of fewer rows than shots.
        """
        return self.fit(read_splits(data.bank, self.device))

    def fit(self, data: ProbeData) -> TaskResult:
        """The same on tensors."""
        per_seed = {}
        for seed in self.seeds:
            train = data.train.take(sample_shots(data.train.labels, self.shots, seed, data.class_names))
            per_seed[seed] = classification_metrics(self._scores(train, data), data.test.labels)
        extras = seed_extras(per_seed)
        extras.update({**data.sizes(), 'n_train': len(train), 'n_val': 0}, shots=self.shots, seeds=self.seeds)
        return TaskResult('top1', extras['metrics']['top1'], True, extras)

    def _scores(self, train: LabelledRows, data: ProbeData) -> Tensor:
        if self.classifier == 'nearest_mean':
            return nearest_mean_scores(data.test.features, train.features, train.labels, data.num_classes)
        scale = fit_scale(self.scale, train.features)
        fit = fit_logistic(scale(train.features), train.labels, data.num_classes, self.c)
        return fit.logits(scale(data.test.features))
