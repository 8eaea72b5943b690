"""Candidates by an index of faiss in place of the exact search, with its recall measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clear.core.checks import check_text, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.curation.retrieval.choice import Candidates
from clear.curation.retrieval.search import bank_ids, row_scores, squared_lengths, top_scores

if TYPE_CHECKING:
    from types import ModuleType

    import faiss

    from clear.core.types import Options
    from clear.features.bank import FeatureBank

_ROWS = 1 << 14
_PER_LIST = 64  # rows for each list in training; faiss warns below 39


@dataclass(frozen=True)
class ApproximateSearch:
    """An index for each bucket, in memory as a whole: built once, and forgotten with the bucket.

    For the prompts of one stage it does not pay: building takes longer than the exact search. It does where q is small
    and prompts are thousands. Scores and their order are exact; which rows are looked at is not.

    Attributes:
        factory: faiss's name of the index: 'IVF256,Flat', 'IVF1024,SQ8', 'HNSW32'.
        nprobe: lists that a query looks through, of an 'IVF' index.
        recall_prompts: prompts, the first ones, for which the exact search is done too, to count how many of its rows
            were found.
    """

    factory: str = 'IVF256,Flat'
    nprobe: int = 32
    recall_prompts: int = 2

    def __post_init__(self):
        check_text('index.factory', self.factory)
        check_whole('index.nprobe', self.nprobe, 1)
        check_whole('index.recall_prompts', self.recall_prompts, 1)
        library = _faiss()
        try:
            library.index_factory(8, self.factory, library.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise ConfigError(f'index.factory is {self.factory!r}, of which faiss makes no index: '
                              f'{str(error).strip().splitlines()[-1]}') from error

    @classmethod
    def of(cls, given: Options | None) -> ApproximateSearch | None:
        """From a config."""
        if given is None:
            return None
        if not isinstance(given, Mapping):
            raise ConfigError(f"index is {given!r}; expected a dict such as dict(factory='IVF256,Flat', nprobe=32).")
        check_keys('index', given, set(cls.__dataclass_fields__), 'index')
        return cls(**given)

    def candidates(self, banks: Sequence[FeatureBank], queries: Sequence[np.ndarray], q: int, signs: Sequence[int]
                   ) -> tuple[list[Candidates], dict[str, int]]:
        """The best q rows that the index finds for each class, by sign; and counts, with those of the recall.

        Args:
            queries: of each class (n, D), of which the nearest counts.
            signs: 1 for the most similar rows, -1 for the least; scores are cosines times the sign.
        """
        with _one_thread():
            index, rows, counts = self._build(banks, queries[0].shape[1])
            found = [self._look(index, rows, banks, queries, q, sign) for sign in signs]
        if len(rows):
            exact = top_scores(banks, np.concatenate(queries[:self.recall_prompts]), q,
                               groups=[len(part) for part in queries[:self.recall_prompts]]).highest.rows
            counts['recall_asked'] = exact.size
            counts['recall_found'] = sum(int(np.isin(best, found[0].rows[found[0].classes == place]).sum())
                                         for place, best in enumerate(exact))
        return found, counts

    def _build(self, banks: Sequence[FeatureBank], dim: int) -> tuple[faiss.Index, np.ndarray, dict[str, int]]:
        """The index, and the rows behind its own numbers, counted through the banks."""
        library = _faiss()
        index = library.index_factory(dim, self.factory, library.METRIC_INNER_PRODUCT)
        if not index.is_trained:
            lists = library.extract_index_ivf(index).nlist if self.factory.startswith('IVF') else 256
            count = sum(len(bank) for bank in banks)
            step = max(1, count // (lists * _PER_LIST))
            sample = np.concatenate([np.zeros((0, dim), np.float32), *(part[::step] for part, _ in _units(banks))])
            if len(sample) < lists:
                raise DataError(f'index {self.factory} needs {lists} rows, the bucket has {len(sample)}. Leave the '
                                'index out, or take fewer lists.')
            index.train(np.ascontiguousarray(sample))
        rows = [np.zeros(0, np.int64)]
        for part, numbers in _units(banks):
            index.add(part)
            rows.append(numbers)
        if self.factory.startswith('IVF'):
            library.extract_index_ivf(index).nprobe = self.nprobe
        found = np.concatenate(rows)
        return index, found, dict(searched=len(found), left_out=sum(len(bank) for bank in banks) - len(found))

    def _look(self, index: faiss.Index, rows: np.ndarray, banks: Sequence[FeatureBank], queries: Sequence[np.ndarray],
              q: int, sign: int) -> Candidates:
        ids = np.concatenate([np.zeros(0, np.int64), *map(bank_ids, banks)])
        parts = []
        for place, own in enumerate(queries):
            # A group's lowest rows are those whose highest cosine is low, for which no index is made: look for each.
            numbers = index.search(np.float32(sign) * own, min(q, len(rows)))[1].ravel() if len(rows) else rows
            best = rows[np.unique(numbers[numbers >= 0])]  # faiss fills up with -1
            scores = np.float32(sign) * row_scores(banks, best, own).max(axis=0)
            order = np.lexsort((ids[best], -scores))[:q]
            parts.append(Candidates(np.full(len(order), place), scores[order], ids[best][order], best[order]))
        return Candidates(*(np.concatenate([getattr(part, name) for part in parts])
                            for name in ('classes', 'scores', 'ids', 'rows')))


def _units(banks: Sequence[FeatureBank]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of usable rows, of length one, and their numbers."""
    first = 0
    for bank in banks:
        for start in range(0, len(bank), _ROWS):
            block = np.asarray(bank.features[start:start + _ROWS], np.float32)
            squares = squared_lengths(block)
            good = np.flatnonzero(bank.valid[start:start + _ROWS] & (squares > 0) & (squares < np.inf))
            yield block[good] / np.sqrt(squares[good, None]), good + start + first
        first += len(bank)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads would be rounded otherwise."""
    library = _faiss()
    threads = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    try:
        yield
    finally:
        library.omp_set_num_threads(threads)


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise ConfigError("An index needs faiss: pip install 'clear-framework[curate]'.") from error
    return faiss
