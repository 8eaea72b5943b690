"""Semantic textual similarity: do pairs of sentences that people find similar lie close?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text
from clear.core.configs.bases import shipped_file
from clear.core.errors import ConfigError, DataError
from clear.evaluation.metrics.correlation import pearson, spearman
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint
from clear.evaluation.text.similarities import SIMILARITIES, pair_similarities
from clear.evaluation.text.sts_files import SETS, SPLITS, ScoredPairs, pair_files, read_pair_table, read_pairs
from clear.registry import TASKS

AGGREGATES = ('all', 'mean', 'wmean')
MODES = ('cosine', 'max')
_MOST_POINTS = 2000


@TASKS.register_module()
class SentenceSimilarity:
    """Rank correlation of similarity and human scores: STS12-16, STS-B, SICK-R (SemEval; SentEval, Conneau and Kiela
    2018, arXiv:1803.05449), or a table of pairs.

    The value is Spearman's correlation of the cosine, `spearman_cosine`, between -1 and 1. The metrics are Spearman's
    and Pearson's correlations of the cosine, the negative Manhattan and Euclidean distances, and the dot product. A
    vector of zeros has cosine 0 to everything; equal vectors tie at exactly 1; a model to which all pairs are equally
    similar has correlation 0. Pairs without a score are left out and counted.

    Several sets make the value `average`, the plain mean of their values, which stand beside it by name (SentEval's
    `Avg.` is that of values in percent rounded to two digits).

    Args:
        dataset: 'sts12' ... 'sts16', 'sts-b', 'sick-r', or a list of them.
        root: the folder `downstream` of SentEval. 'sts-b' is read from `stsbenchmark.tsv.gz` where that lies in it.
        path: a table in place of `dataset` and `root`: score, sentence1, sentence2, between tabs. A shipped one may be
            named from any folder.
        split: of 'sts-b' and 'sick-r': 'train', 'dev' or 'test'.
        aggregate: of sub-sets: 'all' correlates over all pairs at once, 'mean' is the mean of the sub-sets'
            correlations, 'wmean' that weighted by their pairs.
        mode: 'cosine', or 'max' for the highest of the four similarities' correlations as the value,
            `spearman_max`: what sentence-transformers reported before version 3. The similarity is then chosen on the
            test pairs.

    Raises:
        ConfigError: for an unknown set or choice, or no place to read from.

    Example:
        >>> close, far = torch.tensor([[1.0, 0.1], [0.9, 0.2]]), torch.tensor([[0.0, 1.0]])
        >>> first = torch.eye(2)[[0, 0, 0]]
        >>> found = SentenceSimilarity.measure(first, torch.cat([close, far]), torch.tensor([5.0, 4.0, 0.5]))
        >>> round(found['spearman_cosine'], 6)
        1.0
    """

    needs: ClassVar = ('text_encoder',)

    def __init__(self, *, dataset: str | Sequence[str] | None = None, root: str | None = None, path: str | None = None,
                 split: str = 'test', aggregate: str = 'all', mode: str = 'cosine'):
        if (path is None) == (root is None) or (root is None) != (dataset is None):
            raise ConfigError('SentenceSimilarity reads a dataset of a root, or the table at path: give '
                              "dataset='sts-b', root='data/text/downstream', or path='pairs.tsv'.")
        self.path = None if path is None else shipped_file(check_text('path', path))
        self.root = None if root is None else Path(check_text('root', root))
        self.is_one = dataset is None or isinstance(dataset, str)
        self.datasets = [] if dataset is None else [dataset] if isinstance(dataset, str) else list(dataset)
        for name in self.datasets:
            check_choice('dataset', name, SETS)
        if not self.is_one and len({*self.datasets}) != len(self.datasets) or dataset is not None and not self.datasets:
            raise ConfigError(f'dataset is {dataset!r}; expected at least one, none twice.')
        self.split = check_choice('split', split, SPLITS)
        self.aggregate = check_choice('aggregate', aggregate, AGGREGATES)
        self.mode = check_choice('mode', mode, MODES)
        for name in self.datasets:
            pair_files(self.root, name, self.split)  # refuses a split that a set has not

    def files_fingerprint(self) -> str:
        """Of the files that it reads."""
        return files_fingerprint([self.path] if self.path is not None else
                                 [path for name in self.datasets for path in pair_files(self.root, name, self.split)])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Encode the sentences and correlate.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for files that are missing or of another layout, or embeddings that are not finite.
        """
        read = TextReader(encoder, type(self).__name__)
        sets = {self.path.name: read_pair_table(self.path)} if self.path is not None else \
            {name: read_pairs(self.root, name, self.split) for name in self.datasets}
        extras: dict[str, object] = {}
        if self.is_one:
            (name, parts), = sets.items()
            metrics, extras = self._of_set(read, name, parts)
            metric = f'spearman_{self.mode}'
        else:
            values, each = {}, {}
            for name, parts in sets.items():
                found, notes = self._of_set(read, name, parts)
                values[name], each[name] = found[f'spearman_{self.mode}'], dict(metrics=found, **notes)
            metric = 'average'
            metrics = {**values, metric: sum(values.values()) / len(values)}
            figures = {name: figure for notes in each.values() for name, figure in notes.pop('figure_data').items()}
            extras = dict(sets=each, n_test=sum(notes['n_test'] for notes in each.values()), figure_data=figures)
        return TaskResult(metric, metrics[metric], True, dict(metrics=metrics, **extras, **read.extras()))

    def _of_set(self, read: TextReader, name: str, parts: Mapping[str, ScoredPairs]
                ) -> tuple[dict[str, float], dict[str, object]]:
        embedded = {}
        for part, pairs in parts.items():
            vectors = read([*pairs.first, *pairs.second])
            embedded[part] = (vectors[:len(pairs)], vectors[len(pairs):], torch.tensor(pairs.scores).double())
        gold = torch.cat([scores for _, _, scores in embedded.values()])
        if (gold == gold[0]).all():
            raise DataError(f'{name}: all {len(gold)} pairs have the score {gold[0]:g}, which ranks nothing.')
        metrics = self.aggregated(embedded, self.aggregate)
        first, second = (torch.cat([rows[place] for rows in embedded.values()]) for place in (0, 1))
        zeros = int(((first == 0).all(1) | (second == 0).all(1)).sum())
        cosine = pair_similarities(first, second, ['cosine'])['cosine']
        step = -(-len(gold) // _MOST_POINTS)
        extras = dict(n_test=len(gold), aggregate=self.aggregate, skipped=sum(part.skipped for part in parts.values()),
                      subsets={part: dict(n=len(rows[2]), spearman_cosine=_measured(*rows)['spearman_cosine'])
                               for part, rows in embedded.items()},
                      figure_data={f'{name} cosine against score': dict(
                          kind='scatter', x=gold[::step].tolist(), y=cosine[::step].tolist())},
                      **({'zero_vectors': zeros} if zeros else {}))
        return metrics, extras

    @classmethod
    def aggregated(cls, parts: Mapping[str, tuple[Tensor, Tensor, Tensor]], aggregate: str = 'all'
                   ) -> dict[str, float]:
        """The metrics of sub-sets, name -> first (N, D), second (N, D), scores (N,)."""
        if check_choice('aggregate', aggregate, AGGREGATES) == 'all':
            return cls.measure(*(torch.cat([rows[place] for rows in parts.values()]) for place in range(3)))
        each = [_measured(*rows) for rows in parts.values()]
        weights = [len(rows[2]) if aggregate == 'wmean' else 1 for rows in parts.values()]
        means = {metric: sum(weight * found[metric] for weight, found in zip(weights, each)) / sum(weights)
                 for metric in each[0]}
        return _with_max(means)

    @staticmethod
    def measure(first: Tensor, second: Tensor, scores: Tensor) -> dict[str, float]:
        """The metrics of pairs (N, D), (N, D) and their scores (N,).

        Raises:
            ValueError: for other shapes, fewer than two pairs, or numbers that are not finite.
        """
        return _with_max(_measured(first, second, scores))


def _measured(first: Tensor, second: Tensor, scores: Tensor) -> dict[str, float]:
    found = pair_similarities(first, second)
    return {f'{name}_{kind}': correlate(found[kind], scores)
            for name, correlate in (('spearman', spearman), ('pearson', pearson)) for kind in SIMILARITIES}


def _with_max(metrics: dict[str, float]) -> dict[str, float]:
    return {**metrics, **{f'{name}_max': max(metrics[f'{name}_{kind}'] for kind in SIMILARITIES)
                          for name in ('spearman', 'pearson')}}
