"""Nearest neighbours on frozen features: exact search in blocks, and the weighted vote of Wu et al. 2018."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.core.faiss_library import check_backend, faiss_for, torch_threads
from clear.evaluation.image.rows import LabelledRows, ProbeData, read_splits
from clear.evaluation.task import TaskData, TaskResult, classification_metrics
from clear.registry import TASKS

if TYPE_CHECKING:
    from types import ModuleType

# 1024 queries x 4096 rows of float32 similarities are 16 MB: within reach of the caches, large enough for the GEMM.
_QUERIES_PER_BLOCK, _ROWS_PER_BLOCK = 1024, 4096


Item = TypeVar('Item')


@TASKS.register_module()
class KNN:
    """Classify by the labels of the k most similar training rows (cosine).

    A neighbour of similarity s votes for its class with exp(s / T); votes of a class add up (Wu et al. 2018,
    arXiv:1805.01978; k=20 and T=0.07 as in DINO's evaluation, arXiv:2104.14294). Equal similarities prefer the lower
    row; a class loses against another of as many votes.

    Several values of `k` or `temperature` are tried on validation ('val', or rows set aside from each training class)
    and the best pair is tested once, with all rows of 'train' as neighbours.

    Args:
        temperature: T > 0; None gives every neighbour one vote.
        backend: 'faiss', 'torch', or 'auto' for faiss where it is installed. Both are exact; they may differ in the
            last bit of a similarity.

    Raises:
        ConfigError: for a k or a temperature that is not positive, or an unknown backend.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> KNN(k=3).fit(data).value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True

    def __init__(self, *, k: int | Sequence[int] = 20, temperature: float | None | Sequence[float | None] = 0.07,
                 backend: str = 'auto', val_fraction: float = 0.1, seed: int = 0, device: str = 'cpu'):
        self.ks = [check_whole('k', value, 1) for value in _as_list('k', k)]
        self.temperatures = _as_list('temperature', temperature)
        for value in self.temperatures:
            if value is not None:  # None: equal votes
                check_number('temperature', value, above=0)
        self.backend = check_backend(backend)
        self.val_fraction, self.seed, self.device = val_fraction, seed, device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Classify 'test' by the rows of 'train'.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`), or fewer training rows than k.
        """
        return self.fit(read_splits(data.bank, self.device))

    def fit(self, data: ProbeData) -> TaskResult:
        """The same on tensors."""
        k, temperature, table = self._select(data)
        votes = self._votes(data.test.features, data.train, [(k, temperature)], data.num_classes)[0]
        metrics = classification_metrics(votes, data.test.labels)
        extras = dict(metrics=metrics, selected=dict(k=k, temperature=temperature), **data.sizes())
        if table:
            extras['candidates'] = table
        return TaskResult('top1', metrics['top1'], True, extras)

    def _select(self, data: ProbeData) -> tuple[int, float | None, list[dict[str, int | float | None]]]:
        pairs = list(itertools.product(self.ks, self.temperatures))
        if len(pairs) == 1:
            return *pairs[0], []
        split = data.with_validation(self.val_fraction, self.seed)
        all_votes = self._votes(split.val.features, split.train, pairs, data.num_classes)
        table = [dict(k=k, temperature=temperature,
                      val_top1=classification_metrics(votes, split.val.labels)['top1'])
                 for (k, temperature), votes in zip(pairs, all_votes)]
        best = max(range(len(table)), key=lambda index: (table[index]['val_top1'], -index))
        return *pairs[best], table

    def _votes(self, queries: Tensor, base: LabelledRows, pairs: Sequence[tuple], num_classes: int) -> list[Tensor]:
        """Scores (Q, C) by votes of each pair of k and temperature, from one search."""
        similarity, rows = nearest_neighbours(queries, base.features, max(k for k, _ in pairs), backend=self.backend)
        labels = base.labels[rows]
        return [scores_of(weighted_votes(similarity[:, :k], labels[:, :k], num_classes, temperature), labels[:, :k])
                for k, temperature in pairs]


def nearest_neighbours(queries: Tensor, base: Tensor, k: int, *, backend: str = 'auto') -> tuple[Tensor, Tensor]:
    """The k rows of `base` with the highest cosine similarity to each query, exactly.

    Memory beyond the inputs and their normalised copies is bounded by one block of similarities. A row of zeros has
    similarity 0 to everything.

    Args:
        queries: (Q, D); base: (N, D), N >= k.

    Returns:
        similarity (Q, k), falling; rows (Q, k) int64. Rows of equal similarity come in ascending order, also where
        the k-th and the following are equal.

    Raises:
        DataError: if N < k, or for features that are whole numbers.
        ConfigError: if `backend` is 'faiss' and faiss is not installed.
    """
    for name, features in (('queries', queries), ('training rows', base)):
        if not features.is_floating_point():
            raise DataError(f'The {name} are {features.dtype}; neighbours are sought among floating-point features.')
    if len(base) < k:
        raise DataError(f'{k} neighbours were asked for, but there are {len(base)} training rows only. Lower k.')
    queries, base = functional.normalize(queries, dim=1), functional.normalize(base, dim=1)
    # One more than asked for: it tells whether the k-th is tied with a row that was not taken.
    extra = min(k + 1, len(base))
    faiss = faiss_for(backend) if base.device.type == 'cpu' and base.dtype == torch.float32 else None
    if backend == 'faiss' and faiss is None:
        raise ConfigError(f"backend='faiss' searches float32 features on the CPU; these are {base.dtype} on "
                          f"{base.device}. Use backend='torch'.")
    search = _search_torch if faiss is None else lambda *args: _search_faiss(faiss, *args)
    similarity, rows = search(queries, base, extra)
    similarity, rows = _in_order(similarity, rows)
    if extra > k:
        tied = (similarity[:, k - 1] == similarity[:, k]).nonzero().squeeze(1)
        for part in tied.split(256):
            exact, order = (queries[part] @ base.T).sort(dim=1, descending=True, stable=True)
            similarity[part], rows[part] = exact[:, :extra], order[:, :extra]
    return similarity[:, :k], rows[:, :k]


def weighted_votes(similarity: Tensor, labels: Tensor, num_classes: int, temperature: float | None) -> Tensor:
    """Votes (Q, C) of neighbours (Q, k): the sum per class of exp(s / T), scaled so that the nearest has one vote."""
    if temperature is None:
        weights = torch.ones_like(similarity)
    else:
        # exp(s / T) overflows float32 for T < 0.012; a common factor per query changes no ranking.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
    return weights.new_zeros(len(labels), num_classes).scatter_add_(1, labels, weights)


def scores_of(votes: Tensor, labels: Tensor) -> Tensor:
    """Votes (Q, C) as scores: -inf for classes without a neighbour, which are no answer, not even a fifth."""
    has_vote = torch.zeros_like(votes, dtype=torch.bool).scatter_(1, labels, True)
    return votes.masked_fill(~has_vote, -math.inf)


def _search_torch(queries: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """GEMM and top-k block by block, merged: (Q, k) similarities, falling, and rows."""
    found = [_search_block(block, base, k) for block in queries.split(_QUERIES_PER_BLOCK)]
    return torch.cat([values for values, _ in found]), torch.cat([rows for _, rows in found])


def _search_block(queries: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    buffer = queries.new_empty(len(queries) * min(_ROWS_PER_BLOCK, len(base)))
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(base), _ROWS_PER_BLOCK):
        block = base[start:start + _ROWS_PER_BLOCK]
        sims = torch.mm(queries, block.T, out=buffer[:len(queries) * len(block)].view(len(queries), len(block)))
        values, columns = sims.topk(min(k, len(block)), dim=1)
        best, rows = torch.cat([best, values], 1), torch.cat([rows, columns + start], 1)
        best, kept = best.topk(min(k, best.shape[1]), dim=1)
        rows = rows.gather(1, kept)
    return best, rows


def _search_faiss(faiss: ModuleType, queries: Tensor, base: Tensor, k: int) -> tuple[Tensor, Tensor]:
    with torch_threads(faiss):
        index = faiss.IndexFlatIP(base.shape[1])
        index.add(base.contiguous().numpy())
        values, rows = index.search(queries.contiguous().numpy(), k)
    return torch.from_numpy(values), torch.from_numpy(rows)


def _in_order(similarity: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Falling similarity, ascending rows where it is equal."""
    rows, order = rows.sort(dim=1)
    similarity, order = similarity.gather(1, order).sort(dim=1, descending=True, stable=True)
    return similarity, rows.gather(1, order)


def _as_list(where: str, value: Item | Sequence[Item]) -> list[Item]:
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values or any(isinstance(item, float) and math.isnan(item) for item in values):
        raise ConfigError(f'{where} is {value!r}; expected a value or a list of values.')
    return values
