"""What changes in a stream: samples of its buckets from feature banks, compared pair by pair, class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow
from pyarrow import parquet

from clear.core.errors import DataError
from clear.evaluation.metrics.drift import Comparison, change_points, compare, enough_permutations, holm, sampling_keys
from clear.features.bank import INDEX_FILE, FeatureBank

MOST_ROWS = 2000
FEWEST_ROWS = 20
FEWEST_OF_A_CLASS = 10
_BLOCK = 65_536


@dataclass(frozen=True)
class Sample:
    """Some rows of a bucket, in the order of their keys.

    Attributes:
        keys: (N,) uint64, see `sampling_keys`.
        ids, paths: of the images.
        features: (N, D) float32.
        labels: (N,) class index, -1 = none.
        times: (N,) int64 microseconds since 1970; NaT's value where there is none.
    """

    keys: np.ndarray
    ids: np.ndarray
    paths: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, rows: np.ndarray) -> Sample:
        return Sample(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class ClassDrift:
    """How far a class lies apart between the first and the last bucket that have ten of its rows each.

    Attributes:
        mmd2: see `metrics.drift.Comparison`.
        p: adjusted for all classes by Holm.
    """

    label: int
    first: str
    last: str
    mmd2: float
    p: float


@dataclass(frozen=True)
class Edges:
    """Times at which to cut a stream so that what is alike stays together.

    Attributes:
        starts: of each bucket but the first, microseconds since 1970.
        explained: share of the variance over time that lies between them.
    """

    starts: list[int]
    explained: float


def samples(banks: Sequence[FeatureBank], every: str = 'bucket', most: int = MOST_ROWS) -> dict[str, Sample]:
    """Of each bucket at most `most` readable rows, those with the smallest hashes of their ids; buckets in order.

    Args:
        banks: of one encoder.
        every: 'bucket', as the banks say, or 'year', 'quarter', 'month' of their timestamps.

    Raises:
        DataError: if the banks are of several encoders, or there is nothing to tell buckets by.
    """
    if len({bank.dim for bank in banks}) > 1 or len({_encoder(bank) for bank in banks}) > 1:
        raise DataError('the banks are of several encoders, whose features cannot be compared.')
    found: dict[str, Sample] = {}
    for bank in banks:
        file = parquet.ParquetFile(bank.path / INDEX_FILE)
        for batch in file.iter_batches(_BLOCK, columns=['row', 'id', 'path', 'bucket', 'timestamp']):
            for name, rows in _by_bucket(batch, every).items():
                rows = rows[bank.valid[batch['row'].to_numpy()[rows]]]
                part = _sample_of(bank, batch, rows, found.get(name), most)
                found[name] = part if name not in found else _merged(found[name], part, most)
    if not found:
        raise DataError(f'no row of {banks[0].path} has a {"bucket" if every == "bucket" else "time"}.'
                        + (' Cut by their times instead: --every year.' if every == 'bucket' else ''))
    order = sorted(found, key=lambda name: (0, int(name), '') if name.isdigit() else (1, 0, name))
    return {name: found[name] for name in order}


def compare_buckets(buckets: dict[str, Sample], seed: int = 0, report: Callable[[str], None] | None = None
                    ) -> dict[tuple[str, str], Comparison]:
    """Every pair of buckets that have at least 20 rows.

    Args:
        report: called with what is compared next.
    """
    pairs = list(combinations([name for name, sample in buckets.items() if len(sample) >= FEWEST_ROWS], 2))
    permutations = enough_permutations(len(pairs))
    found = {}
    for first, last in pairs:
        if report is not None:
            report(f'{first} with {last}')
        try:
            found[first, last] = compare(buckets[first].features, buckets[last].features, permutations, seed)
        except ValueError as error:
            raise DataError(f'buckets {first} and {last} cannot be compared: {error}') from error
    return found


def adjusted(comparisons: dict[tuple[str, str], Comparison]) -> dict[tuple[str, str], tuple[float, float]]:
    """p-values of MMD and of the Fréchet distance of every pair, each adjusted over the pairs by Holm."""
    mmd, frechet = (holm([getattr(each, name) for each in comparisons.values()]) for name in ('mmd_p', 'frechet_p'))
    return dict(zip(comparisons, zip(mmd, frechet)))


def drifting_classes(buckets: dict[str, Sample], seed: int = 0) -> list[ClassDrift]:
    """Every class with ten rows in two buckets, the one that moved most first."""
    labels = np.unique(np.concatenate([sample.labels for sample in buckets.values()]))
    labels = labels[labels >= 0].tolist()
    found = []
    for label in labels:
        rows = {name: sample.features[sample.labels == label] for name, sample in buckets.items()}
        names = [name for name, each in rows.items() if len(each) >= FEWEST_OF_A_CLASS]
        if len(names) > 1:
            try:
                outcome = compare(rows[names[0]], rows[names[-1]], enough_permutations(len(labels)), seed)
            except ValueError:  # a class of one picture does not move
                continue
            found.append((label, names[0], names[-1], outcome))
    p_values = holm([outcome.mmd_p for *_, outcome in found])
    drifts = [ClassDrift(label, first, last, outcome.mmd2, p)
              for (label, first, last, outcome), p in zip(found, p_values)]
    return sorted(drifts, key=lambda each: (-each.mmd2, each.label))


def suggested_edges(buckets: dict[str, Sample], count: int) -> Edges | None:
    """Where to cut the stream into `count` buckets; None if fewer rows than that have times."""
    times = np.concatenate([sample.times for sample in buckets.values()])
    features = np.concatenate([sample.features for sample in buckets.values()])
    keys = np.concatenate([sample.keys for sample in buckets.values()])
    has_time = ~np.isnat(times.view('datetime64[us]'))
    times, features, keys = times[has_time], features[has_time], keys[has_time]
    if len(times) < count or count < 2:
        return None
    order = np.lexsort((keys, times))
    cuts, explained = change_points(features[order], count)
    return Edges([int(times[order[cut]]) for cut in cuts], explained)


def examples(sample: Sample, label: int, most: int = 4) -> np.ndarray:
    """Rows of a class nearest to its mean in a bucket, the nearest first."""
    rows = np.flatnonzero(sample.labels == label)
    if not len(rows):
        return rows
    features = sample.features[rows]
    return rows[np.lexsort((sample.keys[rows], ((features - features.mean(0)) ** 2).sum(1)))][:most]


def _encoder(bank: FeatureBank) -> str:
    return bank.meta['identity']['encoder']


def _by_bucket(batch: pyarrow.RecordBatch, every: str) -> dict[str, np.ndarray]:
    """Bucket -> rows of a batch."""
    if every == 'bucket':
        names = batch['bucket'].cast(pyarrow.string())
    else:
        times = batch['timestamp'].cast(pyarrow.timestamp('us', tz='UTC')).to_numpy(zero_copy_only=False)
        if every == 'quarter':
            months = times.astype('datetime64[M]').astype(int)
            text = np.char.add(np.char.add(np.datetime_as_string(times.astype('datetime64[Y]')), '-Q'),
                               (months % 12 // 3 + 1).astype(str))
        else:
            text = np.datetime_as_string(times.astype(f'datetime64[{every[0].upper()}]'))
        names = pyarrow.array(text, mask=np.isnat(times))
    encoded = names.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return {name: np.flatnonzero(codes == code) for code, name in enumerate(encoded.dictionary.to_pylist())}


def _sample_of(bank: FeatureBank, batch: pyarrow.RecordBatch, rows: np.ndarray, so_far: Sample | None,
               most: int) -> Sample:
    """The rows of a batch that may belong to the sample of a bucket."""
    chosen = batch.take(pyarrow.array(rows))
    ids = chosen['id'].to_pylist()
    keys = sampling_keys(each.decode('utf-8', 'surrogatepass') if isinstance(each, bytes) else each for each in ids)
    if so_far is not None and len(so_far) == most:
        keep = np.flatnonzero(keys < so_far.keys[-1])
    else:
        keep = np.arange(len(keys))
    keep = keep[np.argsort(keys[keep], kind='stable')][:most]
    places = chosen['row'].to_numpy()[keep]
    times = chosen['timestamp'].cast(pyarrow.timestamp('us', tz='UTC')).to_numpy(zero_copy_only=False)
    return Sample(keys[keep], np.array(ids, object)[keep], np.array(chosen['path'].to_pylist(), object)[keep],
                  np.asarray(bank.features)[places].astype(np.float32), bank.labels[places],
                  times[keep].astype('datetime64[us]').astype(np.int64))


def _merged(first: Sample, second: Sample, most: int) -> Sample:
    both = Sample(*(np.concatenate([getattr(first, name), getattr(second, name)])
                    for name in Sample.__dataclass_fields__))
    return both.of(np.argsort(both.keys, kind='stable')[:most])
