"""Runs side by side: which belong together, their mean and spread, and figures of them."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clear.core.config import EXECUTION_KEYS, config_hash
from clear.core.errors import DataError
from clear.core.results import Results, stored_config

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision; yellow is left out, it vanishes on white.
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000')
_MOST_PANELS = 24  # of a figure; tables have every metric
_MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


@dataclass
class RunGroup:
    """Repeats of one run that differ in their seeds, or a single run."""

    label: str
    runs: list[Results]

    @property
    def protocol(self) -> str:
        return self.runs[0].protocol

    @property
    def progress(self) -> str:
        """How many buckets were measured, `10 of 10`; unfinished runs are marked."""
        known = [run.progress for run in self.runs if run.progress is not None]
        texts = dict.fromkeys(f'{done} of {total}' for done, total in known)
        unfinished = sum(done < total for done, total in known)
        return ', '.join(texts) + (' (unfinished)' if unfinished else '')

    @property
    def marked_label(self) -> str:
        """The label, with the progress if a run is unfinished."""
        return f'{self.label}, {self.progress}' if 'unfinished' in self.progress else self.label

    def values(self, metric: str, overlapped: bool = False) -> list[float]:
        """The metric of every run that has it; `overlapped` reads those that measure training data."""
        tables = [(run.metrics.get('train_overlap') or {}) if overlapped else run.metrics for run in self.runs]
        return [float(table[metric]) for table in tables if is_number(table.get(metric))]


def group_runs(results: Sequence[Results], by: str = 'name', sources: Sequence[str] | None = None,
               repeats: Sequence[str | None] | None = None) -> dict[str, list[RunGroup]]:
    """Protocol -> groups, both in order of appearance. Numbers of different protocols never share a table.

    Args:
        by: `'name'` joins runs of one name and protocol with different seeds; `'none'` keeps every run apart.
        sources: where each result comes from (a path), for messages and to tell equal names apart.
        repeats: the folder of repeats that each was found in, None for none: those of one folder belong together, and
            with no others.

    Raises:
        ValueError: if `by` is neither.
        DataError: if runs of one name cannot be repeats: same seeds, or matrices of different size.
    """
    if by not in ('name', 'none'):
        raise ValueError(f"by is {by!r}; runs are grouped by 'name' or 'none'.")
    sources = list(sources) if sources is not None else [f'run {k + 1}' for k in range(len(results))]
    repeats = list(repeats) if repeats is not None else [None] * len(results)
    together: dict[tuple, list[int]] = {}
    for k, run in enumerate(results):
        together.setdefault((run.protocol, run.name, k if by == 'none' else repeats[k]), []).append(k)
    names = [(protocol, name) for protocol, name, _ in together]
    groups: dict[str, list[RunGroup]] = {}
    for (protocol, name, _), members in together.items():
        _check_repeats(name, [results[k] for k in members], [sources[k] for k in members])
        source = repeats[members[0]] if by == 'name' and repeats[members[0]] else sources[members[0]]
        label = name if names.count((protocol, name)) == 1 else f'{name} ({source})'
        groups.setdefault(protocol, []).append(RunGroup(label, [results[k] for k in members]))
    return groups


def metric_names(groups: Sequence[RunGroup], overlapped: bool = False) -> list[str]:
    """Metrics that at least one run has a number for, in the order in which the runs store them."""
    names: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            names.update(dict.fromkeys((run.metrics.get('train_overlap') or {}) if overlapped else run.metrics))
    return [name for name in names if any(group.values(name, overlapped) for group in groups)]


def group_value(group: RunGroup, metric: str, overlapped: bool = False) -> str:
    """`0.912` of one run, `0.912 ± 0.004 (3)` of three: mean, sample standard deviation, number of runs."""
    values = group.values(metric, overlapped)
    if not values:
        return '-'
    mean, std = mean_and_std(values)
    spread = '' if std is None else f' ± {number_text(std)}'
    return f'{number_text(mean)}{spread}' + (f' ({len(values)})' if len(group.runs) > 1 else '')


def difference_to(base: RunGroup, group: RunGroup, metric: str, overlapped: bool = False) -> str:
    """`+0.031`: the mean less that of another group; empty where one of them has none."""
    one, other = base.values(metric, overlapped), group.values(metric, overlapped)
    if not one or not other:
        return ''
    change = statistics.fmean(other) - statistics.fmean(one)
    return signed(change)


def signed(change: float) -> str:
    """`+0.031`; a zero has no sign."""
    text = number_text(change)
    return text if text.startswith('-') or change == 0 else f'+{text}'


def number_text(value: float) -> str:
    """Three decimals; what is too small or too large for them in four digits, as `1.2e-05` or `1.3e+06`."""
    return f'{value:.3f}' if value == 0 or 0.0005 <= abs(value) < 1e5 else f'{value:.4g}'


def data_note(groups: Sequence[RunGroup]) -> str:
    """Which runs of one protocol were on other data, by its fingerprint; empty where all agree.

    Repeats over several splits are on other images each: there all groups must have the same ones.
    """
    by_data: dict[str, dict[str, None]] = {}
    of_groups, has_changed = [], False
    for group in groups:
        known = {(run.seeds.get('split'), str(run.extras['data_fingerprint'])): None for run in group.runs
                 if run.extras.get('data_fingerprint') is not None}
        for _, fingerprint in known:
            by_data.setdefault(fingerprint, {})[group.label] = None
        has_changed |= len({split for split, _ in known}) < len(known)
        of_groups += [{fingerprint for _, fingerprint in known}] if known else []
    if not has_changed and all(each == of_groups[0] for each in of_groups):
        return ''
    told = '; '.join(f'{fingerprint[:12]}: {", ".join(labels)}' for fingerprint, labels in by_data.items())
    return f'These runs are on different data, so their numbers do not compare ({told}).'


def repeats_note(groups: Sequence[RunGroup]) -> str:
    """Which means are over runs whose configs differ in more than seeds, with the keys; empty where none is."""
    told = []
    for group in groups:
        first, *others = [_without_seeds(stored_config(run)) for run in group.runs]
        keys = dict.fromkeys(key for other in others if first and other and config_hash(first) != config_hash(other)
                             for key in _different_keys(flat(first), flat(other)))
        if keys:
            told.append(f'{group.label}: {", ".join([*keys][:6])}{" ..." if len(keys) > 6 else ""}')
    return f'Means are over runs that differ in more than their seeds ({"; ".join(told)}).' if told else ''


def _different_keys(first: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    return [key for key in {**first, **other} if first.get(key) != other.get(key)
            and key.partition('.')[0] not in EXECUTION_KEYS]


def _without_seeds(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_seeds(item) for key, item in value.items() if 'seed' not in str(key)}
    return value


def flat(config: Mapping[str, object], prefix: str = '') -> dict[str, object]:
    """Dotted keys of nested dicts."""
    found: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            found.update(flat(value, f'{prefix}{key}.'))
        else:
            found[f'{prefix}{key}'] = value
    return found


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1 in the denominator), None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def next_domain_curve(group: RunGroup) -> list[tuple[float, float | None] | None]:
    """(mean, std) over the runs of `acc_matrix[j - 1][j]`, for j = 1 ... N - 1; None where no run has it."""
    matrices = [run.acc_matrix for run in group.runs if _is_stream(run)]
    curve = []
    for j in range(1, len(matrices[0]) if matrices else 0):
        values = [matrix[j - 1][j] for matrix in matrices if matrix[j - 1][j] is not None]
        curve.append(mean_and_std(values) if values else None)
    return curve


def comparison_figures(groups: dict[str, list[RunGroup]]) -> dict[str, Figure]:
    """File stem -> figure: the metrics of each protocol, and next-domain accuracy bucket by bucket."""
    figures = {}
    for protocol, members in groups.items():
        slug = re.sub(r'[^a-z0-9]+', '-', protocol.lower()).strip('-')
        if metric_names(members):
            figures[f'metrics_{slug}'] = metrics_figure(members)
        by_buckets: dict[tuple, list[RunGroup]] = {}
        for group in members:
            if any(next_domain_curve(group)):
                by_buckets.setdefault(tuple(group.runs[0].bucket_names), []).append(group)
        # Streams with other buckets have other axes: one figure for each.
        for k, same in enumerate(by_buckets.values()):
            figures[f'next_domain_{slug}' + (f'-{k + 1}' if k else '')] = next_domain_figure(same)
    return figures


def metrics_figure(groups: Sequence[RunGroup]) -> Figure:
    """One panel per metric, one row per run: the mean with its standard deviation, single runs as small dots."""
    from clear.visualization.figures import new_figure, plain_text

    names = metric_names(groups)[:_MOST_PANELS]
    labels = [plain_text(group.marked_label, 48) for group in groups]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(0.6 + 0.09 * max(map(len, labels)) + 2.6 * columns, 0.9 + rows * (0.75 + 0.32 * len(groups)),
                        f'Metrics, {groups[0].protocol}', 'dot: mean, bar: ± sample standard deviation, '
                        'small dots: single runs')
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel, name in zip(panels.flat, names):
        for k, group in enumerate(groups):
            _draw_point(panel, k, group.values(name))
        panel.set_title(name, fontsize=10)
        panel.set_yticks(range(len(groups)), labels)
        panel.set_ylim(len(groups) - 0.5, -0.5)
        panel.margins(x=0.2)
        panel.locator_params(axis='x', nbins=4)
        panel.tick_params(axis='x', labelsize=8)
        panel.grid(axis='x', color='0.9')
    for panel in panels.flat[len(names):]:
        panel.axis('off')
    return figure


def next_domain_figure(groups: Sequence[RunGroup]) -> Figure:
    """Accuracy on each next bucket, one line per group with a band of one standard deviation."""
    from clear.visualization.figures import new_figure, plain_text, set_bucket_ticks

    names = groups[0].runs[0].bucket_names[1:]
    figure = new_figure(max(6.5, 0.6 * len(names) + 3), 4.2 + 0.2 * len(groups), f'Next domain, {groups[0].protocol}',
                        'trained through the bucket before; band: ± sample standard deviation')
    axes = figure.subplots()
    for k, group in enumerate(groups):
        curve = [point or (float('nan'), None) for point in next_domain_curve(group)]
        means, stds = [mean for mean, _ in curve], [std or 0.0 for _, std in curve]
        color = COLORS[k % len(COLORS)]
        axes.plot(range(len(means)), means, color=color, marker=_MARKERS[k % len(_MARKERS)],
                  linestyle=('-', '--', ':')[k // len(COLORS) % 3], label=plain_text(group.marked_label, 80))
        axes.fill_between(range(len(means)), [mean - std for mean, std in zip(means, stds)],
                          [mean + std for mean, std in zip(means, stds)], color=color, alpha=0.15, linewidth=0)
    set_bucket_ticks(axes, names, 'x')
    axes.set_xlabel('tested on bucket')
    axes.set_ylabel('accuracy')
    axes.grid(color='0.9')
    figure.legend(loc='outside lower center', ncols=1 if len(groups) > 4 else 2, frameon=False)
    return figure


def _draw_point(panel: Axes, row: int, values: Sequence[float]) -> None:
    if not values:
        return
    color = COLORS[row % len(COLORS)]
    mean, std = mean_and_std(values)
    if len(values) > 1:
        panel.plot(values, [row] * len(values), '.', color=color, alpha=0.4, markersize=5)
    panel.errorbar(mean, row, xerr=std, fmt=_MARKERS[row % len(_MARKERS)], color=color, capsize=3, markersize=6)


def is_number(value: object) -> bool:
    """Whether it can be averaged: a finite number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_stream(run: Results) -> bool:
    return run.acc_matrix is not None and len(run.acc_matrix) == len(run.acc_matrix[0])


def _check_repeats(name: str, runs: Sequence[Results], sources: Sequence[str]) -> None:
    """Mean and spread only make sense over runs that differ in their seeds and in nothing else."""
    hint = 'They are no repeats of one run; compare them with --group-by none.'
    for k, run in enumerate(runs):
        for earlier, source in zip(runs[:k], sources):
            if earlier.seeds == run.seeds:
                raise DataError(f"{source} and {sources[k]} have the same name '{name}' and the same seeds "
                                f'{run.seeds}. {hint}')
            if earlier.bucket_names != run.bucket_names:
                raise DataError(f"{source} and {sources[k]} have the same name '{name}' but not the same buckets "
                                f'({len(earlier.bucket_names)} and {len(run.bucket_names)}). {hint}')
