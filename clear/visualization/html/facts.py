"""What a page says of a run at its head: method, data, and the three numbers that matter for its runner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from clear.core.results import Results, stored_config

KINDS = dict(ContinualRunner='Continual learning', ProbeRunner='Frozen encoders on tasks', Runner='Training',
             StreamRunner='Training through buckets', RepresentationOverTime='Representation over time',
             StageRunner='Curation')
# What each metric asks, in a few words.
MEANINGS = dict(
    in_domain='is the new bucket learned?', next_domain='does it hold one step ahead?',
    accuracy='all buckets seen so far', backward_transfer='the past', forward_transfer='the whole future',
    final_domain='the last bucket, before it is seen', forgetting='lost by the end; positive is forgetting',
    challenge_score='score of the CVPR 2022 challenge', final_accuracy='all test sets, at the end',
    average_incremental_accuracy='what was seen so far, over all steps', learning_accuracy='each step, when it was new',
    mean_accuracy='over all steps', loss='mean over the last epoch')
# Of the first of these whose metrics a run has: the numbers of its head.
_HEADLINES = (('in_domain', 'next_domain', 'backward_transfer'), ('next_domain', 'forward_transfer', 'final_domain'),
              ('final_accuracy', 'average_incremental_accuracy', 'forgetting'), ('final_accuracy', 'mean_accuracy'))
# How names begin of what is measured on data held out, in the log of an epoch.
_JUDGING = ('val_', 'knn', 'probe', 'linear', 'zero_shot', 'retrieval')
_LOWER = ('loss', 'forgetting', 'error', 'rmse', 'mae', 'mse', 'perplexity', 'log_loss')
_HEADLINE_COUNT = 3


def headline_names(names: Sequence[str]) -> list[str]:
    """The metrics that matter most, three at most, of those that have a number.

    Those of a stream where there are any, also of the first task where a run measured several matrices; else the first
    metric of each encoder and task, what judges a network before what its training counts.
    """
    prefixes = dict.fromkeys(['', *(name.rpartition('/')[0] + '/' for name in names if '/' in name)])
    for prefix in prefixes:
        for wanted in _HEADLINES:
            found = [prefix + name for name in wanted if prefix + name in names]
            if len(found) == len(wanted):
                return found
    tasks: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (not name.startswith(_JUDGING), not is_loss(name))):
        tasks.setdefault(name.rpartition('/')[0] or name, name)
    return list(dict.fromkeys([*tasks.values(), *names]))[:_HEADLINE_COUNT]


def is_lower_better(name: str) -> bool:
    """Whether less of a metric is better, as far as its name tells: losses, errors and forgetting."""
    last = name.rpartition('/')[2].removeprefix('val_')
    return last in _LOWER or is_loss(name)


def is_loss(name: str) -> bool:
    return name.rpartition('/')[2].removeprefix('val_').startswith('loss')


def meaning_of(name: str) -> str:
    """What a metric asks; empty where its name says it."""
    return MEANINGS.get(name.rpartition('/')[2], '')


def kind_of(run: Results) -> str:
    return KINDS.get(run.runner, run.runner)


def facts_of_run(run: Results, date: float | None = None) -> dict[str, str]:
    """Name -> text: method, data, protocol, seed, date and what else was run.

    Args:
        date: when the results were written, in seconds since 1970.
    """
    config = stored_config(run)
    seeds = ', '.join(f'{name} {seed}' for name, seed in run.seeds.items() if seed is not None)
    facts = dict(Method=method_of(run, config), Data=_data_of(run, config), Protocol=run.protocol, Seed=seeds,
                 Written='' if date is None else f'{datetime.fromtimestamp(date, UTC):%Y-%m-%d %H:%M} UTC',
                 Processes=str(run.world_size) if run.world_size != 1 else '')
    return {name: text for name, text in facts.items() if text}


def method_of(run: Results, config: Mapping[str, object]) -> str:
    """Strategy or algorithm, and the network under it."""
    model = config.get('model')
    network = _type_of(_at(model, 'backbone')) or _type_of(_at(model, 'encoder'))
    depth = _at(_at(model, 'backbone'), 'depth')
    method = str(run.extras.get('strategy') or run.extras.get('model') or '')
    texts = [method + (', joint training' if run.joint else ''), f'{network}-{depth}' if depth and network else network]
    return ' · '.join(text for text in texts if text)


def _data_of(run: Results, config: Mapping[str, object]) -> str:
    jobs = run.extras.get('jobs')
    if isinstance(jobs, dict) and jobs:
        cells = [job for job in jobs.values() if isinstance(job, dict)]
        return (f"{counted({str(job.get('encoder')) for job in cells}, 'encoder')} on "
                f"{counted({str(job.get('task')) for job in cells}, 'task')}")
    source = config.get('scenario') or _at(config.get('train_dataloader'), 'dataset') or config.get('data')
    names = [text for key in ('data_name', 'data_root', 'root') if isinstance(text := _at(source, key), str) and text]
    texts = [' '.join([*filter(None, [_type_of(source)]), *names[:1]])]
    if run.acc_matrix is not None:
        texts.append(counted(run.bucket_names, 'bucket'))
    classes = run.extras.get('class_names')
    if isinstance(classes, list) and classes:
        texts.append(f'{len(classes)} classes')
    return ' · '.join(text for text in texts if text)


def counted(items: Iterable[object], noun: str) -> str:
    """`3 buckets`, `1 bucket`."""
    count = len(list(items))
    return f'{count} {noun}' + ('' if count == 1 else 's')


def _type_of(value: object) -> str:
    found = _at(value, 'type')
    return found if isinstance(found, str) else ''


def _at(value: object, key: str) -> object:
    return value.get(key) if isinstance(value, dict) else None
