"""Figures of one run, drawn from its results: the accuracy matrix, accuracy over time, forgetting.

Everything uses matplotlib's object interface: no display, no global figure state.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.files import atomic_writer
from clear.core.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_DPI = 130
_MISSING_COLOR = '0.85'
_LINE_COLOR = '#0072B2'
_OVERLAP_COLOR = '#D55E00'


def draw_figures(results: Results, folder: str | Path) -> list[Path]:
    """Write every figure that the results allow as `folder/<name>.png`; the paths, none without a matrix."""
    return write_figures(run_figures(results), folder)


def run_figures(results: Results) -> dict[str, Figure]:
    """File stem -> figure. Left out is what has nothing to show yet, such as forgetting after one bucket."""
    if results.acc_matrix is None:
        return {}
    figures = {'accuracy_matrix': matrix_figure(results)}
    if _is_square(results) and _last_row(results) > 0:
        figures['accuracy_over_time'] = timeline_figure(results)
        if any(value is not None for value in _forgetting(results)):
            figures['forgetting'] = forgetting_figure(results)
    return figures


def matrix_figure(results: Results) -> Figure:
    """Annotated heat map; entries that measure training data are hatched, missing ones grey."""
    import numpy as np

    matrix = np.array(results.acc_matrix, dtype=float)  # None -> NaN
    rows, columns = matrix.shape
    figure = new_figure(2.6 + 0.62 * columns, 2.4 + 0.5 * rows, results.name, f'Accuracy matrix, {results.protocol}')
    axes = figure.subplots()
    # A few hundredths decide here: colours span the measured range, rounded outwards to 0.05.
    low, high = (np.nanmin(matrix), np.nanmax(matrix)) if np.isfinite(matrix).any() else (0.0, 1.0)
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    axes.set_facecolor(_MISSING_COLOR)
    image = axes.imshow(matrix, cmap='cividis', vmin=low, vmax=high if high > low else low + 0.05, aspect='auto')
    _annotate(axes, image, results)
    set_bucket_ticks(axes, results.bucket_names, 'x', every=True)
    set_bucket_ticks(axes, _row_names(results), 'y', every=True)
    axes.set_xlabel('tested on bucket')
    axes.set_ylabel('trained through bucket')
    figure.colorbar(image, ax=axes, label='accuracy', fraction=0.05)
    _add_matrix_legend(figure, results, bool(np.isnan(matrix).any()))
    return figure


def timeline_figure(results: Results) -> Figure:
    """One panel per test bucket: its accuracy while training goes on, the other buckets in grey behind it."""
    size = len(results.acc_matrix)
    columns = math.ceil(math.sqrt(1.4 * size))
    rows = -(-size // columns)
    note = ', orange: measures training data' if _has_overlap(results) else ''
    figure = new_figure(1.2 + 2.3 * columns, 1.5 + 1.7 * rows, results.name,
                        f'Accuracy over time, one panel per test bucket (dotted: that bucket was trained{note})')
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    curves = [[math.nan if row[j] is None else row[j] for row in results.acc_matrix] for j in range(size)]
    for j, panel in enumerate(panels.flat[:size]):
        for curve in curves:
            panel.plot(curve, color='0.88', linewidth=0.8, zorder=1)
        panel.axvline(j, color='0.4', linestyle=':', linewidth=1, zorder=2)
        panel.plot(curves[j], color=_LINE_COLOR, marker='o', markersize=3, linewidth=1.6, zorder=3)
        masked = [value if _is_overlapped(results, i, j) else math.nan for i, value in enumerate(curves[j])]
        panel.plot(masked, color=_OVERLAP_COLOR, marker='o', markersize=3, linewidth=1.6, zorder=4)
        panel.set_title(f'tested on {plain_text(results.bucket_names[j], 20)}', fontsize=9)
        set_bucket_ticks(panel, results.bucket_names, 'x')
        panel.grid(color='0.95')
    for j, panel in enumerate(panels.flat):
        panel.set_axisbelow(True)
        # The lowest panel of a column carries the labels, also above an empty place.
        panel.tick_params(labelbottom=j + columns >= size)
        if j >= size:
            panel.axis('off')
    figure.supxlabel('trained through bucket', fontsize=10)
    figure.supylabel('accuracy', fontsize=10)
    return figure


def forgetting_figure(results: Results) -> Figure:
    """Bars of first minus last accuracy per bucket; before the end, last is the last measured row."""
    last = _last_row(results)
    values = [math.nan if value is None else value for value in _forgetting(results)]
    names = results.bucket_names[:last]
    figure = new_figure(max(5.5, 2 + 0.6 * last), 4.0, results.name,
                        'Forgetting: accuracy when the bucket was trained, minus accuracy after bucket '
                        f'{results.bucket_names[last]}' + ('; measures training data' if _has_overlap(results) else ''))
    axes = figure.subplots()
    colors = [_OVERLAP_COLOR if value > 0 else _LINE_COLOR for value in values]
    bars = axes.bar(range(last), values, color=colors, width=0.7, hatch='//' if _has_overlap(results) else None,
                    edgecolor='white')
    labels = ['' if math.isnan(value) else f'{value:+.3f}' for value in values]
    axes.bar_label(bars, labels, fontsize=8, padding=2)
    axes.axhline(0, color='0.2', linewidth=0.8)
    axes.margins(y=0.15)
    # Room for five bars at least: a single one would fill the figure.
    room = max(0.6, (5 - last) / 2)
    axes.set_xlim(-room, last - 1 + room)
    set_bucket_ticks(axes, names, 'x', every=True)
    axes.set_xlabel('bucket')
    axes.set_ylabel('forgetting (positive: forgot)')
    return figure


def new_figure(width: float, height: float, title: str, subtitle: str) -> Figure:
    """An empty figure (inches) with a two-part heading that is wrapped to its width."""
    from matplotlib.figure import Figure

    lines = [*textwrap.wrap(plain_text(title, 100), int(width * 9)),
             *textwrap.wrap(plain_text(subtitle, 200), int(width * 10))]
    # Further lines of heading must not squeeze the drawing.
    figure = Figure(figsize=(width, height + 0.2 * max(0, len(lines) - 2)), dpi=_DPI, layout='constrained')
    figure.suptitle('\n'.join(lines), fontsize=11)
    return figure


def plain_text(text: str, width: int) -> str:
    """`text` cut to `width` characters, with dollars that do not start a formula."""
    cut = text if len(text) <= width else f'{text[:width - 1]}…'
    return cut.replace('$', r'\$')


def set_bucket_ticks(axes: Axes, names: Sequence[str], which: str, every: bool = False) -> None:
    """Bucket names along an axis: all of them, or about six; slanted where they are long."""
    step = 1 if every else max(1, math.ceil(len(names) / 6))
    places = range(0, len(names), step)
    labels = [plain_text(names[k], 14) for k in places]
    slanted = which == 'x' and max((len(label) for label in labels), default=0) > 4
    set_ticks = axes.set_xticks if which == 'x' else axes.set_yticks
    set_ticks(list(places), labels, fontsize=8,
              **({'rotation': 45, 'ha': 'right', 'rotation_mode': 'anchor'} if slanted else {}))


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file in memory."""
    # Saving would work the layout out twice: once in a trial drawing, and again in the drawing itself.
    engine = figure.get_layout_engine()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in a script that the font lacks are boxes in the figure; the tables have them.
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine('none')
        figure.savefig(buffer, format='png', pil_kwargs={'compress_level': 3})
    return buffer.getvalue()


def write_figures(figures: dict[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as `folder/<stem>.png`, atomically; the paths."""
    paths = []
    for stem, figure in figures.items():
        paths.append(Path(folder) / f'{stem}.png')
        with atomic_writer(paths[-1]) as file:
            file.write(to_png(figure))
    return paths


def _annotate(axes: Axes, image: AxesImage, results: Results) -> None:
    """Write each number into its cell, dark on light and light on dark; hatch what measures training data."""
    from matplotlib.patches import Rectangle

    for i, row in enumerate(results.acc_matrix):
        for j, value in enumerate(row):
            if value is None:
                continue
            color = image.cmap(image.norm(value))
            ink = 'black' if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 0.46 else 'white'
            hatched = _is_overlapped(results, i, j)
            if hatched:
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch='////', edgecolor=ink,
                                         linewidth=0, alpha=0.45))
            text = axes.text(j, i, f'{value:.3f}', ha='center', va='center', color=ink, fontsize=8)
            if hatched:
                # The box keeps the hatch from crossing the digits.
                text.set_bbox({'facecolor': color, 'edgecolor': 'none', 'pad': 1.5})


def _add_matrix_legend(figure: Figure, results: Results, has_missing: bool) -> None:
    from matplotlib.patches import Patch

    handles = []
    if _has_overlap(results):
        handles.append(Patch(facecolor='white', edgecolor='0.3', hatch='////', label='measures training data'))
    if has_missing:
        handles.append(Patch(facecolor=_MISSING_COLOR, label='not measured'))
    if handles:
        figure.legend(handles=handles, loc='outside lower center', ncols=2, frameon=False, fontsize=9)


def _is_square(results: Results) -> bool:
    return len(results.acc_matrix) == len(results.acc_matrix[0])


def _row_names(results: Results) -> list[str]:
    return results.bucket_names if _is_square(results) else ['all'] * len(results.acc_matrix)


def _last_row(results: Results) -> int:
    """Index of the last complete row, -1 if there is none."""
    return max((i for i, row in enumerate(results.acc_matrix) if None not in row), default=-1)


def _forgetting(results: Results) -> list[float | None]:
    """First minus last accuracy of each bucket before the last measured one."""
    matrix, last = results.acc_matrix, _last_row(results)
    return [None if matrix[j][j] is None else matrix[j][j] - matrix[last][j] for j in range(last)]


def _has_overlap(results: Results) -> bool:
    return any(any(row) for row in results.overlap_mask or [])


def _is_overlapped(results: Results, i: int, j: int) -> bool:
    return results.overlap_mask is not None and results.overlap_mask[i][j]
