"""Classify images by the names of classes, without an image of any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_choice
from clear.evaluation.image.rows import check_splits, class_names_of, read_rows
from clear.evaluation.language.prompts import (
    AVERAGES,
    Prompting,
    check_encodes_text,
    check_width,
    prompt_vectors,
)
from clear.evaluation.task import TaskData, TaskResult, classification_metrics
from clear.registry import TASKS


@TASKS.register_module()
class ZeroShot:
    """Each image is of the class whose vector, made of text, is most similar (CLIP, Radford et al. 2021,
    arXiv:2103.00020, sec. 3.1).

    Images without a label are left out and counted.

    Args:
        names, templates, match: what classes are called, in which prompts, and how a list of names is compared with
            those of the bank, see `Prompting`: `names='imagenet'`, `templates='cifar10'`, `dict(file='x.json')`, lists.
        prompt_average: how the prompts of a class become one vector, see `prompt_vectors`.
        device: where similarities are computed.

    Raises:
        ConfigError: for templates without `{}`, an unknown list, or an unknown average.
        DataError: for a file of another shape.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> ZeroShot.classify(torch.tensor([[1.0, 0.1], [0.2, 1.0], [1.0, 0.9]]), torch.eye(2), labels)['top1']
        0.6666666666666666
    """

    needs: ClassVar = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)
    reads_labels: ClassVar = True

    def __init__(self, *, names: Sequence[str | Sequence[str]] | str | Mapping | None = None,
                 templates: Sequence[str] | str | Mapping | None = None, match: str = 'check',
                 prompt_average: str = 'normalised', device: str = 'cpu'):
        self.prompting = Prompting(names, templates, match)
        self.prompt_average = check_choice('prompt_average', prompt_average, AVERAGES)
        self.device = device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Classify 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, names that do not fit its classes, or embeddings of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        rows, unlabelled = read_rows(data.bank['test'], 'test', self.device)
        classes = self.prompting.of(class_names_of(data.bank['test'], rows.labels))
        vectors = prompt_vectors(encode, classes.prompts, self.prompt_average).to(self.device)
        check_width(vectors, rows.features)
        metrics = self.classify(rows.features, vectors, rows.labels)
        extras = dict(metrics=metrics, n_test=len(rows), **classes.extras(encoder))
        return TaskResult('top1', metrics['top1'], True,
                          {**extras, **({'unlabelled': {'test': unlabelled}} if unlabelled else {})})

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse images whose classes the names do not fit.

        Raises:
            DataError: saying why.
        """
        self.prompting.check(known)

    def files_fingerprint(self) -> str:
        """A digest of names and prompts, of whatever file or package."""
        return self.prompting.fingerprint()

    @staticmethod
    def classify(features: Tensor, vectors: Tensor, labels: Tensor) -> dict[str, float]:
        """`classification_metrics` of images (N, D) against classes (C, D), both of any norm."""
        scores = functional.normalize(features, dim=1) @ functional.normalize(vectors, dim=1).T
        return classification_metrics(scores, labels)
