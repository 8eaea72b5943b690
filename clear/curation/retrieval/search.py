"""The q most and least similar rows of feature banks for each of P queries: exact, in one pass, in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from clear.core.checks import check_whole
from clear.core.errors import DataError
from clear.features.bank import FeatureBank

_BITS = 11
BLOCK = 1 << _BITS  # rows of one product: they and their lengths are taken while they are in the cache
_GROUP = 12  # queries of one
_LEAST_PENDING = 1 << 14
_SAMPLE = 1 << 14  # rows by which floors are guessed


@dataclass(frozen=True)
class Hits:
    """The best rows of each query, best first; n is q, or less if the banks have fewer usable rows.

    Attributes:
        scores: (P, n) float32 cosines.
        rows: (P, n) int64, rows counted through all banks.
        ids: (P, n) int64; text, where a bank has an id that is no whole number.
    """

    scores: np.ndarray
    rows: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        highest: the most similar rows.
        lowest: the least similar ones, the least similar first; None unless asked for.
        counts: 'searched' rows, and those left out: 'unreadable', 'zero', 'not_finite'.
    """

    highest: Hits
    lowest: Hits | None
    counts: dict[str, int]


def top_scores(banks: Sequence[FeatureBank], queries: np.ndarray | torch.Tensor, q: int, both: bool = False, *,
               groups: Sequence[int] | None = None, masks: Sequence[np.ndarray | None] | None = None) -> Search:
    """The q rows with the highest cosine to each query, and with `both` the q with the lowest.

    Order: score, then id (numbers by value, text by code point). The score of a row is a function of the row and the
    query alone, so that copies of a vector tie wherever they lie, and however the rows are cut into banks. Rows of
    unreadable images, of length zero, and with NaN or infinity have no direction: they are left out and counted.

    Each row is read once, and float16 is converted by blocks; memory is O(P * q), besides the ids of one bank.

    Args:
        banks: in any number; rows are counted through them in this order.
        queries: (P, D), finite and not zero; need not be of length one.
        groups: sizes of groups of queries that follow each other, and whose highest cosine is their score: P is then
            the number of groups.
        masks: of each bank the rows (N,) bool to search; None = all.

    Raises:
        DataError: for queries of another width than a bank, or without a direction.
        ConfigError: if q < 1.
    """
    check_whole('q', q, 1)
    queries = unit_queries(queries)
    for bank in banks:
        if bank.dim != queries.shape[1]:
            raise DataError(f'{bank.path} holds {bank.dim} dimensions, the queries have {queries.shape[1]}: is it a '
                            'bank of the model that made them?')
    masks = [None] * len(banks) if masks is None else masks
    with _one_thread():
        rows, cosines = _Rows(banks), _Cosines(queries, groups)
        for guess in (True, False):
            sides = [_Best(rows, np.split(queries, cosines.starts[1:]), q, sign, cosines.exact)
                     for sign in ((1, -1) if both else (1,))]
            if guess:
                _guess_floors(rows, masks, cosines, sides)
            counts = dict(searched=0, unreadable=0, zero=0, not_finite=0)
            for place, bank in enumerate(banks):
                _search_bank(rows, place, bank, masks[place], cosines, sides, counts)
            if all(side.has(min(q, counts['searched'])) for side in sides):
                break  # else a guess was too high
        found = [side.result() for side in sides]
    return Search(found[0], found[1] if both else None, counts)


def row_scores(banks: Sequence[FeatureBank], rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(P, M) float32 cosines of single rows with queries (P, D), those of `top_scores`; NaN for rows without direction.

    Args:
        rows: (M,) counted through all banks.
    """
    with _one_thread():
        return _Rows(banks).scores(np.asarray(rows, np.int64), unit_queries(queries))


def unit_queries(queries: np.ndarray | torch.Tensor) -> np.ndarray:
    """(P, D) float32 of length one.

    Raises:
        DataError: if one is zero or not finite, or they are no matrix.
    """
    wide = np.asarray(queries, dtype=np.float64)
    if wide.ndim != 2:
        raise DataError(f'queries have the shape {wide.shape}; expected (P, D).')
    norms = np.sqrt((wide ** 2).sum(1))
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise DataError(f'query {bad[0]} is zero or not finite: it has no direction.')
    return np.ascontiguousarray(wide / norms[:, None], dtype=np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Products on one thread: buckets are what is done side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _guess_floors(rows: _Rows, masks: Sequence[np.ndarray | None], cosines: _Cosines, sides: Sequence[_Best]) -> None:
    """Begin with floors that are a little below the q-th score, by what a sample spread over all rows says.

    Else most of the first rows would be candidates: six times as many in all, of a million rows and q = 16,000.
    """
    total, q = int(rows.starts[-1]), sides[0].q
    expected = q * _SAMPLE / max(total, 1)  # of the best q in the sample
    rank = int(expected + 5 * expected ** 0.5 + 5)
    if total < 8 * _SAMPLE or total < 8 * q:
        return
    sample = np.arange(_SAMPLE, dtype=np.int64) * (total // _SAMPLE)
    scores = []
    for place, here in rows.by_bank(sample):
        local = sample[here] - rows.starts[place]
        stored = rows.features(place)
        for start in range(0, len(local), BLOCK):
            part = local[start:start + BLOCK]
            found = cosines(stored.index_select(0, torch.from_numpy(part)))[0][:, :len(part)].copy()
            usable = rows.banks[place].valid[part] if masks[place] is None else masks[place][part]
            found[:, ~usable] = np.nan
            scores.append(found)
    scores = np.concatenate(scores, axis=1)
    for side in sides:
        # NaN is sorted to the end: rows that are no candidates.
        ranked = np.sort(-side.sign * scores, axis=1)[:, min(rank, _SAMPLE - 1)]
        side.floors[:, 0] = np.where(np.isnan(ranked), -np.inf, -ranked - np.float32(2 * side.margin))


def _search_bank(rows: _Rows, place: int, bank: FeatureBank, mask: np.ndarray | None, cosines: _Cosines,
                 sides: Sequence[_Best], counts: dict[str, int]) -> None:
    stored = rows.features(place)
    wanted = np.ones(len(bank), bool) if mask is None else mask
    usable = bank.valid & wanted
    all_usable = bool(usable.all())
    counts['unreadable'] += int((wanted & ~usable).sum())
    for start in range(0, len(bank), BLOCK):
        block = stored[start:start + BLOCK]
        scores, squares = cosines(block)
        squares = squares[:len(block)]
        if not (all_usable and squares.min() > 0 and squares.max() < np.inf):
            here = usable[start:start + BLOCK]
            zero, finite = squares == 0, squares < np.inf
            counts['zero'] += int((here & zero).sum())
            counts['not_finite'] += int((here & ~finite).sum())
            good = here & ~zero & finite
            scores[:, :len(block)][:, ~good] = np.nan  # which compares as False with everything
            counts['searched'] += int(good.sum())
        else:
            counts['searched'] += len(block)
        for side in sides:
            side.take(scores, rows.starts[place] + start)


class _Cosines:
    """Cosines of blocks of rows with the queries, by products of matrices of one shape.

    A product's kernels may sum in another order at its edges. Here every product is (12, D) @ (D, 2048), filled up
    with zeros, on one thread, and the first one is of copies: if all its numbers are the same, a cosine is a function
    of row and query alone.

    Attributes:
        exact: whether they were the same. If not, cosines are only near those of `_Rows.scores`.
        starts: of the groups of queries, see `top_scores`.
    """

    def __init__(self, queries: np.ndarray, groups: Sequence[int] | None = None):
        self.count, dim = queries.shape
        self.starts = np.concatenate([[0], np.cumsum([1] * self.count if groups is None else groups)[:-1]])
        groups = -(-self.count // _GROUP)
        self.queries = torch.zeros(groups * _GROUP, dim)
        self.queries[:self.count] = torch.from_numpy(queries)
        self.products = torch.empty(len(self.queries), BLOCK)
        self.block = torch.zeros(BLOCK, dim)
        copies = torch.randn(2, dim, generator=torch.Generator().manual_seed(0))
        probe = torch.mm(copies[:1].repeat(_GROUP, 1), copies[1:].repeat(BLOCK, 1).T)
        self.exact = bool((probe == probe[0, 0]).all())

    def __call__(self, rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Scores (P, B) and squared lengths (B,) of at most B = 2048 rows; behind the last row they are NaN, 0."""
        if rows.dtype != torch.float32 or len(rows) < BLOCK:
            self.block[len(rows):] = 0
            self.block[:len(rows)] = rows
            rows = self.block
        for start in range(0, len(self.queries), _GROUP):
            part = slice(start, start + _GROUP)
            torch.mm(self.queries[part], rows.T, out=self.products[part])
        squares = squared_lengths(rows.numpy())
        with np.errstate(divide='ignore', invalid='ignore'):
            scores = self.products.numpy()[:self.count]
            np.multiply(scores, 1 / np.sqrt(squares), out=scores)
            return scores if len(self.starts) == self.count else np.maximum.reduceat(scores, self.starts), squares


def squared_lengths(rows: np.ndarray) -> np.ndarray:
    """(N,) float32; NaN and infinity stay."""
    with np.errstate(invalid='ignore', over='ignore'):
        return np.vecdot(rows, rows)  # row by row, three times as fast as einsum


class _Rows:
    """Rows counted through banks: their features, scores and ids."""

    def __init__(self, banks: Sequence[FeatureBank]):
        self.banks = list(banks)
        self.starts = np.concatenate([[0], np.cumsum([len(bank) for bank in banks], dtype=np.int64)]).astype(np.int64)
        self._ids: tuple[int, np.ndarray] | None = None

    def features(self, place: int) -> torch.Tensor:
        """A bank's features where they are mapped."""
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'The given NumPy array is not writable')  # nothing writes to it
            return torch.from_numpy(np.asarray(self.banks[place].features))

    def scores(self, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """(P, M) float32 cosines, the same for a row wherever it stands."""
        cosines = _Cosines(queries)
        scores = np.empty((len(queries), len(rows)), np.float32)
        for place, here in self.by_bank(rows):
            stored = self.features(place)
            local = torch.from_numpy(rows[here] - self.starts[place])
            for start in range(0, len(local), BLOCK):
                block = stored.index_select(0, local[start:start + BLOCK])
                if cosines.exact:
                    found = cosines(block)[0][:, :len(block)]
                else:
                    wide = block.float().numpy()
                    with np.errstate(divide='ignore', invalid='ignore'):
                        found = [np.vecdot(wide, query) / np.sqrt(squared_lengths(wide)) for query in queries]
                scores[:, here[start:start + BLOCK]] = found
        return scores

    def ids(self, rows: np.ndarray) -> np.ndarray:
        """(M,) int64, or text."""
        if not len(rows):
            return np.zeros(0, np.int64)
        parts = [(here, self._bank_ids(place)[rows[here] - self.starts[place]]) for place, here in self.by_bank(rows)]
        is_text = any(values.dtype == object for _, values in parts)
        found = np.empty(len(rows), object if is_text else np.int64)
        for here, values in parts:
            found[here] = [str(value) for value in values] if is_text else values
        return found

    def by_bank(self, rows: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(bank, places in `rows`) of the banks that have any, in the order of rows."""
        order = np.argsort(rows, kind='stable')
        cuts = np.searchsorted(rows[order], self.starts)
        return [(place, order[cuts[place]:cuts[place + 1]]) for place in range(len(self.banks))
                if cuts[place + 1] > cuts[place]]

    def _bank_ids(self, place: int) -> np.ndarray:
        if self._ids is None or self._ids[0] != place:
            self._ids = place, bank_ids(self.banks[place])
        return self._ids[1]


def bank_ids(bank: FeatureBank) -> np.ndarray:
    """(N,) int64 ids of a bank's rows; as text (object) if one is no whole number."""
    import pyarrow

    try:
        return bank.index['id'].cast(pyarrow.int64()).to_numpy()
    except pyarrow.ArrowException:
        return np.array(bank.column('id'), dtype=object)


class _Best:
    """The best rows so far of every group of queries, in one direction.

    Where cosines are not exact they are off by up to `margin`; then a row is dropped only when it is worse than the
    q-th by more than twice that, and exact ones are taken at the end. Of equal ones the id decides.
    """

    def __init__(self, rows: _Rows, queries: Sequence[np.ndarray], q: int, sign: int, exact: bool):
        self.source, self.queries, self.q, self.sign, self.exact = rows, queries, q, sign, exact
        # Of sums of D products of numbers rounded to float32, and as much again of the lengths.
        self.margin = 0.0 if exact else (2 * queries[0].shape[1] + 8) * 2.0 ** -24
        self.floors = np.full((len(queries), 1), -np.inf, np.float32)
        self.rows = [np.zeros(0, np.int64) for _ in queries]
        self.scores = [np.zeros(0, np.float32) for _ in queries]
        self.pending: list[tuple[int, np.ndarray, np.ndarray]] = []
        self.num_pending = 0

    def take(self, scores: np.ndarray, first_row: int) -> None:
        """Look at a block (P, B) of cosines."""
        places = np.flatnonzero(scores >= self.floors if self.sign > 0 else scores <= -self.floors)
        if not len(places):
            return
        self.pending.append((first_row, places, scores.ravel()[places]))
        self.num_pending += len(places)
        if self.num_pending > max(len(self.queries) * self.q, _LEAST_PENDING):
            self.settle()

    def settle(self) -> None:
        """Put what is pending to the rest, and raise the floors."""
        if not self.pending:
            return
        first, places, scores = zip(*self.pending)
        self.pending, self.num_pending = [], 0
        first = np.repeat(np.array(first), [len(part) for part in places])
        places, scores = np.concatenate(places), np.concatenate(scores)
        query, rows = (places >> _BITS).astype(np.int16), (places & BLOCK - 1) + first
        order = np.argsort(query, kind='stable')  # of 16 bits: by counting
        cuts = np.searchsorted(query[order], np.arange(len(self.queries) + 1))
        for place in range(len(self.queries)):
            new = order[cuts[place]:cuts[place + 1]]
            if len(new):
                self._merge(place, rows[new], scores[new] * np.float32(self.sign))

    def has(self, count: int) -> bool:
        """Whether there are so many rows for every query."""
        self.settle()
        return all(len(rows) >= count for rows in self.rows)

    def _merge(self, place: int, rows: np.ndarray, scores: np.ndarray) -> None:
        rows = np.concatenate([self.rows[place], rows])
        scores = np.concatenate([self.scores[place], scores])
        if len(rows) > self.q:
            floor = np.partition(scores, len(scores) - self.q)[len(scores) - self.q] - np.float32(2 * self.margin)
            self.floors[place] = floor
            kept = scores >= floor
            rows, scores = rows[kept], scores[kept]
        if len(rows) > 2 * self.q + BLOCK:  # nearly all are equal: let the ids decide now
            rows, scores, _ = self._cut(place, rows, scores)
            scores = scores * self.sign
        self.rows[place], self.scores[place] = rows, scores

    def _cut(self, place: int, rows: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, cosines, ids) of the best q, best first."""
        scores = (scores * np.float32(self.sign) if self.exact
                  else self.source.scores(rows, self.queries[place]).max(axis=0))
        ids = self.source.ids(rows)
        ranks = np.unique(ids.astype(str), return_inverse=True)[1] if ids.dtype == object else ids
        order = np.lexsort((ranks, -self.sign * scores))[:self.q]
        return rows[order], scores[order], ids[order]

    def result(self) -> Hits:
        self.settle()
        found = [self._cut(place, *kept) for place, kept in enumerate(zip(self.rows, self.scores))]
        if not found:
            return Hits(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.int64), np.zeros((0, 0), np.int64))
        rows, scores, ids = (list(part) for part in zip(*found))
        if any(values.dtype == object for values in ids):  # of banks of both kinds
            ids = [values.astype(str).astype(object) for values in ids]
        return Hits(np.clip(np.stack(scores), -1, 1), np.stack(rows), np.stack(ids))
