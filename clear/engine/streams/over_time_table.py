"""What is said about matrices of a representation: CLEAR metrics and why one is undefined, a table, text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clear.continual.metrics import CLEAR_METRICS, clear_metrics
from clear.core.errors import DataError
from clear.core.files import write_csv
from clear.core.results import Results
from clear.evaluation.over_time import by_bucket

COLUMNS = ('task', 'protocol', 'checkpoint', 'through', 'tested_on', 'top1')


def matrix_metrics(matrix: Sequence[Sequence[float | None]], owns: Sequence[int | None], buckets: Sequence[str]
                   ) -> tuple[dict[str, float | None], dict[str, str]]:
    """The CLEAR metrics of a representation, and why those that are None are not defined.

    Row i of CLEAR's matrix is the checkpoint trained through bucket i. A metric is defined where every entry that it
    averages is there, e.g. `forward_transfer` without the checkpoint of the last bucket.
    """
    names = list(buckets)
    try:
        found = clear_metrics(by_bucket(matrix, owns, len(names)))
    except DataError as error:
        return dict.fromkeys(CLEAR_METRICS), dict.fromkeys(CLEAR_METRICS, str(error))
    values = {name: found[name] for name in CLEAR_METRICS}
    absent = [name for place, name in enumerate(names) if place not in owns]
    if absent:
        reason = f'no checkpoint was trained through bucket {", ".join(absent)}'
    elif len(names) == 1:
        reason = 'it needs two buckets'
    else:
        reason = 'not all of its entries are measured'
    return values, {name: reason for name, value in values.items() if value is None}


def write_table(path: Path, results: Results) -> None:
    """One row per number, atomically, floats in full precision."""
    extras = results.extras
    write_csv(path, [COLUMNS, *([*name.rsplit('/', 1), checkpoint['name'], checkpoint['through'], bucket, value]
                                for name, matrix in extras['matrices'].items()
                                for checkpoint, values in zip(extras['checkpoints'], matrix)
                                for bucket, value in zip(extras['bucket_names'], values) if value is not None)])


def format_results(results: Results) -> str:
    """Every matrix with its metrics, for the console; undefined metrics with the reason."""
    extras, lines = results.extras, []
    width = max(len(each['name']) for each in extras['checkpoints'])
    for name, matrix in extras['matrices'].items():
        lines.append(f'\n{name}: rows = encoders, columns = tested on bucket')
        lines.append(' '.join([' ' * width, *(f'{bucket[:7]:>7}' for bucket in extras['bucket_names'])]))
        lines += [' '.join([f'{row["name"]:<{width}}', *(f'{"-" if value is None else format(value, ".3f"):>7}'
                                                         for value in values)])
                  for row, values in zip(extras['checkpoints'], matrix)]
        lines += [f'{metric.removeprefix(f"{name}/")} {value:.3f}' for metric, value in results.metrics.items()
                  if metric.startswith(f'{name}/') and value is not None]
        reasons: dict[str, list[str]] = {}
        for metric, reason in extras['undefined'][name].items():
            reasons.setdefault(reason, []).append(metric)
        lines += [f'not defined: {", ".join(metrics)} ({reason})' for reason, metrics in reasons.items()]
    return '\n'.join(lines)
