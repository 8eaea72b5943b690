"""Rank images by how well they fit a caption of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice
from clear.evaluation.image.rows import rows_by_class
from clear.evaluation.language.named_classes import NamedClasses
from clear.evaluation.language.prompts import check_width
from clear.evaluation.metrics.ranking import TIES, average_precision_at, r_precision
from clear.evaluation.metrics.retrieval import pair_ranks
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
class ClassRetrieval(NamedClasses):
    """Each class name in each template is a query, and the images of that class are what it should find first.

    The metrics are `mAP`, the mean of the average precisions and the value, and `R-Precision`, the mean share of right
    images among the first R, R being how many are right at all; both over all queries whose class has images. Chance
    is the share of a class among the images. Images without a label are left out and counted.

    Args:
        names, templates, match: as in `ZeroShot`, of which this is the way back.
        ties: 'worst' puts right images behind all others of their cosine, 'expected' is the mean over their orders.
        device: where similarities are computed.

    Raises:
        ConfigError: for templates without `{}`, or an unknown list or rule.
        DataError: for a file of another shape.

    Example:
        >>> images, labels = torch.eye(3)[[0, 0, 1, 2]], torch.tensor([0, 0, 1, 1])
        >>> ClassRetrieval.measure(torch.eye(3)[:2], images, torch.tensor([0, 1]), labels)
        {'mAP': 0.875, 'R-Precision': 0.75}
    """

    def __init__(self, *, names: Sequence[str | Sequence[str]] | str | Mapping | None = None,
                 templates: Sequence[str] | str | Mapping | None = None, match: str = 'check', ties: str = 'worst',
                 device: str = 'cpu'):
        super().__init__(names, templates, match, device)
        self.ties = check_choice('ties', ties, TIES)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Rank the images of 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a bank without labels, names that do not fit its classes, or embeddings of two widths.
        """
        encode, rows, classes, extras = self.read(encoder, data)
        queries = encode([*chain.from_iterable(classes.prompts)]).to(self.device)
        check_width(queries, rows.features)
        groups = torch.arange(len(classes.names)).repeat_interleave(torch.tensor([*map(len, classes.prompts)]))
        groups = groups.to(queries.device)
        has_images = torch.isin(groups, rows.labels)
        metrics = self.measure(queries[has_images], rows.features, groups[has_images], rows.labels, self.ties)
        return TaskResult('mAP', metrics['mAP'], True,
                          dict(metrics=metrics, n_queries=int(has_images.sum()), **extras))

    @staticmethod
    def measure(queries: Tensor, images: Tensor, query_classes: Tensor, labels: Tensor, ties: str = 'worst'
                ) -> dict[str, float]:
        """The metrics of queries (Q, D) and images (N, D), both of any norm; classes are (Q,) and (N,).

        Raises:
            ValueError: see `pair_ranks`.
        """
        rows_of = rows_by_class(labels)
        right = [rows_of.get(label, labels.new_empty(0)) for label in query_classes.tolist()]
        pair_queries = torch.arange(len(queries)).repeat_interleave(torch.tensor([len(rows) for rows in right]))
        ranks = pair_ranks(queries, images, pair_queries.to(queries.device), torch.cat(right).to(queries.device))
        return {'mAP': average_precision_at(ranks, ties=ties).mean().item(),
                'R-Precision': r_precision(ranks, ties=ties).mean().item()}
