"""Small charts as SVG in the page: they follow its theme, and stay sharp on paper.

Charts are small panels of one size, to be set side by side, so that their text stays readable on a phone. Lines differ
in colour, dashes and markers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from clear.visualization.html.colors import STYLES
from clear.visualization.page import breakable
from clear.visualization.tables import shorten

_WIDTH, _HEIGHT = 270, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 22
_DASHES = ('', '6 3', '2 2.5', '8 3 2 3')
# Paths of markers around a point.
_MARKERS = ('m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z', 'm-2.7 -2.7h5.4v5.4h-5.4z', 'm0 -3.4l3.3 5.8h-6.6z',
            'm0 -3.7l3.7 3.7l-3.7 3.7l-3.7 -3.7z', 'm0 3.4l3.3 -5.8h-6.6z',
            'm-1 -3.2h2v2.2h2.2v2h-2.2v2.2h-2v-2.2h-2.2v-2h2.2z')
_MOST_MARKED = 24  # points of a line with markers
_MOST_POINTS = 200  # of a line, about the pixels of a panel; of longer ones every so many-th is drawn


@dataclass(frozen=True)
class Line:
    """A line over 0, 1, ...; None leaves a gap.

    Args:
        style: its place in the order of colours, dashes and markers.
        spread: half the width of a band around it, for each point.
    """

    name: str
    values: Sequence[float | None]
    style: int = 0
    spread: Sequence[float | None] | None = None


def line_panel(title: str, lines: Sequence[Line], ticks: Sequence[str], *, limits: tuple[float, float] | None = None,
               envelope: Sequence[tuple[float, float] | None] = (), mark: int | None = None, note: str = '') -> str:
    """A panel with lines over a common axis.

    Args:
        ticks: a name for each place of the axis; the first, the last and one between are written.
        limits: of the values; those of the lines if None.
        envelope: (low, high) at each place, a grey area behind the lines.
        mark: a place that a dotted line marks.
        note: what the panel shows, for those who cannot see it.
    """
    known = [value for line in lines for value in line.values if value is not None]
    low, high = limits or padded(known)
    size = max([len(ticks), *(len(line.values) for line in lines)], default=1)

    def x(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place / (size - 1) if size > 1 else 0.5)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [_frame(low, high, y), *_names(ticks, x)]
    if mark is not None:
        parts.append(f'<path class="mark" d="M{x(mark):.1f} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
    if envelope:
        step = max(1, -(-len(envelope) // _MOST_POINTS))
        parts.append(_area([(x(k), y(pair[0]), y(pair[1])) if pair else None for k, pair in enumerate(envelope)
                            if k % step == 0], 'range'))
    for line in lines:
        places = range(0, len(line.values), max(1, -(-len(line.values) // _MOST_POINTS)))
        points = [None if line.values[k] is None else (x(k), y(line.values[k])) for k in places]
        parts.append(_drawn(points, line.style))
        if line.spread:
            band = [None if line.values[k] is None else
                    (x(k), y(line.values[k] - (line.spread[k] or 0)), y(line.values[k] + (line.spread[k] or 0)))
                    for k in places]
            parts.insert(2, _area(band, 'range'))
    label = escape(f'{title}. {note}' if note else title)
    return (f'<figure class="panel"><figcaption title="{escape(title)}">{breakable(shorten(title, 60))}'
            f'</figcaption><svg role="img" aria-label="{label}" '
            f'viewBox="0 0 {_WIDTH} {_HEIGHT}">' + ''.join(parts) + '</svg></figure>')


def key_of(names: Sequence[str]) -> str:
    """Which line is whose, in the order of styles."""
    items = []
    for style, name in enumerate(names):
        line = f'<path class="line s{style % STYLES}"{_dash(style)} d="M0 7H36"/>{_marker(18, 7, style)}'
        items.append(f'<li><svg viewBox="0 0 36 14" aria-hidden="true">{line}</svg>{escape(name)}</li>')
    return f'<ul class="key">{"".join(items)}</ul>'


def dots(values: Sequence[float], low: float, high: float) -> str:
    """Where values lie between two ends: the mean as a dot, a bar of one standard deviation, single values faint, zero
    as an upright line."""
    mean = sum(values) / len(values)
    parts = ['<line x1="0" x2="100%" y1="50%" y2="50%"/>']
    if low < 0 < high:
        parts.append(f'<line class="zero" x1="{_share(0, low, high)}" x2="{_share(0, low, high)}" y1="0" y2="100%"/>')
    if len(values) > 1:
        half = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
        ends = [_share(end, low, high) for end in (mean - half, mean + half)]
        parts.append(f'<line class="spread" x1="{ends[0]}" x2="{ends[1]}" y1="50%" y2="50%"/>')
        parts += [f'<circle class="one" cx="{_share(value, low, high)}" cy="50%" r="2.5"/>' for value in values]
    parts.append(f'<circle cx="{_share(mean, low, high)}" cy="50%" r="4"/>')
    return f'<svg class="dots" aria-hidden="true">{"".join(parts)}</svg>'


def padded(values: Iterable[float]) -> tuple[float, float]:
    """The ends of an axis for these values, with a little room; 0 ... 1 for none."""
    values = list(values)
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    return low - room, high + room


def nice_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers between two ends, `most` at most: 1, 2 or 5 times a power of ten apart."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    while high - low > most * step * (1 + 1e-9):
        step *= 2.5 if f'{step:e}'[0] == '2' else 2
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _share(value: float, low: float, high: float) -> str:
    """A place along a row; dots at the ends are whole."""
    share = (value - low) / (high - low) if high > low else 0.5
    return f'{4 + 92 * min(1.0, max(0.0, share)):.1f}%'


def _frame(low: float, high: float, y) -> str:
    parts = []
    for tick in nice_ticks(low, high):
        text = f'{tick:.6g}' if abs(tick) >= 1e-12 else '0'
        parts.append(f'<path class="axis" d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}"/><text x="{_LEFT - 6}" '
                     f'y="{y(tick) + 3.5:.1f}" text-anchor="end">{text}</text>')
    return ''.join(parts)


def _names(ticks: Sequence[str], x) -> list[str]:
    last = len(ticks) - 1
    places = sorted({0, last // 2, last} if last > 3 else {0, last}) if ticks else []
    anchors = {0: 'start', last: 'end'} if last > 0 else {}
    return [f'<text x="{x(k):.1f}" y="{_HEIGHT - 5}" text-anchor="{anchors.get(k, "middle")}">'
            f'{escape(shorten(ticks[k], 12))}</text>' for k in places]


def _drawn(points: Sequence[tuple[float, float] | None], style: int) -> str:
    path, pen = [], 'M'
    for point in points:
        if point is not None:
            path.append(f'{pen}{point[0]:.1f} {point[1]:.1f}')
        pen = 'M' if point is None else 'L'
    line = f'<path class="line s{style % STYLES}"{_dash(style)} d="{"".join(path)}"/>'
    if len(points) > _MOST_MARKED:
        return line
    return line + ''.join(_marker(*point, style) for point in points if point is not None)


def _area(band: Sequence[tuple[float, float, float] | None], kind: str) -> str:
    """An area between lower and upper ends, without the gaps."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for point in band:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    path = ''.join('M' + 'L'.join([*(f'{x:.1f} {low:.1f}' for x, low, _ in run),
                                   *(f'{x:.1f} {high:.1f}' for x, _, high in reversed(run))]) + 'Z'
                   for run in runs if len(run) > 1)
    return f'<path class="{kind}" d="{path}"/>' if path else ''


def _dash(style: int) -> str:
    dash = _DASHES[style % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ''


def _marker(x: float, y: float, style: int) -> str:
    return f'<path class="m{style % STYLES}" d="M{x:.1f} {y:.1f}{_MARKERS[style % len(_MARKERS)]}"/>'

