"""How an encoder's features serve buckets of other times: probes of every checkpoint on every bucket, as matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import nn

from clear.core.errors import ConfigError, DataError, TrainingError
from clear.datasets import Bucket
from clear.evaluation.image.linear_probe import FittedProbe, LinearProbe
from clear.evaluation.image.rows import LabelledRows, ListedRows, check_features, read_splits
from clear.evaluation.task import Task, TaskData, classification_metrics, needs_of, over_seeds, reads_text_alone
from clear.features import FeatureBank, join_bucket

PER_BUCKET, OWN_BUCKET = 'probe_per_bucket', 'probe_of_own_bucket'
PROTOCOLS = (PER_BUCKET, OWN_BUCKET)
# Of tasks that compare images with text, where no probe is trained.
EACH_BUCKET = 'each_bucket'
MEASURED = {'bank', 'text', 'text_encoder'}
DEFAULT_TASKS = [dict(type='KNN')]


def check_needs(where: str, task: Task) -> None:
    """Refuse a task that reads more than features and text, or no images of any time.

    Raises:
        ConfigError: saying what.
    """
    others = [need for need in needs_of(task) if need not in MEASURED]
    if others:
        raise ConfigError(f"{where}: {type(task).__name__} needs {' and '.join(others)}; an encoder over time gives "
                          "features, captions and its text side, to tasks of needs = ('bank', 'text', 'text_encoder').")
    if reads_text_alone(needs_of(task)):
        raise ConfigError(f'{where}: {type(task).__name__} reads texts that are of no time: it has one value for each '
                          'checkpoint, which tools/analysis_tools/evaluate_checkpoints.py measures.')


def reads_text(task: Task) -> bool:
    """Whether a task compares images with text; it is measured on each bucket by itself and trains nothing."""
    return bool({'text', 'text_encoder'} & {*needs_of(task)})


def protocols_of(task: Task, protocols: Sequence[str]) -> Sequence[str]:
    """The protocols under which a task is measured."""
    return (EACH_BUCKET,) if reads_text(task) else protocols


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


def score_task(task: Task, bank: FeatureBank, train: Bucket, tests: Sequence[Bucket], class_names: list[str]
               ) -> list[float]:
    """The value of a task, top-1 of a probe, that is trained on one bucket and tested on the test lists of others.

    A class without a training sample in that bucket can still occur in a test list: it is then simply wrong, as the
    accuracy is of all test images. What a probe chooses by validation is chosen on the training bucket alone.

    Args:
        bank: holds every image of these lists.
        class_names: of the whole stream; targets of all lists are its indices.

    Raises:
        DataError: if an image is not in the bank, none of a list could be read, or features are not finite.
        TrainingError: if every setting of a linear probe diverged, or a value is not finite.
    """
    rows = _rows(bank, train, 'train', class_names)
    fitted: FittedProbe | None = None
    scores = []
    for bucket in tests:
        banks = dict(train=rows, test=_rows(bank, bucket, 'test', class_names))
        if isinstance(task, LinearProbe) and task.select == 'val':
            # Training does not see the test rows, so one training serves all of them.
            data = read_splits(banks, task.device)
            fitted = fitted or task.fit(data)
            scores.append(_top1_of_heads(fitted, data.test))
        else:
            scores.append(task.run(None, TaskData(bank=banks)).value)
        if not math.isfinite(scores[-1]):
            raise TrainingError(f'{type(task).__name__} gives {scores[-1]} on bucket {bucket.name}; expected a number.')
    return scores


def score_text_task(task: Task, encoder: nn.Module, bank: FeatureBank, bucket: Bucket, class_names: list[str],
                    captions: Mapping[str, Sequence[str]] | None = None) -> float:
    """The value of a task that compares images with text, on the test list of a bucket.

    Args:
        encoder: what made the bank; encodes text too.
        captions: of the images, by id; for tasks that read 'text'.

    Raises:
        DataError, TrainingError: as `score_task`.
    """
    joined = join_bucket(bank, bucket)
    check_features(joined.features, f'test list of bucket {bucket.name}')
    left_out = {*joined.missing}
    texts = [captions[name] for name in bucket.ids if name not in left_out] if 'text' in needs_of(task) else []
    data = dict(bank=dict(test=ListedRows(joined.features, joined.targets, class_names)), text=dict(test=texts))
    value = task.run(encoder, TaskData(**{need: data[need] for need in needs_of(task) if need in data})).value
    if not math.isfinite(value):
        raise TrainingError(f'{type(task).__name__} gives {value} on bucket {bucket.name}; expected a number.')
    return value


def _rows(bank: FeatureBank, bucket: Bucket, split: str, class_names: list[str]) -> ListedRows:
    joined = join_bucket(bank, bucket)
    check_features(joined.features, f'{split} list of bucket {bucket.name}')
    return ListedRows(joined.features, joined.targets, class_names)


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
        train = owns[row] if protocol == OWN_BUCKET else column
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
