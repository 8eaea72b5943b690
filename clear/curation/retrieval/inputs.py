"""What retrieval reads: the banks of a bucket, and what other stages say of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.errors import DataError
from clear.curation.features import banks_of
from clear.curation.manifest import Finished
from clear.curation.retrieval.search import row_scores

_FILES = dict(images='images.parquet', records='records.parquet')


class BucketFeatures:
    """The banks of a bucket.

    Args:
        features: a stage with features.
        name: of the bucket.
    """

    def __init__(self, features: Finished, name: str):
        self.name = name
        self.banks = banks_of(features, name)

    def __len__(self) -> int:
        return sum(len(bank) for bank in self.banks)

    @property
    def dim(self) -> int:
        """D; 0 of an empty bucket."""
        return self.banks[0].dim if self.banks else 0

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([len(bank) for bank in self.banks])])

    def read(self, rows: np.ndarray, out: np.ndarray, places: np.ndarray) -> None:
        """Put the features of `rows[places]` to these places of `out`, bank after bank in the order of rows."""
        order = places[np.argsort(rows[places], kind='stable')]
        cuts = np.searchsorted(rows[order], self._starts)
        for number, bank in enumerate(self.banks):
            own = order[cuts[number]:cuts[number + 1]]
            out[own] = np.asarray(bank.features)[rows[own] - self._starts[number]]


class AboutCandidates:
    """What filters ask, see `clear.curation.retrieval.steps.About`.

    Args:
        ids, rows: (M,) of the candidates.
        vectors: text -> (D,).
    """

    def __init__(self, bucket: BucketFeatures, ids: np.ndarray, rows: np.ndarray, stages: Mapping[str, Finished],
                 vectors: Mapping[str, np.ndarray]):
        self.bucket, self.ids, self.rows, self.stages, self.vectors = bucket, ids, rows, stages, vectors

    def cosines(self, texts: Sequence[str]) -> np.ndarray:
        """(T, M)."""
        return row_scores(self.bucket.banks, self.rows, np.stack([self.vectors[text] for text in texts]))

    def columns(self, kind: str, names: Sequence[str]) -> pyarrow.Table:
        """Columns of a stage's table, null where it has no such id."""
        return columns_of(self.stages[kind], _FILES[kind], self.ids, names)


def columns_of(finished: Finished, name: str, ids: np.ndarray, names: Sequence[str]) -> pyarrow.Table:
    """Some columns of a stage's tables for ids (M,), in their order; null where there is no such id.

    Raises:
        DataError: if it lacks a column.
    """
    distinct, inverse = np.unique(ids, return_inverse=True)
    parts, places = [], [np.zeros(0, np.int64)]
    schema = None
    for path in finished.files(name):
        with parquet.ParquetFile(path) as file:
            schema = schema or file.schema_arrow
            lacking = [column for column in names if column not in file.schema_arrow.names]
            if lacking:
                raise DataError(f"{path} has no column '{lacking[0]}'.")
            for batch in file.iter_batches(columns=['id', *names]):
                found = batch['id'].to_numpy()
                place = np.minimum(np.searchsorted(distinct, found), max(len(distinct) - 1, 0))
                kept = distinct[place] == found if len(distinct) else np.zeros(len(found), bool)
                parts.append(pyarrow.Table.from_batches([batch]).select(list(names)).filter(pyarrow.array(kept)))
                places.append(place[kept])
    if schema is None:
        raise DataError(f'{finished.folder.path} has no {name}.')
    at = np.full(len(distinct), -1, np.int64)
    place = np.concatenate(places)
    at[place] = np.arange(len(place))
    at = at[inverse]
    return pyarrow.concat_tables(parts).take(pyarrow.array(at, mask=at < 0))
