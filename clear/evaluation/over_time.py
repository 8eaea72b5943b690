"""How an encoder's features serve buckets of other times: probes of every checkpoint on every bucket, as matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from clear.core.errors import ConfigError, DataError
from clear.datasets import Bucket
from clear.evaluation.image.linear_probe import FittedProbe, LinearProbe
from clear.evaluation.image.rows import LabelledRows, ProbeData, check_features
from clear.evaluation.task import classification_metrics, over_seeds
from clear.features import FeatureBank, join_bucket
from clear.registry import TASKS

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.evaluation.image.few_shot import FewShotProbe
    from clear.evaluation.image.knn import KNN
    from clear.evaluation.image.logistic_probe import LogisticProbe
    from clear.evaluation.image.nearest_class_mean import NearestClassMean

PER_BUCKET, OWN_BUCKET = 'probe_per_bucket', 'probe_of_own_bucket'
PROTOCOLS = (PER_BUCKET, OWN_BUCKET)
# Tasks that learn from labelled rows and are tested on others.
PROBES = ('KNN', 'LinearProbe', 'LogisticProbe', 'NearestClassMean', 'FewShotProbe')


Probe: TypeAlias = 'KNN | LinearProbe | LogisticProbe | NearestClassMean | FewShotProbe'


def build_probe(options: Options, device: str = 'cpu') -> Probe:
    """The probe of `dict(type='KNN', k=20)`; `device` where its arguments leave it open.

    Raises:
        ConfigError: if it is none of `PROBES`, or refuses a value.
    """
    if not isinstance(options, Mapping) or options.get('type') not in PROBES:
        raise ConfigError(f'tasks: {options!r} is no probe; expected dict(type=...) with one of {", ".join(PROBES)}.')
    try:
        return TASKS.build(dict(options), default_args=dict(device=device))
    except TypeError as error:
        raise ConfigError(f'tasks: {options["type"]}: {error}') from error


def wanted_cells(protocols: Sequence[str], own: int | None, num_buckets: int) -> dict[int, list[int]]:
    """Which probes one checkpoint needs: bucket to train the probe on -> buckets to test it on, both ascending.

    The two protocols share the cell of the own bucket, so it is measured once.

    Args:
        own: the bucket that the checkpoint was trained through; None if it is none of the buckets, which leaves
            nothing to measure under `OWN_BUCKET`.

    Raises:
        ConfigError: for an unknown protocol.
    """
    unknown = [name for name in protocols if name not in PROTOCOLS]
    if unknown or not protocols:
        raise ConfigError(f'protocols is {list(protocols)!r}; expected some of {", ".join(map(repr, PROTOCOLS))}.')
    cells: dict[int, set[int]] = {}
    if PER_BUCKET in protocols:
        cells = {bucket: {bucket} for bucket in range(num_buckets)}
    if OWN_BUCKET in protocols and own is not None:
        cells[own] = set(range(num_buckets))
    return {train: sorted(tests) for train, tests in sorted(cells.items())}


def score_probe(probe: Probe, bank: FeatureBank, train: Bucket, tests: Sequence[Bucket], class_names: list[str]
                ) -> list[float]:
    """Top-1 of a probe that is trained on one bucket, on the test lists of others; the mean over its seeds.

    A class without a training sample in that bucket can still occur in a test list: it is then simply wrong, as the
    accuracy is of all test images. What a probe chooses by validation is chosen on the training bucket alone.

    Args:
        bank: holds every image of these lists.
        class_names: of the whole stream; targets of all lists are its indices.

    Raises:
        DataError: if an image is not in the bank, none of a list could be read, or features are not finite.
        TrainingError: if every setting of a linear probe diverged.
    """
    rows = _rows(bank, train, 'train', probe.device)
    fitted: FittedProbe | None = None
    scores = []
    for bucket in tests:
        data = ProbeData(rows, _rows(bank, bucket, 'test', probe.device), class_names)
        if isinstance(probe, LinearProbe):
            # Training does not see the test rows, so one training serves all of them.
            fitted = fitted or probe.fit(data)
            scores.append(_top1_of_heads(fitted, data.test))
        else:
            scores.append(probe.fit(data).value)
    return scores


def _rows(bank: FeatureBank, bucket: Bucket, split: str, device: str) -> LabelledRows:
    joined = join_bucket(bank, bucket)
    check_features(joined.features, f'{split} list of bucket {bucket.name}')
    return LabelledRows(joined.features.to(device), joined.targets.to(device))


def _top1_of_heads(fitted: FittedProbe, test: LabelledRows) -> float:
    """The mean over the probe's seeds."""
    scaled = fitted.scale(test.features)
    per_seed = {seed: classification_metrics(scaled @ weight.T + bias, test.labels)
                for seed, (weight, bias) in enumerate(zip(fitted.weight, fitted.bias))}
    return over_seeds(per_seed)[0]['top1']


def accuracy_matrix(protocol: str, owns: Sequence[int | None], num_buckets: int,
                    value: Callable[[int, int, int], float | None]) -> list[list[float | None]]:
    """The matrix of one protocol, rows = checkpoints, columns = tested on bucket j; None where nothing is measured.

    Args:
        owns: per checkpoint, the bucket that it was trained through, or None.
        value: (checkpoint, trained on bucket, tested on bucket) -> accuracy or None.
    """
    def cell(row: int, column: int) -> float | None:
        train = column if protocol == PER_BUCKET else owns[row]
        return None if train is None else value(row, train, column)

    return [[cell(row, column) for column in range(num_buckets)] for row in range(len(owns))]


def by_bucket(matrix: Sequence[Sequence[float | None]], owns: Sequence[int | None], num_buckets: int
              ) -> list[list[float | None]]:
    """The square matrix that CLEAR metrics read: row i is the checkpoint trained through bucket i, None where none is.

    Rows of checkpoints that were trained through no bucket of the stream are left out.

    Raises:
        DataError: if two checkpoints were trained through one bucket.
    """
    square: list[list[float | None]] = [[None] * num_buckets for _ in range(num_buckets)]
    for row, own in zip(matrix, owns):
        if own is None:
            continue
        if owns.count(own) > 1:
            raise DataError(f'{owns.count(own)} checkpoints were trained through one bucket (number {own + 1} of '
                            f'{num_buckets}): which of them is its row is open.')
        square[own] = list(row)
    return square
