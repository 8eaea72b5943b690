"""Classify images by the names of classes, without an image of any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.datasets.readers.voc import voc_targets
from clear.evaluation.image.rows import check_features, check_splits
from clear.evaluation.language.named_classes import NamedClasses
from clear.evaluation.language.prompts import (
    AVERAGES,
    check_encodes_text,
    check_width,
    prompt_vectors,
)
from clear.evaluation.metrics.average_precision import mean_average_precision
from clear.evaluation.metrics.confusion import answers, confusion_data, confusion_matrix
from clear.evaluation.metrics.roc_auc import roc_auc
from clear.evaluation.metrics.similarity import unit_rows
from clear.evaluation.task import TaskData, TaskResult, accuracies, counts_of
from clear.registry import TASKS

METRICS = ('top1', 'top5', 'mean_per_class', 'roc_auc')
MULTI_LABEL_METRICS = ('map_11point', 'map')
_IMAGES_PER_BLOCK = 2048  # against 1,000 classes 8 MB of similarities


@TASKS.register_module()
class ZeroShot(NamedClasses):
    """Each image is of the class whose vector, made of text, is most similar (CLIP, Radford et al. 2021,
    arXiv:2103.00020, sec. 3.1).

    Images without a label are left out and counted.

    `metrics` are `top1`, `top5` above five classes, `mean_per_class`, and `roc_auc` for two classes that both occur.
    Images that show any number of classes (column `labels`, see `VOC2007`) have `map_11point` and `map`: the mean over
    the classes that occur of the average precision, the images ranked by the probability of the class. It is the
    softmax over all classes of 100 x cosine, as in ELEVATER (Li et al. 2022, arXiv:2204.08790), though an image may
    show several; `scores='cosine'` ranks by the cosine itself, as CLIP_benchmark does.

    Args:
        names, templates, match: what classes are called, in which prompts, and how a list of names is compared with
            those of the bank, see `Prompting`: `names='imagenet'`, `templates='cifar10'`, `dict(file='x.json')`, lists.
        prompt_average: how the prompts of a class become one vector, see `prompt_vectors`.
        metric: the value to report; `map_11point` and `map` are for images with `labels`.
        ties: see `classification_metrics`.
        scores: 'softmax' or 'cosine', see above.
        device: where similarities are computed.

    Raises:
        ConfigError: for templates without `{}`, an unknown list, or an unknown average, metric or rule.
        DataError: for a file of another shape.

    Example:
        >>> labels = torch.tensor([0, 1, 1])
        >>> ZeroShot.classify(torch.tensor([[1.0, 0.1], [0.2, 1.0], [1.0, 0.9]]), torch.eye(2), labels)['top1']
        0.6666666666666666
    """

    def __init__(self, *, names: Sequence[str | Sequence[str]] | str | Mapping | None = None,
                 templates: Sequence[str] | str | Mapping | None = None, match: str = 'check',
                 prompt_average: str = 'normalised', metric: str = 'top1', ties: str = 'worst',
                 scores: str = 'softmax', device: str = 'cpu'):
        super().__init__(names, templates, match, device)
        self.prompt_average = check_choice('prompt_average', prompt_average, AVERAGES)
        self.metric = check_choice('metric', metric, (*METRICS, *MULTI_LABEL_METRICS))
        self.ties = check_choice('ties', ties, ('worst', 'expected'))
        self.scores = check_choice('scores', scores, ('softmax', 'cosine'))
        if self.is_multi_label:
            self.needs, self.reads_labels = ('bank', 'images', 'text_encoder'), False

    @property
    def is_multi_label(self) -> bool:
        """Whether images may show several classes."""
        return self.metric in MULTI_LABEL_METRICS

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Classify 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, names that do not fit its classes, or embeddings of two widths.
        """
        if self.is_multi_label:
            return self._run_multi_label(encoder, data)
        encode, rows, classes, extras = self.read(encoder, data)
        vectors = prompt_vectors(encode, classes.prompts, self.prompt_average, known=data.vectors).to(self.device)
        check_width(vectors, rows.features)
        metrics = self.classify(rows.features, vectors, rows.labels, ties=self.ties)
        if self.metric not in metrics:
            raise DataError(f'No {self.metric} of {len(vectors)} classes of which {len(rows.labels.unique())} occur: '
                            'top5 needs more than five, roc_auc two that both occur.')
        found = confusion_matrix(answers(rows.features, vectors, rows.labels), rows.labels, len(vectors))
        figures = dict(confusion=confusion_data(found.cpu(), classes.names))
        return TaskResult(self.metric, metrics[self.metric], True, dict(metrics=metrics, **extras, figure_data=figures))

    def _run_multi_label(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        bank, images = data.bank['test'], data.images['test']
        rows = bank.subset_rows()
        features = bank.tensors(rows)[0]
        check_features(features, 'test')
        classes = self.prompting.of(images.class_names)
        vectors = prompt_vectors(encode, classes.prompts, self.prompt_average, known=data.vectors).to(self.device)
        check_width(vectors, features)
        targets = voc_targets(images)[rows]
        metrics = self.classify_multi_label(features.to(self.device), vectors, targets, self.scores)
        extras = dict(metrics=metrics, n_test=len(features), n_classes=int((targets > 0).any(0).sum()))
        return TaskResult(self.metric, metrics[self.metric], True, {**extras, **classes.extras(encoder)})

    @staticmethod
    def classify(features: Tensor, vectors: Tensor, labels: Tensor, *, ties: str = 'worst') -> dict[str, float]:
        """The metrics of images (N, D) against classes (C, D), both of any norm; labels are (N,) int64.

        Only some images' similarities are held at once.

        Raises:
            ValueError: for a row that is not finite.
        """
        features = features.to(vectors.dtype)
        classes, counts, differences = unit_rows(vectors), [], []
        for images, targets in zip(features.split(_IMAGES_PER_BLOCK), labels.split(_IMAGES_PER_BLOCK)):
            cosine = (unit_rows(images) @ classes.T)[:len(images), :len(vectors)]
            counts.append(counts_of(cosine, targets, ties))
            if len(vectors) == 2:
                differences.append(cosine[:, 1] - cosine[:, 0])
        metrics = accuracies(*map(torch.cat, zip(*counts)), labels, len(vectors))
        if differences and 0 < int((labels == 1).sum()) < len(labels):
            # The probability of class 1 grows with its lead, and only with it.
            metrics['roc_auc'] = roc_auc(torch.cat(differences).cpu().numpy(), labels.cpu().numpy())
        return metrics

    @staticmethod
    def classify_multi_label(features: Tensor, vectors: Tensor, targets: np.ndarray, scores: str = 'softmax'
                             ) -> dict[str, float]:
        """`map_11point` and `map` of images (N, D) against classes (C, D).

        Args:
            targets: (N, C) 1 = shown, 0 = not, -1 = left out of this class. A class that no image shows is left out.

        Raises:
            DataError: if no class is shown.
        """
        occurs = (np.asarray(targets) > 0).any(0)
        if not occurs.any():
            raise DataError("No image of 'test' shows any class, so there is no precision to average.")
        cosine = (unit_rows(features.to(vectors.dtype)) @ unit_rows(vectors).T)[:len(features), :len(vectors)].double()
        # The logarithm, so that none is 0; in float64 those of a lead above .37 are 1 alike.
        ranked = (cosine if scores == 'cosine' else (100 * cosine).log_softmax(1)).cpu().numpy()[:, occurs]
        return {name: mean_average_precision(ranked, targets[:, occurs], method)[0]
                for name, method in (('map_11point', '11point'), ('map', 'area'))}
