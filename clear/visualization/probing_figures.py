"""Figures of single tasks, drawn from the `figure_data` that a task leaves in the extras of its result.

Each entry, by its name, is a dict of plain values with a `kind`:

    confusion   matrix: rows are true classes, columns predicted ones, counts; names: of the classes
    curve       x; lines: name -> y
    scatter     x, y
    histogram   values: name -> numbers
    points      x, y, group: a text for each point
    sheet       rows: list of dict(title, images: rows of `split`, captions: a text for each); split: 'test' by default

`xlabel` and `ylabel` may stand beside them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from clear.core.logs import logger
from clear.core.results import Results
from clear.visualization.clusters import thumbnail
from clear.visualization.comparison import COLORS
from clear.visualization.figures import new_figure, plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from clear.core.types import Plain

# (key of the job, split, row) -> the picture, or None if it cannot be had.
Picture: TypeAlias = 'Callable[[str, str, int], Image | None]'
Data: TypeAlias = 'Mapping[str, Plain]'

MOST_ROWS, MOST_COLUMNS = 24, 16
_MOST_NAMED = 40  # classes whose names stand at a confusion matrix
_MOST_WRITTEN = 12  # and whose counts stand in it
_PIXELS, _GAP, _LINES = 96, 6, 3
_LINE_PIXELS = 13


def task_figures(results: Results, picture: Picture) -> dict[str, Figure]:
    """File stem -> figure, of every finished job whose task left something to draw.

    What does not have the form of its kind is left out, with a warning: a run is not lost for a figure.
    """
    figures = {}
    for key, job in (results.extras.get('jobs') or {}).items():
        found = ((job.get('result') or {}).get('extras') or {}).get('figure_data') or {}
        for name, data in found.items() if isinstance(found, Mapping) else ():
            stem = f'{key}--{re.sub(r"[^A-Za-z0-9_.+-]+", "_", str(name)).strip("_")[:60] or "figure"}'
            stem += f'_{len(figures) + 1}' if stem in figures else ''
            try:
                figures[stem] = draw(f'{job["task"]} of {job["encoder"]}', str(name), data,
                                     lambda split, row, key=key: picture(key, split, row))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                logger.warning("%s: its figure '%s' cannot be drawn: %s: %s", key, name, type(error).__name__, error)
    return figures


def draw(title: str, subtitle: str, data: Data, picture: Callable[[str, int], Image | None]) -> Figure:
    """The figure of one entry.

    Args:
        picture: (split, row) -> the picture of a sheet, or None.

    Raises:
        ValueError: for an unknown kind, or lengths that differ; KeyError, TypeError: for parts that are missing.
    """
    kinds = dict(confusion=_confusion, curve=_curve, scatter=_scatter, histogram=_histogram, points=_points)
    if data['kind'] == 'sheet':
        return _sheet(title, subtitle, data, picture)
    if data['kind'] not in kinds:
        raise ValueError(f"kind is {data['kind']!r}, expected one of {', '.join([*kinds, 'sheet'])}")
    return kinds[data['kind']](title, subtitle, data)


def curves_figure(title: str, subtitle: str, x: Sequence[float], panels: Mapping[str, Mapping[str, Sequence[float]]],
                  xlabel: str) -> Figure:
    """A panel for each name with its lines over a common axis; NaN leaves a gap."""
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    figure = new_figure(1.2 + 3.6 * columns, 1.6 + 2.6 * rows, title, subtitle)
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for panel, (name, lines) in zip(axes.flat, panels.items()):
        _plot_lines(panel, x, lines)
        panel.set_title(plain_text(name, 40), fontsize=9)
    for panel in axes.flat[len(panels):]:
        panel.axis('off')
    figure.supxlabel(plain_text(xlabel, 40), fontsize=10)
    return figure


def _curve(title: str, subtitle: str, data: Data) -> Figure:
    figure = new_figure(6.0, 4.2, title, subtitle)
    axes = figure.subplots()
    _plot_lines(axes, data['x'], data['lines'])
    return _labelled(figure, axes, data)


def _plot_lines(axes, x: Sequence[float], lines: Mapping[str, Sequence[float]]) -> None:
    for index, (name, y) in enumerate(lines.items()):
        axes.plot(x, y, marker='o', markersize=3.5, linewidth=1.4, color=COLORS[index % len(COLORS)],
                  label=plain_text(name, 40))
    axes.grid(color='0.95')
    axes.set_axisbelow(True)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def _confusion(title: str, subtitle: str, data: Data) -> Figure:
    """Counts as written, colours as the share of each row: classes differ in size."""
    import numpy as np

    matrix, names = np.array(data['matrix'], dtype=float), [str(name) for name in data['names']]
    if matrix.shape != (len(names), len(names)):
        raise ValueError(f'a confusion matrix of {matrix.shape} for {len(names)} names')
    totals = matrix.sum(1, keepdims=True)
    shares = np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)
    side = max(4.0, min(12.0, 2.2 + 0.42 * len(names)))
    figure = new_figure(side + 0.8, side, title, f'{subtitle}: rows are true classes, columns what was answered')
    axes = figure.subplots()
    image = axes.imshow(shares, cmap='cividis', vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label='share of the true class', fraction=0.05)
    if len(names) <= _MOST_WRITTEN:
        for row, column in np.ndindex(matrix.shape):
            axes.text(column, row, f'{matrix[row, column]:g}', ha='center', va='center', fontsize=8,
                      color='white' if shares[row, column] < 0.5 else 'black')
    if len(names) <= _MOST_NAMED:
        labels = [plain_text(name, 18) for name in names]
        axes.set_xticks(range(len(names)), labels, fontsize=7, rotation=90)
        axes.set_yticks(range(len(names)), labels, fontsize=7)
    axes.set_xlabel('answered')
    axes.set_ylabel('true')
    return figure


def _scatter(title: str, subtitle: str, data: Data) -> Figure:
    figure = new_figure(5.4, 4.6, title, subtitle)
    axes = figure.subplots()
    axes.scatter(data['x'], data['y'], s=_point_size(len(data['x'])), color=COLORS[0], alpha=0.5, linewidths=0)
    axes.grid(color='0.95')
    axes.set_axisbelow(True)
    return _labelled(figure, axes, data)


def _points(title: str, subtitle: str, data: Data) -> Figure:
    import numpy as np

    x, y, group = np.array(data['x'], dtype=float), np.array(data['y'], dtype=float), [str(g) for g in data['group']]
    if not len(x) == len(y) == len(group):
        raise ValueError(f'{len(x)} x, {len(y)} y and {len(group)} groups')
    figure = new_figure(6.4, 5.6, title, subtitle)
    axes = figure.subplots()
    names = list(dict.fromkeys(group))
    for index, name in enumerate(names):
        own = np.array([each == name for each in group])
        axes.scatter(x[own], y[own], s=_point_size(len(x)), color=COLORS[index % len(COLORS)], alpha=0.6, linewidths=0,
                     marker='osD^v'[index // len(COLORS) % 5], label=plain_text(name, 30))
    axes.set_xticks([])
    axes.set_yticks([])
    if 1 < len(names) <= 20:
        figure.legend(loc='outside lower center', ncols=4, frameon=False, fontsize=8)
    return _labelled(figure, axes, data)


def _histogram(title: str, subtitle: str, data: Data) -> Figure:
    import numpy as np

    values = {str(name): np.array(each, dtype=float) for name, each in data['values'].items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=40)
    figure = new_figure(6.0, 4.2, title, subtitle)
    axes = figure.subplots()
    for index, (name, each) in enumerate(values.items()):
        axes.hist(each, edges, density=len(values) > 1, alpha=0.55, color=COLORS[index % len(COLORS)],
                  label=plain_text(name, 40))
    if len(values) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _labelled(figure, axes, {'ylabel': 'density' if len(values) > 1 else 'number', **data})


def _sheet(title: str, subtitle: str, data: Data, picture: Callable[[str, int], Image | None]) -> Figure:
    import numpy as np

    rows = list(data['rows'])[:MOST_ROWS]
    columns = min(MOST_COLUMNS, max(len(row['images']) for row in rows))
    has_captions = any(row.get('captions') for row in rows)
    high = _PIXELS + _GAP + (_LINES * _LINE_PIXELS if has_captions else 0)
    canvas = np.full((len(rows) * high, columns * (_PIXELS + _GAP), 3), 255, dtype=np.uint8)
    figure = new_figure(2.6 + 0.95 * columns, 0.9 + 0.95 * len(rows) * high / (_PIXELS + _GAP), title, subtitle)
    axes = figure.subplots()
    for line, row in enumerate(rows):
        captions = list(row.get('captions') or [''] * len(row['images']))
        if len(captions) != len(row['images']):
            raise ValueError(f"{len(row['images'])} images and {len(captions)} captions in '{row['title']}'")
        for column, (image, caption) in enumerate(zip(row['images'][:columns], captions)):
            top, left = line * high, column * (_PIXELS + _GAP)
            canvas[top:top + _PIXELS, left:left + _PIXELS] = thumbnail(picture(data.get('split', 'test'), image),
                                                                       _PIXELS)
            lines = textwrap.wrap(str(caption), 19)
            text = '\n'.join(lines[:_LINES]) + ('…' if len(lines) > _LINES else '')
            axes.text(left, top + _PIXELS + 1, plain_text(text, 70), fontsize=4.6, va='top', ha='left')
    axes.imshow(canvas, interpolation='none')
    axes.set_xticks([])
    axes.set_yticks([line * high + _PIXELS / 2 for line in range(len(rows))],
                    ['\n'.join(textwrap.wrap(plain_text(str(row['title']), 80), 26)) for row in rows], fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _labelled(figure: Figure, axes, data: Data) -> Figure:
    axes.set_xlabel(plain_text(str(data.get('xlabel', '')), 60))
    axes.set_ylabel(plain_text(str(data.get('ylabel', '')), 60))
    return figure


def _point_size(count: int) -> float:
    return max(2.0, min(16.0, 20000 / max(count, 1)))
