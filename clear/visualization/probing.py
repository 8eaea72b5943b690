"""Tables and figures of a probing run: tasks x encoders, spread over seeds, sensitivity to the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from clear.core.results import Results
from clear.visualization.comparison import COLORS
from clear.visualization.figures import new_figure, plain_text
from clear.visualization.tables import MISSING, shorten

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from clear.core.types import Plain

# A setting of a grid with its validation accuracy, as `results.json` has it.
Entry: TypeAlias = 'dict[str, Plain]'

# Figures of what the report shows as tables of its own.
DRAWN_IN_PAGE = ('tasks_by_encoders', 'accuracy_bars')
_MAX_NAME = 24
_MISSING_COLOR = '0.85'
_TERMINAL = 120  # columns
_MAX_GROUPS = 8  # of bars side by side
_MAX_LINES = 24  # that have a place in a legend
_LINE_STYLES = ('-', '--', ':')


def format_probe_table(results: Results) -> str:
    """Encoders x tasks in fixed width: the metric of each task, ± its standard deviation where there are seeds.

    Where that is too wide for a terminal, tasks x encoders.
    """
    cells = _cells(results)
    encoders, tasks = _names(cells)
    named = {task: f'{shorten(task, _MAX_NAME)} [{_metric_of(cells, task)}]' for task in tasks}
    table = [['encoder', *named.values()]] + [[shorten(encoder, _MAX_NAME), *(_text(cells.get((encoder, task)))
                                                                             for task in tasks)]
                                             for encoder in encoders]
    if _width(table) > _TERMINAL and len(tasks) > len(encoders):
        table = [list(column) for column in zip(*table)]
        table[0][0] = 'task'
    widths = _widths(table)
    return '\n'.join('  '.join(text.ljust(width) if column == 0 else text.rjust(width)
                               for column, (text, width) in enumerate(zip(row, widths))) for row in table)


def _widths(table: list[list[str]]) -> list[int]:
    return [max(len(row[column]) for row in table) for column in range(len(table[0]))]


def _width(table: list[list[str]]) -> int:
    return sum(_widths(table)) + 2 * (len(table[0]) - 1)


def probe_figures(results: Results) -> dict[str, Figure]:
    """File stem -> figure, of what is finished; none if nothing is."""
    cells = {key: cell for key, cell in _cells(results).items() if cell['state'] == 'done'}
    if not cells:
        return {}
    figures = {'tasks_by_encoders': heat_map(results), 'accuracy_bars': bar_chart(results)}
    for task in _names(cells)[1]:
        of_task = {encoder: cell['extras'] for (encoder, name), cell in cells.items() if name == task}
        grids = {encoder: extras['grid'] for encoder, extras in of_task.items() if 'grid' in extras}
        if any(len(_curves(grid)) and len({entry['lr'] for entry in grid}) > 1 for grid in grids.values()):
            figures[f'lr_sensitivity_{task}'] = lr_figure(results.name, task, grids, _metric_of(cells, task))
        courses = {encoder: extras['curves'] for encoder, extras in of_task.items() if _epochs(extras) > 1}
        if courses:
            figures[f'learning_curves_{task}'] = course_figure(results.name, task, courses, _metric_of(cells, task))
    return figures


def heat_map(results: Results) -> Figure:
    """Tasks x encoders; colours span each task's own range, because tasks have different metrics and difficulty."""
    import numpy as np

    cells = _cells(results)
    encoders, tasks = _names(cells)
    values = np.array([[_value(cells.get((encoder, task))) for encoder in encoders] for task in tasks])
    figure = new_figure(3.2 + 1.1 * len(encoders), 2.2 + 0.5 * len(tasks), results.name,
                        'Tasks by encoders; dark: worst of the task, bright: best')
    axes = figure.subplots()
    axes.set_facecolor(_MISSING_COLOR)
    image = axes.imshow(_within_task(values, [_sign(cells, task) for task in tasks]), cmap='cividis', vmin=0, vmax=1,
                        aspect='auto')
    for row in range(len(tasks)):
        for column in range(len(encoders)):
            shade = image.get_array()[row, column]
            axes.text(column, row, _text(cells.get((encoders[column], tasks[row]))), ha='center', va='center',
                      fontsize=8, color='white' if np.isfinite(shade) and shade < 0.5 else 'black')
    axes.set_xticks(range(len(encoders)), [plain_text(name, _MAX_NAME) for name in encoders], fontsize=8, rotation=30,
                    ha='right', rotation_mode='anchor')
    axes.set_yticks(range(len(tasks)), [plain_text(f'{task} [{_metric_of(cells, task)}]', 2 * _MAX_NAME)
                                        for task in tasks], fontsize=8)
    return figure


def bar_chart(results: Results) -> Figure:
    """A group of bars per task, one bar per encoder, with the standard deviation over seeds.

    Many tasks stand in several panels, those of one metric together, each with a scale of its own.
    """
    cells = _cells(results)
    encoders, tasks = _names(cells)
    rows = _bar_rows(cells, tasks)
    widest = max(len(row) for row in rows)
    figure = new_figure(max(5.0, 2 + 0.35 * widest * (len(encoders) + 1)), 1.6 + 2.6 * len(rows), results.name,
                        'Value per task and encoder; whiskers: standard deviation over seeds')
    width = 0.8 / len(encoders)
    for axes, row in zip(figure.subplots(len(rows), squeeze=False).flat, rows):
        for index, encoder in enumerate(encoders):
            found = [cells.get((encoder, task)) for task in row]
            places = [place + (index - (len(encoders) - 1) / 2) * width for place in range(len(row))]
            axes.bar(places, [_value(cell) for cell in found], width * 0.92, color=COLORS[index % len(COLORS)],
                     yerr=[_deviation(cell) for cell in found], error_kw=dict(linewidth=1),
                     label=plain_text(encoder, 40))
        axes.set_xticks(range(len(row)), [plain_text(task, _MAX_NAME) for task in row], fontsize=8, rotation=20,
                        ha='right', rotation_mode='anchor')
        axes.set_xlim(-0.6, widest - 0.4)
        metrics = {_metric_of(cells, task) for task in row}
        axes.set_ylabel(plain_text(metrics.pop(), 30) if len(metrics) == 1 else 'value')
        axes.grid(axis='y', color='0.95')
        axes.set_axisbelow(True)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=3, frameon=False, fontsize=8)
    return figure


def _bar_rows(cells: dict, tasks: list[str]) -> list[list[str]]:
    """The tasks of each panel: all in one if they are few, else those of one metric together, `_MAX_GROUPS` a panel."""
    if len(tasks) <= _MAX_GROUPS:
        return [tasks]
    by_metric: dict[str, list[str]] = {}
    for task in tasks:
        by_metric.setdefault(_metric_of(cells, task), []).append(task)
    return [group[start:start + _MAX_GROUPS] for group in by_metric.values()
            for start in range(0, len(group), _MAX_GROUPS)]


def course_figure(name: str, task: str, courses: dict[str, dict[str, dict[str, list[float | None]]]], metric: str
                  ) -> Figure:
    """A panel per encoder, a line per setting: the metric on validation after every epoch, else that of training."""
    import numpy as np

    columns = min(len(courses), 3)
    rows = math.ceil(len(courses) / columns)
    figure = new_figure(1.5 + 3.3 * columns, 1.9 + 2.5 * rows, name,
                        f'{task}: {metric} on validation (dashed: on the training rows) after every epoch')
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    labels = list(dict.fromkeys(label for course in courses.values() for label in course))
    for panel, (encoder, course) in zip(panels.flat, courses.items()):
        for label, values in course.items():
            style, line = ('-', values.get('val_metric')) if values.get('val_metric') else \
                ('--', values.get('train_metric') or [])
            line = [math.nan if value is None else value for value in line]
            panel.plot(np.arange(1, len(line) + 1), line, color=COLORS[labels.index(label) % len(COLORS)],
                       linestyle=style, linewidth=1.3, marker='.' if len(line) < 30 else None, label=label)
        panel.set_title(plain_text(encoder, 40), fontsize=9)
        panel.set_xlabel('epoch', fontsize=9)
        panel.grid(color='0.95')
    for panel in panels.flat[len(courses):]:
        panel.axis('off')
    figure.supylabel(plain_text(metric, 40), fontsize=10)
    if len(labels) <= _MAX_LINES:
        handles = {text: handle for panel in panels.flat for handle, text in zip(*panel.get_legend_handles_labels())}
        figure.legend(handles.values(), [plain_text(text, 50) for text in handles], loc='outside lower center', ncols=2,
                      frameon=False, fontsize=8)
    return figure


def lr_figure(name: str, task: str, grids: dict[str, list[Entry]], metric: str) -> Figure:
    """What decides on validation over the learning rate: a panel per encoder, a line per optimiser, schedule and decay.
    """
    columns = min(len(grids), 3)
    rows = math.ceil(len(grids) / columns)
    figure = new_figure(1.5 + 3.3 * columns, 1.9 + 2.5 * rows, name,
                        f'{task}: {metric} on validation over the learning rate; crosses: diverged')
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    labels = list(dict.fromkeys(label for grid in grids.values() for label in _curves(grid)))
    for panel, (encoder, grid) in zip(panels.flat, grids.items()):
        for label, entries in _curves(grid).items():
            color = COLORS[labels.index(label) % len(COLORS)]
            style = _LINE_STYLES[labels.index(label) // len(COLORS) % len(_LINE_STYLES)]
            alive = [entry for entry in entries if not _has_diverged(entry)]
            panel.plot([entry['lr'] for entry in alive], [_on_validation(entry) for entry in alive], marker='o',
                       markersize=3.5, linewidth=1.4, linestyle=style, color=color, label=plain_text(label, 60))
            diverged = [entry['lr'] for entry in entries if _has_diverged(entry)]
            panel.plot(diverged, [0.03] * len(diverged), linestyle='', marker='x', color=color,
                       transform=panel.get_xaxis_transform())  # at the edge: they have no value
        panel.set_title(plain_text(encoder, 40), fontsize=9)
        panel.set_xscale('log')
        panel.set_xlabel('learning rate', fontsize=9)  # not supxlabel: it would lie over the legend
        panel.grid(color='0.95')
    for panel in panels.flat[len(grids):]:
        panel.axis('off')
    figure.supylabel(f'{metric} on validation', fontsize=10)
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc='outside lower center', ncols=2, frameon=False, fontsize=8)
    return figure


def _cells(results: Results) -> dict[tuple[str, str], dict[str, Plain]]:
    """(encoder, task) -> state, and of a finished job metric, value, higher_is_better, extras."""
    return {(job['encoder'], job['task']): {'state': job['state'], **(job.get('result') or {})}
            for job in (results.extras.get('jobs') or {}).values()}


def _names(cells: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(encoder for encoder, _ in cells)), list(dict.fromkeys(task for _, task in cells))


def _metric_of(cells: dict, task: str) -> str:
    return next((cell['metric'] for (_, name), cell in cells.items() if name == task and 'metric' in cell), MISSING)


def _sign(cells: dict, task: str) -> int:
    return -1 if any(name == task and cell.get('higher_is_better') is False for (_, name), cell in cells.items()) else 1


def _value(cell: dict | None) -> float:
    value = (cell or {}).get('value')
    return math.nan if value is None else value


def _deviation(cell: dict | None) -> float:
    return ((cell or {}).get('extras') or {}).get('std', {}).get((cell or {}).get('metric'), 0.0)


def _text(cell: dict | None) -> str:
    if cell is None or cell.get('value') is None:
        return cell['state'] if cell and cell['state'] == 'failed' else MISSING
    deviation = _deviation(cell)
    return f'{cell["value"]:.3f}' + (f' ± {deviation:.3f}' if deviation else '')


def _within_task(values: np.ndarray, signs: list[int]) -> np.ndarray:
    """Each row stretched to 0 ... 1, 1 the best; a row of equal values is 0.5 throughout; NaN stays."""
    import numpy as np

    shades = np.full(values.shape, np.nan)
    for row, sign in enumerate(signs):
        known = np.isfinite(values[row])
        if known.any():
            low, high = values[row][known].min(), values[row][known].max()
            share = (values[row][known] - low) / (high - low) if high > low else np.full(known.sum(), 0.5)
            shades[row][known] = share if sign > 0 else 1 - share
    return shades


def _epochs(extras: dict[str, Plain]) -> int:
    return max((len(values) for course in (extras.get('curves') or {}).values() for values in course.values()),
               default=0)


def _curves(grid: list[Entry]) -> dict[str, list[Entry]]:
    """Label of a line -> its settings by learning rate; none if the grid was not measured on validation."""
    if not all({'lr', 'optimizer', 'schedule'} <= {*entry} for entry in grid) or \
            all(_on_validation(entry) is None for entry in grid):
        return {}
    curves: dict[str, list[Entry]] = {}
    for entry in sorted(grid, key=lambda entry: entry['lr']):
        label = f"{entry['optimizer']}, {entry['schedule']}, decay {entry['weight_decay']:g}"
        curves.setdefault(label, []).append(entry)
    return curves


def _on_validation(entry: Entry) -> float | None:
    """The metric of a setting: accuracy in the grid of linear heads, `val` in that of heads for pixels."""
    return entry['val_top1'] if 'val_top1' in entry else entry.get('val')


def _has_diverged(entry: Entry) -> bool:
    return bool(entry.get('diverged')) or entry.get('diverged_in_epoch') is not None
