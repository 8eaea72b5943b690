"""CLEAR metrics: plain means over parts of the accuracy matrix. Pure functions, no state, no framework.

`acc_matrix[i][j]` is the top-1 accuracy on test bucket j after training through bucket i (Lin et al. 2021,
arXiv:2201.06289, section 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, TypeAlias

from clear.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from clear.core.contracts import MeasuresMatrix

Matrix: TypeAlias = 'Sequence[Sequence[float | None]] | np.ndarray | torch.Tensor'
# Fractions, None where nothing was measured; `train_overlap` has a dict of them.
Metrics: TypeAlias = dict[str, 'float | None | dict[str, float | None]']

# iid and streaming are CLEAR's; every test set has all classes in the first three. In a class-incremental stream each
# experience has classes of its own; in a task-incremental one the model is told the task of each sample, and has no
# head for tasks to come; with one test set all rows are tested on the same images.
PROTOCOLS = ('iid', 'streaming', 'domain-incremental', 'class-incremental', 'task-incremental', 'one-test-set')
CLEAR_METRICS = ('in_domain', 'next_domain', 'accuracy', 'backward_transfer', 'forward_transfer', 'final_domain',
                 'forgetting', 'challenge_score')
# The CVPR 2022 CLEAR challenge: equal weights; ties were broken by next_domain.
CHALLENGE_METRICS = ('in_domain', 'next_domain', 'backward_transfer', 'forward_transfer')
# Metrics that use an entry with i >= j. Under the streaming protocol those entries measure training data.
OVERLAPPED_METRICS = ('in_domain', 'accuracy', 'backward_transfer', 'forgetting', 'challenge_score')
# Of streams where an entry above the diagonal measures classes that nobody has seen, or a task without a head: no
# transfer, no next domain.
CLASS_INCREMENTAL_METRICS = ('final_accuracy', 'average_incremental_accuracy', 'learning_accuracy', 'forgetting')
ONE_TEST_SET_METRICS = ('final_accuracy', 'mean_accuracy')

# Which entries (i, j) of an n x n matrix a metric is the mean of.
_INDEX_SETS: dict[str, Callable[[int, int, int], bool]] = {
    'in_domain': lambda i, j, n: i == j,
    'next_domain': lambda i, j, n: j == i + 1,
    'accuracy': lambda i, j, n: j <= i,
    'backward_transfer': lambda i, j, n: j < i,
    'forward_transfer': lambda i, j, n: j > i,
    'final_domain': lambda i, j, n: j == n - 1 and i < n - 1,
}


def clear_metrics(acc_matrix: Matrix, protocol: str = 'iid') -> Metrics:
    """The CLEAR metrics of an accuracy matrix.

    Transfer here is an accuracy, the mean of one triangle of the matrix, not the signed difference of GEM
    (Lopez-Paz and Ranzato 2017) that goes by the same name. `forgetting` is the mean over j < N - 1 of
    `acc_matrix[j][j] - acc_matrix[N - 1][j]`, first minus last: positive means forgotten.

    Args:
        acc_matrix: N x N fractions as lists, array or tensor; None or NaN where nothing was measured (yet). N x 1
            with one test set.
        protocol: `'iid'` and `'domain-incremental'` (train and test images of a bucket are disjoint), `'streaming'`
            (they are the same, so entries with i >= j measure training data), `'class-incremental'`,
            `'task-incremental'` or `'one-test-set'`.

    Returns:
        The metrics in the order of `CLEAR_METRICS`, then `'train_overlap'`. A metric that needs a missing entry,
        or has no entries at all (N = 1), is None. Under streaming the metrics in `OVERLAPPED_METRICS` are None
        as well and their numbers stand in the dict `'train_overlap'`, which is empty otherwise.

        For a class- or task-incremental stream those in `CLASS_INCREMENTAL_METRICS`: the mean of the last row, the mean
        over rows of the mean of j <= i (Rebuffi et al. 2017, arXiv:1611.07725, there over samples), the mean of the
        diagonal, and `forgetting`. With one test set those in `ONE_TEST_SET_METRICS`: the last row and the mean.

    Raises:
        ValueError: if the matrix is empty or of another shape, an entry lies outside [0, 1], or the protocol is
            unknown.
    """
    _check_protocol(protocol)
    matrix = _checked_matrix(acc_matrix, columns=1 if protocol == 'one-test-set' else None)
    if protocol in ('class-incremental', 'task-incremental'):
        return _class_incremental(matrix)
    if protocol == 'one-test-set':
        values = [row[0] for row in matrix]
        return dict(final_accuracy=values[-1], mean_accuracy=_mean(values), train_overlap={})
    values = {name: _mean_over(matrix, chosen) for name, chosen in _INDEX_SETS.items()}
    values['forgetting'] = _forgetting(matrix)
    values['challenge_score'] = _mean([values[name] for name in CHALLENGE_METRICS])
    overlapped = OVERLAPPED_METRICS if protocol == 'streaming' else ()
    result: Metrics = {name: None if name in overlapped else values[name] for name in CLEAR_METRICS}
    result['train_overlap'] = {name: values[name] for name in overlapped}
    return result


def _class_incremental(matrix: list[list[float | None]]) -> Metrics:
    n = len(matrix)
    incremental = [_mean(matrix[i][:i + 1]) for i in range(n)]
    return dict(final_accuracy=_mean(matrix[-1]), average_incremental_accuracy=_mean(incremental),
                learning_accuracy=_mean([matrix[i][i] for i in range(n)]), forgetting=_forgetting(matrix),
                train_overlap={})


def own_metrics(metrics: Sequence[MeasuresMatrix], acc_matrix: Matrix, taken: Container[str]) -> Metrics:
    """What metrics of a config make of the accuracy matrix.

    Args:
        taken: names that the run has already.

    Raises:
        ConfigError: if one fails, gives a name that is taken, or a value that is no number.
    """
    found: Metrics = {}
    for metric in metrics:
        name = type(metric).__name__
        try:
            values = dict(metric.of_matrix([list(row) for row in acc_matrix]))
        except Exception as error:
            raise ConfigError(f'metrics: {name}.of_matrix failed: {type(error).__name__}: {error}. Entries that were '
                              'not measured are None.') from error
        for key, value in values.items():
            if not isinstance(key, str) or key in found or key in taken:
                raise ConfigError(f'metrics: {name} gives {key!r}, a name that is taken or no text.')
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ConfigError(f'metrics: {name} gives {key} = {value!r}; expected a number or None.')
        found.update(values)
    return found


def overlap_mask(n: int, protocol: str) -> list[list[bool]]:
    """N x N, True where an entry measures images that were trained on: i >= j under streaming, nowhere otherwise.

    N x 1 with one test set.

    Raises:
        ValueError: if the protocol is unknown.
    """
    _check_protocol(protocol)
    columns = 1 if protocol == 'one-test-set' else n
    return [[protocol == 'streaming' and i >= j for j in range(columns)] for i in range(n)]


def without_unseen(acc_matrix: list[list[float | None]], unseen: list[list[bool]] | None) -> list[list[float | None]]:
    """The matrix, None where the test list has classes that training had not brought yet (`ScenarioInfo.unseen`)."""
    if unseen is None:
        return acc_matrix
    return [[None if is_unseen else value for value, is_unseen in zip(*pair)] for pair in zip(acc_matrix, unseen)]


def accuracy_by_task(row: Sequence[float | None], task_labels: Sequence[int]) -> dict[str, float | None]:
    """Accuracy on each task, from a row of the matrix: the mean of its test sets; None where none was measured.

    Args:
        task_labels: the task of each column.
    """
    by_task: dict[str, list[float]] = {str(task): [] for task in task_labels}
    for task, value in zip(task_labels, row, strict=True):
        if value is not None:
            by_task[str(task)].append(value)
    return {task: sum(values) / len(values) if values else None for task, values in by_task.items()}


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol is {protocol!r}; CLEAR knows 'iid' and 'streaming', other streams are "
                         f"{', '.join(map(repr, PROTOCOLS[2:]))}.")


def _checked_matrix(acc_matrix: Matrix, columns: int | None) -> list[list[float | None]]:
    """The matrix as nested lists of floats, None where an entry is missing; square if `columns` is None."""
    rows = _plain(acc_matrix)
    rows = [_plain(row) for row in rows] if isinstance(rows, (list, tuple)) else None
    if not rows or not all(isinstance(row, (list, tuple)) for row in rows):
        raise ValueError('CLEAR metrics need a square accuracy matrix, a list of rows; '
                         f'got {type(acc_matrix).__name__} without rows and columns.')
    for i, row in enumerate(rows):
        if columns is not None and len(row) != columns:
            raise ValueError(f'With one test set the accuracy matrix has one column; row {i} has {len(row)}.')
        if columns is None and len(row) != len(rows):
            raise ValueError(f'CLEAR metrics need a square accuracy matrix; got {len(rows)} rows, and row {i} has '
                             f'{len(row)} columns. Was an experience skipped? Fill what was not measured with None.')
    return [[_checked_entry(value, i, j) for j, value in enumerate(row)] for i, row in enumerate(rows)]


def _plain(value: object) -> object:
    """Arrays and tensors as lists."""
    return value.tolist() if hasattr(value, 'tolist') else value


def _checked_entry(value: float | None, i: int, j: int) -> float | None:
    if value is None or math.isnan(value):
        return None
    if not 0 <= value <= 1:
        raise ValueError(f'acc_matrix[{i}][{j}] is {float(value):g}; accuracies are fractions in [0, 1], '
                         'not percent.')
    return float(value)


def _mean_over(matrix: list[list[float | None]], chosen: Callable[[int, int, int], bool]) -> float | None:
    n = len(matrix)
    return _mean([matrix[i][j] for i in range(n) for j in range(n) if chosen(i, j, n)])


def _forgetting(matrix: list[list[float | None]]) -> float | None:
    last = len(matrix) - 1
    first_values = _mean([matrix[j][j] for j in range(last)])
    last_values = _mean([matrix[last][j] for j in range(last)])
    return None if first_values is None or last_values is None else first_values - last_values


def _mean(values: list[float | None]) -> float | None:
    """The mean; None if there is nothing to average or something is missing."""
    if not values or any(value is None for value in values):
        return None
    # fsum: the result does not depend on the order of the entries.
    return math.fsum(values) / len(values)
