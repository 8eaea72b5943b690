"""Finished jobs as tidy rows: one number a row, in the columns that analyses expect."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clear.core.files import atomic_writer
from clear.engine.probing.jobs import Job
from clear.engine.probing.tasks import task_name
from clear.evaluation.task import seed_extras

if TYPE_CHECKING:
    from clear.core.types import Plain

COLUMNS = ('encoder', 'method', 'pretrain_dataset', 'epochs', 'task', 'level', 'kind', 'config', 'seed', 'split',
           'metric', 'value', 'higher_is_better', 'n_train', 'n_test', 'encoder_hash')


Row: TypeAlias = dict[str, str | int | float | bool | None]


def tidy_rows(jobs: Iterable[Job], cfg: dict) -> list[Row]:
    """One row per job, metric and seed; a job without several seeds has `seed` empty. Unknown values are None.

    The metric that the task reports comes first.
    """
    tasks = {task_name(task): task for task in cfg['tasks']}
    rows = []
    for job in jobs:
        if job.state != 'done':
            continue
        extras, task = job.result['extras'], tasks[job.task]
        info = cfg['encoders'][job.encoder].get('info') or {}
        shared = dict(encoder=job.encoder, method=info.get('method'), pretrain_dataset=info.get('pretrain_dataset'),
                      epochs=info.get('epochs'), task=job.task, level=task.get('level', 'image'),
                      kind=task.get('kind', 'semantic'), config=job.hash, split='test',
                      n_train=extras.get('n_train'), n_test=extras.get('n_test'), encoder_hash=job.encoder_hash or None)
        directions = extras.get('higher_is_better') or {}
        for seed, metrics in (extras.get('per_seed') or {job.seed: metrics_of(job.result)}).items():
            for metric in sorted(metrics, key=lambda name: name != job.result['metric']):
                row = {**shared, 'seed': seed, 'metric': metric, 'value': metrics[metric],
                       'higher_is_better': directions.get(metric, job.result['higher_is_better'])}
                rows.append({column: row[column] for column in COLUMNS})
    return rows


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write the rows with a header, atomically; None is empty, floats are in full precision."""
    with atomic_writer(path, 'w') as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of a job, means over seeds."""
    return result['extras'].get('metrics') or {result['metric']: result['value']}


def cells(jobs: Iterable[Job]) -> dict[str, dict[str, Plain]]:
    """`'encoder--task'` -> what is known of it, as `results.json` has it: the jobs of its seeds as one.

    Its `result` is there when all its jobs are done: means over the seeds, with `std`, `interval` and `per_seed`; what
    else a task leaves in the extras is that of the first seed. `jobs` are the keys of the jobs, and so the names of
    their folders, where each seed is a job of its own.
    """
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.cell, []).append(job)
    return {cell: _cell(own) for cell, own in found.items()}


def flat_metrics(jobs: Iterable[Job]) -> dict[str, float]:
    """`{'encoder/task/metric': value}`, means over seeds, of all finished jobs."""
    metrics = {}
    for cell in cells(jobs).values():
        if cell['state'] == 'done':
            values = {cell['result']['metric']: cell['result']['value'], **metrics_of(cell['result'])}
            metrics.update({f"{cell['encoder']}/{cell['task']}/{name}": value for name, value in values.items()})
    return metrics


def _cell(jobs: list[Job]) -> dict[str, Plain]:
    first, states = jobs[0], {job.state for job in jobs}
    error = next((job.error for job in jobs if job.error), None)
    cell = dict(encoder=first.encoder, task=first.task,
                state=next(state for state in ('failed', 'running', 'pending', 'done') if state in states),
                hash=first.hash, banks=first.banks, **(dict(error=error) if error else {}))
    if first.seed is not None:
        cell['jobs'] = [job.key for job in jobs]
    if states == {'done'}:
        cell['result'] = first.result if first.seed is None else _joined(jobs)
    return cell


def _joined(jobs: list[Job]) -> dict[str, Plain]:
    per_seed = {job.seed: metrics_of(job.result) for job in jobs}
    shared = [name for name in metrics_of(jobs[0].result)
              if all(isinstance(metrics.get(name), (int, float)) for metrics in per_seed.values())]
    extras = seed_extras({seed: {name: metrics[name] for name in shared} for seed, metrics in per_seed.items()})
    result = jobs[0].result
    value = sum(job.result['value'] for job in jobs) / len(jobs)
    return {**result, 'value': extras['metrics'].get(result['metric'], value), 'extras': {**result['extras'], **extras}}
