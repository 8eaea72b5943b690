"""Triplets: is a text nearer to one that belongs to it than to one that does not?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text
from clear.core.errors import ConfigError
from clear.datasets.readers.pairs.table import table_columns
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint, words_of
from clear.evaluation.text.similarities import SIMILARITIES, pair_similarities
from clear.registry import TASKS

COLUMNS = ('Sentence1', 'Sentence2', 'Sentence3')
MODES = ('cosine', 'max')
_ROWS = 4096


@TASKS.register_module()
class Triplets:
    """Share of the triplets whose anchor is more similar to the positive than to the negative (Wikipedia sections,
    Ein Dor et al. 2018: two sentences of one section, and one of another section of the same article).

    Equal similarities are wrong, so a model that gives every text the same embedding has accuracy 0. The value is
    `accuracy_cosine`; beside it stand those by Manhattan and Euclidean distance and by dot product.

    Args:
        path: a table such as `wikipedia-sections/test.csv`, comma-separated text, TSV or Parquet.
        columns: names of its columns of anchors, positives and negatives.
        mode: 'cosine', or 'max' for the highest of cosine, Manhattan and Euclidean as the value, `accuracy_max`, which
            sentence-transformers reported before version 3.

    Raises:
        ConfigError: for another number of columns, or an unknown mode.

    Example:
        >>> anchors, others = torch.eye(2)[[0, 0]], torch.tensor([[1.0, 0.2], [0.2, 1.0]])
        >>> Triplets.measure(anchors, others, others.flip(0))['accuracy_cosine']
        0.5
    """

    needs: ClassVar = ('text_encoder',)

    def __init__(self, *, path: str, columns: Sequence[str] = COLUMNS, mode: str = 'cosine'):
        self.path = Path(check_text('path', path))
        if not isinstance(columns, (list, tuple)) or len(columns) != 3 or len({*columns}) != 3:
            raise ConfigError(f'columns is {columns!r}; expected three names: of anchors, positives, negatives.')
        self.columns = [check_text('columns', name) for name in columns]
        self.mode = check_choice('mode', mode, MODES)

    def files_fingerprint(self) -> str:
        """Of the file that it reads."""
        return files_fingerprint([self.path])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Encode the texts and compare.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for a table that is missing or lacks a column, or embeddings that are not finite.
        """
        read = TextReader(encoder, type(self).__name__)
        cells = table_columns(self.path, self.columns)
        anchors, positives, negatives = ([words_of(text) for text in cells[name]] for name in self.columns)
        # In parts, so that memory is bounded by the texts themselves; anchors repeat near each other.
        wins = [_wins(*read([*anchors[rows], *positives[rows], *negatives[rows]]).chunk(3))
                for start in range(0, len(anchors), _ROWS) for rows in [slice(start, start + _ROWS)]]
        metrics = _accuracies({kind: torch.cat([part[kind] for part in wins]) for kind in SIMILARITIES})
        metric = f'accuracy_{self.mode}'
        return TaskResult(metric, metrics[metric], True, dict(metrics=metrics, n_test=len(anchors), **read.extras()))

    @staticmethod
    def measure(anchors: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, float]:
        """The metrics of embeddings, (N, D) each.

        Raises:
            ValueError: for other shapes.
        """
        return _accuracies(_wins(anchors, positives, negatives))


def _wins(anchors: Tensor, positives: Tensor, negatives: Tensor) -> dict[str, Tensor]:
    """Kind of similarity -> (N,) whether the positive is more similar."""
    near, far = pair_similarities(anchors, positives), pair_similarities(anchors, negatives)
    return {kind: near[kind] > far[kind] for kind in SIMILARITIES}


def _accuracies(wins: dict[str, Tensor]) -> dict[str, float]:
    found = {f'accuracy_{kind}': rows.double().mean().item() for kind, rows in wins.items()}
    # Without the dot product, as it was reported.
    return {**found, 'accuracy_max': max(value for name, value in found.items() if name != 'accuracy_dot')}
