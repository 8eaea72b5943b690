"""Where relevant passages stand in a collection that is too large for memory, and comes in chunks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clear.core.checks import check_choice, check_whole
from clear.evaluation.metrics.ranking import RelevantRanks

KINDS = ('cosine', 'dot')
# Passages and queries of one product. All products have one shape, so that copies of a passage have equal scores
# wherever they lie; it stays in the cache while it is looked through.
_PASSAGES, _QUERIES = 768, 1024
_LEAST_PENDING = 1 << 14


class PassageRanks:
    """Worst-case ranks of the relevant passages of Q queries, up to k, in one pass over all passages.

    Of the passages that are not relevant to a query, its rivals, only the k highest scores are kept: a relevant passage
    stands behind all rivals of at least its score. Memory is O(Q * k), whatever the number of passages.

    Args:
        queries: (Q, D), of any norm.
        k: up to which rank ranks are exact; beyond it they are some number above k.
        kinds: similarities: 'cosine' (0 where a vector is zero) and 'dot'.

    Raises:
        ConfigError: for a k below 1, or another kind.
        ValueError: for queries that are no matrix or not finite.
    """

    def __init__(self, queries: Tensor, k: int = 100, kinds: Sequence[str] = KINDS):
        # With finite lengths on both sides no product can overflow.
        if queries.ndim != 2 or not len(queries) or not queries.norm(dim=1).isfinite().all():
            raise ValueError(f'queries should be (Q, D), Q > 0, of finite length; got {tuple(queries.shape)}.')
        self.k = check_whole('k', k, 1)
        wanted = [check_choice('kinds', kind, KINDS) for kind in kinds]
        self.kinds = [kind for kind in KINDS if kind in wanted]
        self.num_queries, self.num_passages = len(queries), 0
        groups = -(-len(queries) // _QUERIES)
        # A query's own length changes no rank of its passages.
        self._queries = torch.zeros(groups * _QUERIES, queries.shape[1])
        self._queries[:len(queries)] = queries
        self._best = {kind: [_Best(min(_QUERIES, len(queries) - group * _QUERIES), self.k) for group in range(groups)]
                      for kind in self.kinds}
        self._found: dict[str, list[tuple[Tensor, Tensor]]] = {kind: [] for kind in self.kinds}
        self._products = torch.empty(_QUERIES, _PASSAGES)
        self._scaled = torch.empty(_QUERIES, _PASSAGES)

    def add(self, passages: Tensor, queries: Tensor, rows: Tensor) -> None:
        """Look at the next passages.

        Args:
            passages: (B, D) finite.
            queries, rows: (P,) each: passage `rows[i]` of these B is relevant to query `queries[i]`; each pair once.

        Raises:
            ValueError: for passages of another width or that are not finite.
        """
        if passages.ndim != 2 or passages.shape[1] != self._queries.shape[1]:
            raise ValueError(f'passages should be (B, {self._queries.shape[1]}), got {tuple(passages.shape)}.')
        lengths = passages.norm(dim=1)
        if not lengths.isfinite().all():
            raise ValueError('the length of a passage is not finite; a rank among them means nothing.')
        inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
        order = rows.argsort()
        queries, rows = queries[order], rows[order]
        for start in range(0, len(passages), _PASSAGES):
            block, scale = passages[start:start + _PASSAGES].float(), inverse[start:start + _PASSAGES]
            here = slice(*torch.searchsorted(rows, torch.tensor([start, start + _PASSAGES])).tolist())
            self._look(block, scale, queries[here], rows[here] - start)
        self.num_passages += len(passages)

    def _look(self, block: Tensor, scale: Tensor, queries: Tensor, rows: Tensor) -> None:
        count = len(block)
        if count < _PASSAGES:
            whole = block.new_zeros(_PASSAGES, block.shape[1])
            whole[:count] = block
            block = whole
        for group in range(len(self._queries) // _QUERIES):
            first = group * _QUERIES
            own = (queries >= first) & (queries < first + _QUERIES)
            places = queries[own] - first, rows[own]
            torch.mm(self._queries[first:first + _QUERIES], block.T, out=self._products)
            for kind in self.kinds:  # the dot product last: its rivals are marked in the products themselves
                best = self._best[kind][group]
                scores = self._products[:best.num_queries, :count]
                if kind == 'cosine':
                    scores = torch.mul(scores, scale, out=self._scaled[:best.num_queries, :count])
                if len(places[0]):
                    self._found[kind].append((queries[own], scores[places].clone()))
                    scores[places] = -torch.inf  # not a rival
                best.take(scores)

    def ranks(self) -> dict[str, RelevantRanks]:
        """Kind -> ranks of the relevant passages seen so far.

        Raises:
            ValueError: for a query without any.
        """
        return {kind: RelevantRanks(self._worst(kind)) for kind in self.kinds}

    def _worst(self, kind: str) -> Tensor:
        """(Q, R) ranks from 1, ascending, inf behind them."""
        queries = torch.cat([torch.zeros(0, dtype=torch.int64), *(part for part, _ in self._found[kind])])
        scores = torch.cat([torch.zeros(0), *(part for _, part in self._found[kind])])
        rivals = torch.cat([best.result() for best in self._best[kind]])  # (Q, k) falling
        order = torch.from_numpy(np.lexsort((-scores.numpy(), queries.numpy())))
        queries, scores = queries[order], scores[order]
        counts = torch.bincount(queries, minlength=self.num_queries)
        number = torch.arange(len(queries)) - (counts.cumsum(0) - counts)[queries]
        # Rivals of at least the score: of the negative, rising ones those up to it.
        ahead = torch.searchsorted(-rivals[queries], -scores[:, None], right=True).squeeze(1)
        worst = torch.full((self.num_queries, max(int(counts.max()), 1)), torch.inf, dtype=torch.float64)
        worst[queries, number] = (ahead + number + 1).double()
        return worst


class _Best:
    """The k highest scores of each query, from blocks of which few are above the k-th so far."""

    def __init__(self, num_queries: int, k: int):
        self.num_queries, self.k = num_queries, k
        self._kept = torch.full((num_queries, k), -torch.inf)
        self._floors = np.full((num_queries, 1), -np.inf, np.float32)
        self._pending: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_pending = 0

    def take(self, scores: Tensor) -> None:
        """Look at scores (Q, B)."""
        values = scores.numpy()
        places = np.flatnonzero(values > self._floors)
        if not len(places):
            return
        rows, columns = np.divmod(places, values.shape[1])
        self._pending.append((rows, values[rows, columns]))
        self._num_pending += len(places)
        if self._num_pending > max(self.num_queries * self.k, _LEAST_PENDING):
            self._settle()

    def _settle(self) -> None:
        rows, values = (np.concatenate(parts) for parts in zip(*self._pending))
        self._pending, self._num_pending = [], 0
        order = np.argsort(rows.astype(np.int16), kind='stable')  # of 16 bits: by counting
        rows, values = rows[order], values[order]
        counts = np.bincount(rows, minlength=self.num_queries)
        new = torch.full((self.num_queries, int(counts.max())), -torch.inf)
        new[torch.from_numpy(rows), torch.from_numpy(np.arange(len(rows)) - (counts.cumsum() - counts)[rows])] = \
            torch.from_numpy(values)
        self._kept = torch.cat([self._kept, new], 1).topk(self.k, dim=1).values
        self._floors = self._kept[:, -1:].numpy()

    def result(self) -> Tensor:
        """(Q, k), falling; -inf where there were fewer."""
        if self._pending:
            self._settle()
        return self._kept
