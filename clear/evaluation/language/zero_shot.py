"""Classify images by the names of classes, without an image of any of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_choice
from clear.datasets.prompts import TEMPLATES, check_templates
from clear.evaluation.image.rows import check_splits, class_names_of, read_rows
from clear.evaluation.language.prompts import (
    AVERAGES,
    check_encodes_text,
    check_names,
    check_width,
    class_vectors,
    names_for,
)
from clear.evaluation.task import TaskData, TaskResult, classification_metrics
from clear.registry import TASKS


@TASKS.register_module()
class ZeroShot:
    """Each image is of the class whose vector, made of text, is most similar (CLIP, Radford et al. 2021,
    arXiv:2103.00020, sec. 3.1).

    Images without a label are left out and counted.

    Args:
        names: what classes are called in prompts, in their order; None takes those of the bank, with blanks for `_`
            and `/`.
        templates: prompts with `{}` where the name goes.
        prompt_average: how the prompts of a class become one vector, see `class_vectors`.
        device: where similarities are computed.

    Raises:
        ConfigError: for templates without `{}`, or an unknown average.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> ZeroShot.classify(torch.tensor([[1.0, 0.1], [0.2, 1.0], [1.0, 0.9]]), torch.eye(2), labels)['top1']
        0.6666666666666666
    """

    needs: ClassVar = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)
    reads_labels: ClassVar = True

    def __init__(self, *, names: Sequence[str] | None = None, templates: Sequence[str] = TEMPLATES,
                 prompt_average: str = 'normalised', device: str = 'cpu'):
        self.names = check_names(names)
        self.templates = check_templates(templates)
        self.prompt_average = check_choice('prompt_average', prompt_average, AVERAGES)
        self.device = device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Classify 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, another number of names than classes, or embeddings of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        rows, unlabelled = read_rows(data.bank['test'], 'test', self.device)
        names = names_for(self.names, class_names_of(data.bank['test'], rows.labels))
        vectors = class_vectors(encode, names, self.templates, self.prompt_average).to(self.device)
        check_width(vectors, rows.features)
        metrics = self.classify(rows.features, vectors, rows.labels)
        extras = dict(metrics=metrics, n_test=len(rows), names=names, templates=self.templates)
        return TaskResult('top1', metrics['top1'], True,
                          {**extras, **({'unlabelled': {'test': unlabelled}} if unlabelled else {})})

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse images of another number of classes than there are names.

        Raises:
            DataError: saying both.
        """
        names_for(self.names, known)

    @staticmethod
    def classify(features: Tensor, vectors: Tensor, labels: Tensor) -> dict[str, float]:
        """`classification_metrics` of images (N, D) against classes (C, D), both of any norm."""
        scores = functional.normalize(features, dim=1) @ functional.normalize(vectors, dim=1).T
        return classification_metrics(scores, labels)
