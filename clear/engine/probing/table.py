"""Finished jobs as tidy rows: one number a row, in the columns that analyses expect."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from clear.core.files import atomic_writer
from clear.engine.probing.jobs import Job
from clear.engine.probing.tasks import task_name

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
        single = extras.get('metrics') or {job.result['metric']: job.result['value']}
        for seed, metrics in (extras.get('per_seed') or {None: single}).items():
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


def flat_metrics(jobs: Iterable[Job]) -> dict[str, float]:
    """`{'encoder/task/metric': value}`, means over seeds, of all finished jobs."""
    metrics = {}
    for job in jobs:
        if job.state == 'done':
            values = {job.result['metric']: job.result['value'], **(job.result['extras'].get('metrics') or {})}
            metrics.update({f'{job.encoder}/{job.task}/{name}': value for name, value in values.items()})
    return metrics
