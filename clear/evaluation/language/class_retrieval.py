"""Rank images by how well they fit a caption of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.evaluation.image.rows import check_splits, class_names_of, read_rows
from clear.evaluation.language.prompts import Prompting, check_encodes_text, check_width
from clear.evaluation.metrics.retrieval import ranking_precision
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class ClassRetrieval:
    """Each class name in each template is a query, and the images of that class are what it should find first.

    The metrics are `mAP`, the mean of the average precisions and the value, and `R-Precision`, the mean share of right
    images among the first R, R being how many are right at all; both over all queries whose class has images. Chance
    is the share of a class among the images. Images without a label are left out and counted.

    Args:
        names, templates, match: as in `ZeroShot`, of which this is the way back.
        device: where similarities are computed.

    Raises:
        ConfigError: for templates without `{}`, or an unknown list.
        DataError: for a file of another shape.

    Example:
        >>> images, labels = torch.eye(3)[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1])
        >>> ClassRetrieval.measure(torch.eye(3)[:2], images, torch.tensor([0, 1]), labels)
        {'mAP': 0.875, 'R-Precision': 0.75}
    """

    needs: ClassVar = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)
    reads_labels: ClassVar = True

    def __init__(self, *, names: Sequence[str | Sequence[str]] | str | Mapping | None = None,
                 templates: Sequence[str] | str | Mapping | None = None, match: str = 'check', device: str = 'cpu'):
        self.prompting = Prompting(names, templates, match)
        self.device = device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Rank the images of 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, names that do not fit its classes, or embeddings of two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = check_encodes_text(encoder, type(self).__name__)
        rows, unlabelled = read_rows(data.bank['test'], 'test', self.device)
        classes = self.prompting.of(class_names_of(data.bank['test'], rows.labels))
        queries = encode([*chain.from_iterable(classes.prompts)]).to(self.device)
        check_width(queries, rows.features)
        groups = torch.arange(len(classes.names)).repeat_interleave(torch.tensor([*map(len, classes.prompts)]))
        groups = groups.to(queries.device)
        has_images = torch.isin(groups, rows.labels)
        metrics = self.measure(queries[has_images], rows.features, groups[has_images], rows.labels)
        extras = dict(metrics=metrics, n_test=len(rows), n_queries=int(has_images.sum()),
                      **classes.extras(encoder))
        return TaskResult('mAP', metrics['mAP'], True,
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
    def measure(queries: Tensor, images: Tensor, query_classes: Tensor, labels: Tensor) -> dict[str, float]:
        """The metrics of queries (Q, D) and images (N, D), both of any norm; classes are (Q,) and (N,)."""
        average, among_r = ranking_precision(queries, images, query_classes, labels)
        return {'mAP': average, 'R-Precision': among_r}

