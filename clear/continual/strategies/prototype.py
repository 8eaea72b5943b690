"""Class means as a classifier: of the current bucket, or of everything seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.continual.strategies.closed_form import ClosedForm, ClosedFormLearner, to_device, write_head
from clear.core.checks import check_whole
from clear.core.logs import logger
from clear.registry import STRATEGIES


class PrototypeLearner(ClosedFormLearner):
    """Means of the features of each class.

    With a linear head the weights are the means and the biases -|mean|^2 / 2, so the highest logit is the nearest mean;
    with a cosine head it is the mean at the smallest angle.

    Args:
        cumulate: means over the whole stream, each sample counted once; else over the current experience, where a class
            that is missing keeps its earlier mean.
        legacy: see `Prototype` and `PrototypePlus`.
    """

    def __init__(self, cumulate: bool, legacy: bool = False):
        super().__init__()
        self.cumulate = cumulate
        self.legacy = legacy
        self.sums: Tensor | None = None  # of the current experience, (C, D) float64
        self.counts: Tensor | None = None  # (C,)
        self.means: Tensor | None = None  # (C, D) float64
        self.totals: Tensor | None = None  # samples behind each mean, (C,)

    def before_training_exp(self, strategy, **kwargs):
        self.sums = self.counts = None

    def observe(self, features: Tensor, targets: Tensor, head: nn.Module) -> None:
        if self.legacy:
            self._write_batch_means(features, targets, head)
            return
        num_classes, dim = head.num_classes, features.shape[1]
        if self.sums is None:
            self.sums = torch.zeros(num_classes, dim, dtype=torch.float64)
            self.counts = torch.zeros(num_classes, dtype=torch.float64)
        if self.means is None:
            self.means, self.totals = torch.zeros_like(self.sums), torch.zeros_like(self.counts)
        to_device(self, ('sums', 'counts', 'means', 'totals'), features.device)
        self.sums.index_add_(0, targets, features.double())
        self.counts += torch.bincount(targets, minlength=num_classes)

    def _write_batch_means(self, features: Tensor, targets: Tensor, head: nn.Module) -> None:
        means = torch.stack([features[targets == label].mean(0) for label in range(head.num_classes)])
        head.fc.weight.data.copy_(head.fc.weight + means if self.cumulate else means)

    def solve(self, head: nn.Module) -> None:
        if self.legacy or self.sums is None:
            return
        present = self.counts > 0
        means = self.sums / self.counts.clamp(min=1)[:, None]
        if self.cumulate:
            share = self.counts / (self.totals + self.counts).clamp(min=1)
            self.means += share[:, None] * (means - self.means)
            self.totals += self.counts
        else:
            self.means = torch.where(present[:, None], means, self.means)
            self.totals = torch.where(present, self.counts, self.totals)
        self._report_missing(present)
        write_head(head, self.means, -self.means.square().sum(1) / 2, self.totals > 0)

    def _report_missing(self, present: Tensor) -> None:
        for known, what in ((True, 'keep their earlier prototypes'), (False, 'were never seen and have none')):
            labels = torch.nonzero(~present & ((self.totals > 0) == known)).reshape(-1).tolist()
            if labels:
                logger.warning('No sample of class %s in this experience: they %s.', ', '.join(map(str, labels)), what)


def _batch_size(kwargs: dict, shot: int | None) -> dict:
    """`kwargs` with batches of `shot` samples of every class."""
    if shot is None:
        return kwargs
    check_whole('shot', shot, 1)
    return {**kwargs, 'train_mb_size': shot * kwargs['model'].num_classes}


@STRATEGIES.register_module()
class Prototype(ClosedForm):
    """The class means of the current experience are the classifier.

    Args:
        shot: samples of each class in a few-shot stream; sets the batch to all of them. The result does not depend
            on the batch, unless `legacy`.
        legacy: the form of the earlier demo: the means of the last batch alone are the weights, a class missing from it
            becomes NaN, and a bias keeps its random first value.
    """

    def __init__(self, *, shot: int | None = None, legacy: bool = False, **kwargs):
        super().__init__(learner=PrototypeLearner(cumulate=False, legacy=legacy), **_batch_size(kwargs, shot))


@STRATEGIES.register_module()
class PrototypePlus(ClosedForm):
    """The class means over all experiences, every sample counted once, are the classifier.

    Args:
        shot: as for `Prototype`.
        legacy: the form of the earlier demo: the means of every batch are added to the weights, beginning with the
            random first ones; a missing class becomes NaN, and a bias keeps its first value.
    """

    def __init__(self, *, shot: int | None = None, legacy: bool = False, **kwargs):
        super().__init__(learner=PrototypeLearner(cumulate=True, legacy=legacy), **_batch_size(kwargs, shot))


@STRATEGIES.register_module()
class NCM(ClosedForm):
    """Nearest class mean over all experiences (Mensink et al. 2013): euclidean with a linear head, by angle with a
    cosine head. The same as `PrototypePlus`, under the name of the literature.
    """

    def __init__(self, **kwargs):
        super().__init__(learner=PrototypeLearner(cumulate=True), **kwargs)
