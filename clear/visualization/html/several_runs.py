"""The body of a page about several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from clear.core.results import Results, stored_config
from clear.visualization.comparison import (
    RunGroup,
    data_note,
    difference_to,
    flat,
    group_value,
    mean_and_std,
    metric_names,
    next_domain_curve,
    repeats_note,
)
from clear.visualization.html.charts import Line, key_of, line_panel, padded
from clear.visualization.html.facts import counted, headline_names, is_lower_better, kind_of
from clear.visualization.html.matrices import Scale, difference, matrix_of, mean_matrix
from clear.visualization.html.one_run import MOST_PANELS, curve_series, curve_ticks, details_of, row_names, rows_table
from clear.visualization.page import breakable, facts_of, fold_of, head_of, number_of
from clear.visualization.tables import MISSING, OVERLAP_NOTE, format_value, shorten

_MOST_NAMED, _NAME = 6, 48  # runs in the head, and characters of their names
_MOST_COLUMNS = 6  # metrics of the first table
_MOST_OPEN = 12  # panels of metrics that stand open
_MOST_TOGETHER = 6  # lines of one panel; more runs get a panel each
_MOST_DIFFERENCES = 24  # keys of two configs that are listed


def comparison_page(title: str, groups: Mapping[str, Sequence[RunGroup]], runs: Sequence[Results],
                    sources: Sequence[str] | None, images: Sequence[str] = ()) -> list[str]:
    """A head, a part for each protocol, and the runs. Numbers of different protocols never share a table.

    Args:
        groups: as `group_runs` gives them.
        runs: all of them, in order; sources: where each comes from.
        images: further figures as HTML.
    """
    kinds = ' and '.join(dict.fromkeys(kind_of(run) for run in runs))
    notes = ['These runs follow different protocols. Their numbers are not comparable and stand in separate tables.'] \
        if len(groups) > 1 else []
    notes += filter(None, (note(members) for members in groups.values() for note in (data_note, repeats_note)))
    first = next(iter(groups.values()))
    labels = list(dict.fromkeys(group.label for members in groups.values() for group in members))
    shown = [shorten(label, _NAME) for label in labels[:_MOST_NAMED]]
    facts = {'Protocol' if len(groups) == 1 else 'Protocols': ', '.join(groups),
             'Runs': ', '.join(shown) + (f' and {len(labels) - _MOST_NAMED} more' if len(labels) > _MOST_NAMED else ''),
             'Differences': f'to the first: {shorten(first[0].label, _NAME)}' if len(first) > 1 else ''}
    numbers = _headline_numbers(first) if len(groups) == 1 else []
    body = [head_of(f'Comparison · {kinds}', title, {name: text for name, text in facts.items() if text}, numbers,
                    notes)]
    for protocol, members in groups.items():
        if len(groups) > 1:
            body.append(f'<h2>Protocol {breakable(protocol)}</h2>')
        body += _protocol_part(members)
    if images:
        body.append(fold_of('Figures', images))
    body.append('<h2>Runs</h2>')
    configs = [flat(stored_config(run)) for run in runs]
    for k, run in enumerate(runs):
        changed = {} if k == 0 else _changes(configs[0], configs[k])
        inside = [facts_of({'source': sources[k]}) if sources else '']
        if changed:
            inside += ['<h3>Config, where it differs from the first run</h3>', facts_of(changed)]
        inside += details_of(run)
        seeds = ', '.join(f'{name} {seed}' for name, seed in run.seeds.items() if seed is not None)
        body.append(f'<section class="run">{fold_of(run.name, inside, False, note=seeds and f"seed: {seeds}", level=3)}'
                    '</section>')
    return body


def _headline_numbers(groups: Sequence[RunGroup]) -> list[str]:
    """Of the metrics that matter, the most extreme of the runs on the side that is better."""
    items = []
    for name in headline_names(metric_names(groups)):
        means = {k: mean_and_std(group.values(name)) for k, group in enumerate(groups) if group.values(name)}
        lower = is_lower_better(name)
        k = (min if lower else max)(means, key=lambda k: means[k][0])
        gain = difference_to(groups[0], groups[k], name)
        # Isolated: a name in a script from right to left must not turn the number behind it.
        note = f'{"lowest" if lower else "highest"}: \u2068{shorten(groups[k].label, _NAME)}\u2069'
        note += f', {gain} to the first' if k and gain else ''
        mean, std = means[k]
        items.append(number_of(name, format_value(mean), note, '' if std is None else f'± {std:.3f}'))
    return items


def _protocol_part(groups: Sequence[RunGroup]) -> list[str]:
    names = metric_names(groups)
    order = [*headline_names(names), *(name for name in names if name not in headline_names(names))]
    has_repeats = any(len(group.runs) > 1 for group in groups)
    note = 'repeats with different seeds: mean ± sample standard deviation (number of runs)' if has_repeats else ''
    parts = [fold_of('Overview', [_overview(groups, names if len(names) <= _MOST_COLUMNS else order[:_MOST_COLUMNS])],
                     note=note)]
    overlapped = metric_names(groups, overlapped=True)
    if overlapped:
        parts.append(fold_of(f'Not comparable with held-out accuracy: each of these {OVERLAP_NOTE}',
                             [_metric_panels(groups, overlapped, True)], False))
    parts += _matrices(groups)
    parts += _next_domain(groups)
    parts += _curves(groups)
    if order:
        shown, others = order[:_MOST_OPEN], order[_MOST_OPEN:]
        parts.append(fold_of('Metrics', [_metric_panels(groups, shown, False)],
                             note='dot: mean; bar: ± sample standard deviation; last column: to the first run'))
        if others:
            parts.append(fold_of('Further metrics', [_metric_panels(groups, others, False)], False, str(len(others))))
    return parts


def _overview(groups: Sequence[RunGroup], names: Sequence[str]) -> str:
    """Runs x metrics."""
    has_buckets = any(group.progress for group in groups)
    head = ['run', *(['buckets'] if has_buckets else []), *names]
    lines = ['<tr>' + ''.join(f'<th scope="col"{_number_class(k)}>{breakable(name)}</th>'
                              for k, name in enumerate(head)) + '</tr>']
    for group in groups:
        texts = [*([group.progress or MISSING] if has_buckets else []),
                 *(group_value(group, name) for name in names)]
        cells = ''.join(f'<td class="number" data-name="{escape(name)}">{_value(text)}</td>'
                        for name, text in zip(head[1:], texts))
        lines.append(f'<tr><th scope="row">{breakable(group.label)}</th>{cells}</tr>')
    return '<table class="overview">\n' + '\n'.join(lines) + '\n</table>'


def _number_class(column: int) -> str:
    return ' class="number"' if column else ''


def _value(text: str) -> str:
    """`0.912`, and what follows it smaller."""
    number, _, spread = text.partition(' ± ')
    return f'<span>{escape(number)}' + (f'<small> ± {escape(spread)}</small>' if spread else '') + '</span>'


def _metric_panels(groups: Sequence[RunGroup], names: Sequence[str], overlapped: bool) -> str:
    panels = []
    for name in names:
        rows = {_key(groups, k): (group.values(name, overlapped), group_value(group, name, overlapped))
                for k, group in enumerate(groups)}
        gains = {_key(groups, k): difference_to(groups[0], group, name, overlapped)
                 for k, group in enumerate(groups) if k}
        panels.append(rows_table(name, rows, gains if gains else None))
    return f'<div class="grid wide">{"".join(panels)}</div>'


def _key(groups: Sequence[RunGroup], k: int) -> str:
    """The label of a group; with its place where another has the same."""
    labels = [group.marked_label for group in groups]
    return labels[k] if labels.count(labels[k]) == 1 else f'{labels[k]} [{k + 1}]'


def _matrices(groups: Sequence[RunGroup]) -> list[str]:
    """Small multiples on one scale, then what each has more than the first."""
    found = [(_key(groups, k), group.runs[0], mean_matrix([run.acc_matrix for run in group.runs]))
             for k, group in enumerate(groups) if group.runs[0].acc_matrix is not None]
    if not found:
        return []
    means = any(len(group.runs) > 1 for group in groups)
    scale = Scale.of(matrix for _, _, matrix in found)
    parts = [fold_of('Accuracy matrices', [scale.legend(['own', 'missing'] if _has_gaps(found) else ['own']),
                                           _multiples(found, scale)],
                     note='rows: trained through bucket; columns: tested on bucket'
                          + ('; means over runs' if means else ''))]
    base = found[0]
    changed = [(name, run, change) for name, run, matrix in found[1:]
               if run.bucket_names == base[1].bucket_names and (change := difference(matrix, base[2])) is not None]
    if changed:
        scale = Scale.of_differences(matrix for _, _, matrix in changed)
        parts.append(fold_of(f'Difference to {base[0]}', [scale.legend(), _multiples(changed, scale)], False))
    return parts


def _multiples(found: Sequence[tuple[str, Results, list]], scale: Scale) -> str:
    tables = (matrix_of(matrix, row_names(run), run.bucket_names, scale, title=name,
                        overlap=run.overlap_mask if scale.kind == 'h' else None, has_numbers=False)
              for name, run, matrix in found)
    return f'<div class="grid wide">{"".join(tables)}</div>'


def _has_gaps(found: Sequence[tuple[str, Results, list]]) -> bool:
    return any(value is None for _, _, matrix in found for row in matrix for value in row)


def _next_domain(groups: Sequence[RunGroup]) -> list[str]:
    """Accuracy on each next bucket; streams with other buckets have other axes."""
    by_buckets: dict[tuple, dict[str, list]] = {}
    for k, group in enumerate(groups):
        curve = next_domain_curve(group)
        if sum(point is not None for point in curve) > 1:
            by_buckets.setdefault(tuple(group.runs[0].bucket_names), {})[_key(groups, k)] = curve
    parts = []
    for names, curves in by_buckets.items():
        means = {name: [None if point is None else point[0] for point in curve] for name, curve in curves.items()}
        spreads = {name: [None if point is None else point[1] for point in curve] for name, curve in curves.items()}
        parts.append(_lines('next domain', means, [str(name) for name in names[1:]], spreads,
                            'accuracy on each bucket, trained through the one before'))
    return [fold_of('Next domain', parts, note='tested on each bucket, trained through the one before; band: ± sample '
                    'standard deviation')] if parts else []


def _curves(groups: Sequence[RunGroup]) -> list[str]:
    """Of each name in the logs of the training, the curve of the first run of every group."""
    logs = {_key(groups, k): curve_series(group.runs[0]) for k, group in enumerate(groups)}
    names = dict.fromkeys(name for log in logs.values() for name in log)
    ticks = max((curve_ticks(group.runs[0]) for group in groups), key=len, default=[])
    if len(ticks) < 2:
        return []
    parts = [_lines(name, {label: log[name] for label, log in logs.items() if name in log}, ticks, {},
                    f'{name} over the training', list(logs)) for name in list(names)[:MOST_PANELS]]
    return [fold_of('Training', [key_of(list(logs)) if len(logs) <= _MOST_TOGETHER else '',
                                 f'<div class="grid">{"".join(parts)}</div>'
                                 if len(logs) <= _MOST_TOGETHER else ''.join(parts)],
                    False, 'the first run of each')] if parts else []


def _lines(title: str, curves: Mapping[str, list], ticks: Sequence[str], spreads: Mapping[str, list], note: str,
           order: Sequence[str] | None = None) -> str:
    """Few runs in one panel, with a key; many in a panel each, before the range of all."""
    limits = padded(value for curve in curves.values() for value in curve if value is not None)
    if len(order or curves) <= _MOST_TOGETHER:
        styles = list(order or curves)
        lines = [Line(name, curve, styles.index(name), spreads.get(name)) for name, curve in curves.items()]
        panel = line_panel(title, lines, ticks, limits=limits, note=note)
        return panel if order else f'{key_of(list(curves))}<div class="single">{panel}</div>'
    envelope = []
    for place in range(max(map(len, curves.values()))):
        there = [curve[place] for curve in curves.values() if place < len(curve) and curve[place] is not None]
        envelope.append((min(there), max(there)) if there else None)
    panels = [line_panel(name, [Line(name, curve, spread=spreads.get(name))], ticks, limits=limits, envelope=envelope,
                         note=f'{title}: {note}; grey: from the lowest to the highest of all runs')
              for name, curve in curves.items()]
    heading = f'<h3>{breakable(title)}</h3>' if order else ''
    return f'{heading}<div class="grid">{"".join(panels)}</div>'


def _changes(first: Mapping[str, object], other: Mapping[str, object]) -> dict[str, str]:
    """Key -> `there → here`, where two configs differ."""
    keys = [key for key in {**first, **other} if first.get(key, MISSING) != other.get(key, MISSING)
            and key != 'work_dir']
    changes = {key: f'{first.get(key, MISSING)} → {other.get(key, MISSING)}' for key in keys[:_MOST_DIFFERENCES]}
    if len(keys) > _MOST_DIFFERENCES:
        changes['…'] = counted(keys[_MOST_DIFFERENCES:], 'more key')
    return changes
