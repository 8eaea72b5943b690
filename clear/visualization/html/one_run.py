"""The body of a page about one run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from clear.core.results import Results
from clear.visualization.comparison import is_number, signed
from clear.visualization.html.charts import Line, dots, line_panel, padded
from clear.visualization.html.facts import (
    counted,
    facts_of_run,
    headline_names,
    is_loss,
    kind_of,
    meaning_of,
)
from clear.visualization.html.matrices import Scale, matrix_of
from clear.visualization.page import breakable, facts_of, fold_of, head_of, number_of
from clear.visualization.tables import MISSING, OVERLAP_NOTE, format_value

if TYPE_CHECKING:
    from clear.core.types import Plain

MOST_PANELS = 48
_MANY_METRICS = 16
_MANY_CLASSES = 30
_NOT_LISTED = ('config_text', 'config', 'bucket_names', 'train_log', 'jobs', 'rows', 'matrices', 'undefined')
_NO_CURVES = ('epoch', 'iteration', 'experience')
_OVERLAP_TEXT = ('Under this protocol a bucket is tested on the images it was trained on, so these are no test '
                 'accuracies.')


def run_page(run: Results, images: Sequence[str], date: float | None = None) -> list[str]:
    """Everything about a run: a head, then panels that fold.

    Args:
        images: figures as HTML, shown after the charts.
        date: when the results were written, in seconds since 1970.
    """
    notes = [note for note in (unfinished_note(run),) if note]
    body = [head_of(kind_of(run), run.name, facts_of_run(run, date), headline_numbers(run), notes)]
    body += [*_matrices(run), *_over_time(run), *job_panels(run), *_class_panels(run), *_curves(run)]
    if images:
        body.append(fold_of('Figures', images))
    body.append(_metrics_fold(run))
    overlapped = _numbers(run.metrics.get('train_overlap') or {})
    if overlapped:
        body.append(fold_of(f'Not comparable: each of these {OVERLAP_NOTE}',
                            [f'<p class="warning">{_OVERLAP_TEXT}</p>', facts_of(_texts(overlapped))]))
    return body + details_of(run)


def details_of(run: Results) -> list[str]:
    """What made the numbers, folded: seeds, config, software, clock, and what else the run noted."""
    facts = {'runner': run.runner, 'protocol': run.protocol, 'seeds': run.seeds, 'config hash': run.config_hash,
             'data fingerprint': run.extras.get('data_fingerprint'), 'processes': run.world_size,
             'joint training': 'yes' if run.joint else None}
    others = {key: value for key, value in run.extras.items() if key not in (*_NOT_LISTED, 'data_fingerprint')}
    tables = {'Run': {key: value for key, value in facts.items() if value is not None},
              'Versions': {**run.versions, **{f'git {key}': value for key, value in (run.git or {}).items()}},
              'Timing': run.timing, 'Further': others}
    folds = [fold_of(title, [facts_of(_texts(table))], False) for title, table in tables.items() if table]
    text = run.extras.get('config_text')
    if text is None and isinstance(run.extras.get('config'), dict):
        text = '\n'.join(f'{key} = {value!r}' for key, value in run.extras['config'].items())
    if text:
        folds.insert(1, fold_of('Config', [f'<pre>{escape(str(text))}</pre>'], False))
    return folds


def headline_numbers(run: Results) -> list[str]:
    """The three numbers that matter, as HTML; of a probing run, the best encoder of three tasks."""
    tasks = _tasks(run)
    if tasks:
        return [number_of(f'{task} [{metric}]', rows[best][1].partition(' ')[0],
                          f'{"lowest" if lower else "highest"} of {counted(rows, "encoder")}: {best}')
                for task, (metric, lower, rows) in list(tasks.items())[:3]
                if (known := {name: row[0][0] for name, row in rows.items() if row[0]})
                and (best := (min if lower else max)(known, key=known.get))]
    metrics = {name: value for name, value in run.metrics.items() if is_number(value)}
    return [number_of(name, format_value(float(metrics[name])), meaning_of(name))
            for name in headline_names(list(metrics))]


def unfinished_note(run: Results) -> str:
    """How far a run got, if it is not finished."""
    if run.progress is None or run.progress[0] == run.progress[1]:
        return ''
    return f'Unfinished: {run.progress[0]} of {run.progress[1]} buckets measured.'


def curve_series(run: Results) -> dict[str, list[float | None]]:
    """Name -> values of everything that the log of the training has over epochs or experiences."""
    log = [entry for entry in run.extras.get('train_log') or () if isinstance(entry, dict)]
    names = dict.fromkeys(key for entry in log for key, value in entry.items()
                          if key not in _NO_CURVES and is_number(value))
    constant = {name for name in names if name == 'iterations' and len({entry.get(name) for entry in log}) == 1}
    order = sorted((name for name in names if name not in constant), key=lambda name: (not is_loss(name), name == 'lr'))
    return {name: [entry.get(name) if is_number(entry.get(name)) else None for entry in log] for name in order}


def curve_ticks(run: Results) -> list[str]:
    """What counts the entries of the log: epochs, or the buckets of a stream."""
    log = run.extras.get('train_log') or ()
    if run.acc_matrix is not None and len(run.bucket_names) == len(log):
        return [str(name) for name in run.bucket_names]
    return [str(entry.get('epoch', k + 1)) if isinstance(entry, dict) else str(k + 1) for k, entry in enumerate(log)]


def row_names(run: Results) -> list[str]:
    """Names of the rows of the matrix."""
    names = run.bucket_names
    if len(run.acc_matrix) == len(names):
        return names
    return ['all'] if len(run.acc_matrix) == 1 else [str(k + 1) for k in range(len(run.acc_matrix))]


def rows_table(title: str, rows: Mapping[str, tuple[Sequence[float], str]], extra: Mapping[str, str] | None = None,
               has_zero: bool = False) -> str:
    """A panel with a row for each name: where its values lie, the value as text, and perhaps a difference.

    Args:
        rows: name -> (values, none if it was not measured; the text).
        extra: name -> a text in a last column.
        has_zero: whether the axis reaches to zero.
    """
    low, high = padded([*([0.0] if has_zero else []), *(value for values, _ in rows.values() for value in values)])
    lines = []
    for name, (values, text) in rows.items():
        number, _, spread = text.partition(' ')
        beside = f'<small>{escape(spread)}</small>' if spread else ''
        last = '' if extra is None else f'<td class="number">{escape(extra.get(name, ""))}</td>'
        lines.append(f'<tr><th scope="row" title="{escape(name)}"><span>{breakable(name)}</span></th>'
                     f'<td>{dots(values, low, high) if values else ""}</td><td class="number">{escape(number)}{beside}'
                     f'</td>{last}</tr>')
    return f'<table class="rows"><caption>{breakable(title)}</caption>\n' + '\n'.join(lines) + '\n</table>'


def _matrices(run: Results) -> list[str]:
    """The accuracy matrix, or those of every task on one scale."""
    several = {name: matrix for name, matrix in (run.extras.get('matrices') or {}).items() if matrix}
    if several:
        checkpoints = run.extras.get('checkpoints') or ()
        rows = [str(each.get('name')) for each in checkpoints]
        buckets = [str(name) for name in run.extras.get('bucket_names') or ()]
        own = {name: column for column, name in enumerate(buckets)}
        owns = [own.get(str(each.get('through'))) for each in checkpoints]
        fractions = [matrix for matrix in several.values() if _are_fractions(matrix)]
        common = Scale.of(fractions)
        parts = [common.legend(['own', 'missing'])] if fractions else []
        tables = []
        for name, matrix in several.items():
            scale = common if matrix in fractions else Scale.of([matrix])
            table = matrix_of(matrix, _fitting(rows, len(matrix)), _fitting(buckets, len(matrix[0])), scale, title=name,
                              owns=owns if len(owns) == len(matrix) else None)
            tables.append(f'<div>{table}{"" if scale is common else scale.legend()}</div>')
        return [fold_of('Matrices', [*parts, f'<div class="grid wide">{"".join(tables)}</div>'],
                        note='rows: encoders; columns: tested on bucket')]
    if run.acc_matrix is None:
        return []
    scale, mask = Scale.of([run.acc_matrix]), run.overlap_mask
    cells = [value for row in run.acc_matrix for value in row]
    marks = [mark for mark, there in (('own', len(run.acc_matrix) == len(run.bucket_names) > 1),
                                      ('missing', None in cells),
                                      ('overlap', any(map(any, mask or [])))) if there]
    return [fold_of('Accuracy matrix', [scale.legend(marks), matrix_of(run.acc_matrix, row_names(run),
                                                                       run.bucket_names, scale, overlap=mask)])]


def _fitting(names: Sequence[str], count: int) -> Sequence[str]:
    """The names, or numbers where there are not so many."""
    return names if len(names) == count else [str(k + 1) for k in range(count)]


def _over_time(run: Results) -> list[str]:
    """A panel for each test bucket as training goes on, and what was forgotten of it."""
    matrix = run.acc_matrix
    if matrix is None or run.extras.get('matrices') or len(matrix) != len(matrix[0]) or \
            sum(None not in row for row in matrix) < 2:
        return []
    names, size = run.bucket_names, len(matrix)
    known = [[value for value in row if value is not None] for row in matrix]
    envelope = [(min(row), max(row)) if row else None for row in known]
    limits = padded(value for row in known for value in row)
    step = -(-size // MOST_PANELS)
    panels = [line_panel(f'tested on {names[j]}', [Line('accuracy', [row[j] for row in matrix])], names, limits=limits,
                         envelope=envelope, mark=j, note='accuracy after training through each bucket')
              for j in range(0, size, step)]
    about = ('Each panel follows one test bucket while training goes on. Dotted: when that bucket was trained. Grey: '
             'from the lowest to the highest of all buckets.')
    about += f' Every {step}th bucket is shown.' if step > 1 else ''
    folds = [fold_of('Accuracy over time', [f'<p class="soft">{about}</p>',
                                            f'<div class="grid">{"".join(panels)}</div>'])]
    last = max(i for i, row in enumerate(matrix) if None not in row)
    lost = {names[j]: matrix[j][j] - matrix[last][j] for j in range(last) if matrix[j][j] is not None}
    if lost:
        note = f'accuracy when the bucket was trained, minus accuracy after bucket {names[last]}'
        note += f'; {OVERLAP_NOTE}' if any(map(any, run.overlap_mask or [])) else ''
        table = rows_table('bucket', {name: ([value], signed(value)) for name, value in lost.items()}, has_zero=True)
        folds.append(fold_of('Forgetting', [f'<div class="blocks"><div>{table}</div></div>'], note=note))
    return folds


def job_panels(run: Results) -> list[str]:
    """Of a probing run: a panel for each task with a row for each encoder."""
    tasks = _tasks(run)
    panels = [rows_table(f'{task} [{metric}{", lower is better" if lower else ""}]', rows)
              for task, (metric, lower, rows) in tasks.items()]
    return [fold_of('Tasks', [f'<div class="grid wide">{"".join(panels)}</div>'],
                    note=f"{counted(tasks, 'task')}, a row for each encoder; each task has a scale of its own")] \
        if panels else []


def _tasks(run: Results) -> dict[str, tuple[str, bool, dict[str, tuple[list[float], str]]]]:
    """Of a probing run: task -> its metric, whether less of it is better, and encoder -> (value, text)."""
    jobs, found = run.extras.get('jobs'), {}
    for job in jobs.values() if isinstance(jobs, dict) else ():
        result = job.get('result') or {}
        metric, lower, rows = found.get(str(job['task']), (MISSING, False, {}))
        if 'metric' in result:
            metric, lower = str(result['metric']), result.get('higher_is_better') is False
        value, spread = result.get('value'), ((result.get('extras') or {}).get('std') or {}).get(metric)
        text = 'failed' if job.get('state') == 'failed' else MISSING
        if is_number(value):
            text = format_value(float(value)) + (f' ± {spread:.3f}' if spread else '')
        rows[str(job['encoder'])] = ([float(value)] if is_number(value) else [], text)
        found[str(job['task'])] = (metric, lower, rows)
    return found


def _class_panels(run: Results) -> list[str]:
    """What the last validation measured for each class by itself, as a recall or an average precision."""
    names = [str(name) for name in run.extras.get('class_names') or ()]
    last = next(iter(reversed(run.extras.get('train_log') or ())), {})
    measured = {key: values for key, values in last.items() if isinstance(values, list) and len(values) == len(names)
                and all(map(is_number, values))}
    twice = {name for name in names if names.count(name) > 1}
    labels = [f'{name} ({place})' if name in twice else name for place, name in enumerate(names)]
    panels = [rows_table(key, {label: ([float(value)], format_value(float(value)))
                               for label, value in zip(labels, values)}) for key, values in measured.items()]
    return [fold_of('Classes', [f'<div class="grid wide">{"".join(panels)}</div>'], len(names) <= _MANY_CLASSES,
                    note=f'{len(names)} classes, after the last epoch')] if panels else []


def _curves(run: Results) -> list[str]:
    ticks = curve_ticks(run)
    panels = [line_panel(name, [Line(name, values)], ticks, note='over the training')
              for name, values in list(curve_series(run).items())[:MOST_PANELS] if len(values) > 1]
    of = 'experience' if run.acc_matrix is not None else 'epoch'
    return [fold_of('Training', [f'<div class="grid">{"".join(panels)}</div>'], note=f'over each {of}')] if panels \
        else []


def _metrics_fold(run: Results) -> str:
    metrics = _numbers(run.metrics)
    inside = facts_of(_texts(metrics)) if metrics else '<p>None is complete yet.</p>'
    is_open = len(metrics) <= _MANY_METRICS and not run.extras.get('jobs')
    return fold_of('Metrics', [inside], is_open, note=str(len(metrics)) if metrics else '')


def _numbers(metrics: Mapping[str, Plain]) -> dict[str, Plain]:
    """What has a value, without what measures training data."""
    return {key: value for key, value in metrics.items() if value is not None and key != 'train_overlap'}


def _texts(facts: Mapping[str, object]) -> dict[str, str]:
    return {str(key): _text(value) for key, value in facts.items()}


def _text(value: object) -> str:
    """A value as readable text: nested dicts on one line, floats with three decimals."""
    if isinstance(value, dict):
        return ', '.join(f'{key}: {_text(item)}' for key, item in value.items()) or MISSING
    if isinstance(value, list):
        return ', '.join(map(_text, value)) or MISSING
    return json.dumps(value) if isinstance(value, bool) else format_value(value)


def _are_fractions(matrix: Sequence[Sequence[float | None]]) -> bool:
    return all(value is None or 0 <= value <= 1 for row in matrix for value in row)
