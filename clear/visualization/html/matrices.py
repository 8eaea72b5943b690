"""Accuracy matrices in a page: small multiples on one scale of colours, with the numbers written in the cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TypeAlias

from clear.visualization.html.colors import LEVELS
from clear.visualization.page import breakable, fold_of
from clear.visualization.tables import shorten

Matrix: TypeAlias = 'Sequence[Sequence[float | None]]'

MOST_WRITTEN = 12  # columns of a matrix whose numbers stand in its cells on a phone
_MOST_LISTED = 120  # columns of a matrix whose numbers are in the page at all
_TITLE = 90  # characters of a caption
_BLOCK = 10  # columns of a part of a large matrix
# Characters of a name that no longer fits above a cell, and of one that fits above the narrowest.
_LONG, _SHORT = 5, 2


@dataclass(frozen=True)
class Scale:
    """Colours for values between two ends.

    Args:
        kind: 'h' for values, 'd' for differences, whose middle is 0.
    """

    low: float
    high: float
    kind: str = 'h'

    @classmethod
    def of(cls, matrices: Iterable[Matrix]) -> Scale:
        """The measured range of all of them, rounded outwards to 0.05: a few hundredths decide here."""
        values = [value for matrix in matrices for row in matrix for value in row if value is not None]
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        low, high = math.floor(low * 20 + 1e-9) / 20, math.ceil(high * 20 - 1e-9) / 20
        return cls(low, high if high > low else low + 0.05)

    @classmethod
    def of_differences(cls, matrices: Iterable[Matrix]) -> Scale:
        """From minus to plus the largest difference, at least 0.01."""
        largest = max((abs(value) for matrix in matrices for row in matrix for value in row if value is not None),
                      default=0.0)
        end = max(0.01, math.ceil(largest * 100 - 1e-9) / 100)
        return cls(-end, end, 'd')

    def level(self, value: float) -> int:
        """The step of a value, 0 ... LEVELS - 1."""
        share = (value - self.low) / (self.high - self.low)
        return min(LEVELS - 1, max(0, math.floor(share * (LEVELS - 1) + 0.5)))

    def text(self, value: float | None) -> str:
        """A value in a cell: `.912`, `+.012` of differences, `-` of none."""
        if value is None:
            return '-'
        text = f'{value:+.3f}' if self.kind == 'd' else f'{value:.3f}'
        if float(text) == 0:
            return '.000'
        return text.replace('0.', '.', 1) if abs(value) < 0.9995 else text[:-1]

    def legend(self, marks: Sequence[str] = ()) -> str:
        """The steps with the values of their ends and middle, and what marks of cells mean.

        Args:
            marks: some of 'own', 'missing', 'overlap'.
        """
        steps = ''.join(f'<i class="{self.kind}{step}"></i>' for step in range(LEVELS))
        sign = '+' if self.kind == 'd' else ''
        ends = [f'{value:{sign}.2f}' for value in (self.low, self.high)]
        names = dict(own='outlined: the bucket trained last', missing='not measured',
                     overlap='italic, underlined: measures training data')
        others = ''.join(f'<span>{"" if mark == "overlap" else f"<i class={chr(34)}{mark}{chr(34)}></i>"}{names[mark]}'
                         '</span>' for mark in names if mark in marks)
        return (f'<p class="scale"><span>{ends[0]}<b aria-hidden="true">{steps}</b>{ends[1]}</span>{others}</p>')


def matrix_of(matrix: Matrix, rows: Sequence[str], columns: Sequence[str], scale: Scale, *, title: str = '',
              overlap: Sequence[Sequence[bool]] | None = None, owns: Sequence[int | None] | None = None,
              has_numbers: bool = True) -> str:
    """A matrix as a table of coloured numbers; a large one as a picture, with its numbers folded below.

    Args:
        matrix: (R, C) values, None = not measured.
        rows, columns: names of the buckets trained through, and tested on.
        title: of the table; what the axes are, if empty.
        overlap: (R, C) true where an entry measures training data.
        owns: of each row the column of the bucket that was trained last, to be outlined; that of the diagonal in a
            square matrix if None.
        has_numbers: whether the numbers of a large matrix follow its picture.
    """
    overlap = overlap or [[False] * len(columns)] * len(rows)
    if owns is None:
        owns = range(len(rows)) if len(rows) == len(columns) > 1 else [None] * len(rows)
    if len(columns) <= MOST_WRITTEN:
        return _table(matrix, rows, columns, scale, title, overlap, owns, range(len(columns)))
    picture = _picture(matrix, rows, columns, scale, title)
    if not has_numbers:
        return picture
    if len(columns) > _MOST_LISTED:
        return picture + '\n<p class="soft">The numbers are in results.json.</p>'
    blocks = [_table(matrix, rows, columns, scale, f'tested on {columns[start]} to '
                     f'{columns[min(start + _BLOCK, len(columns)) - 1]}', overlap, owns,
                     range(start, min(start + _BLOCK, len(columns)))) for start in range(0, len(columns), _BLOCK)]
    return picture + fold_of('Numbers', [f'<div class="blocks">{"".join(blocks)}</div>'], False, level=3)


def difference(matrix: Matrix, base: Matrix) -> list[list[float | None]] | None:
    """What a matrix has more than another; None where one was not measured, or for other shapes."""
    if (len(matrix), len(matrix[0])) != (len(base), len(base[0])):
        return None
    return [[None if a is None or b is None else a - b for a, b in zip(row, other)]
            for row, other in zip(matrix, base)]


def mean_matrix(matrices: Sequence[Matrix]) -> list[list[float | None]]:
    """The mean of matrices of one shape; None where one of them was not measured."""
    return [[None if None in cells else math.fsum(cells) / len(cells) for cells in zip(*rows)]
            for rows in zip(*matrices)]


def _table(matrix: Matrix, rows: Sequence[str], columns: Sequence[str], scale: Scale, title: str,
           overlap: Sequence[Sequence[bool]], owns: Sequence[int | None], shown: range) -> str:
    longest = max(len(columns[j]) for j in shown)
    style = ' tilted' if longest > _LONG else ' named' if longest > _SHORT else ''
    style += ' signed' if scale.kind == 'd' else ''
    head = ''.join(f'<th scope="col" title="{escape(columns[j])}">{escape(columns[j])}</th>' for j in shown)
    caption = title or 'rows: trained through bucket; columns: tested on bucket'
    lines = [f'<div class="frame"><table class="matrix w{len(shown)}{style}">'
             f'<caption title="{escape(caption)}">{breakable(shorten(caption, _TITLE))}</caption>',
             f'<tr><th scope="col">bucket</th>{head}</tr>']
    for i, name in enumerate(rows):
        cells = []
        for j in shown:
            value = matrix[i][j]
            kinds = ['missing'] if value is None else [f'{scale.kind}{scale.level(value)}']
            kinds += ['overlap'] if overlap[i][j] and value is not None else []
            kinds += ['own'] if owns[i] == j else []
            cells.append(f'<td class="{" ".join(kinds)}">{scale.text(value)}</td>')
        lines.append(f'<tr><th scope="row" title="{escape(name)}">{escape(name)}</th>{"".join(cells)}</tr>')
    return '\n'.join([*lines, '</table></div>'])


def _picture(matrix: Matrix, rows: Sequence[str], columns: Sequence[str], scale: Scale, title: str) -> str:
    """One path for each colour, a rectangle for neighbours of one: a few bytes a cell, however large the matrix is."""
    paths: dict[str, list[str]] = {}
    width, height = 300 / len(columns), 300 / max(len(rows), len(columns))
    for i, row in enumerate(matrix):
        levels = [None if value is None else scale.level(value) for value in row]
        for level, cells in groupby(range(len(row)), key=levels.__getitem__):
            first, *others = cells
            if level is not None:
                length = 1 + len(others)
                paths.setdefault(f'{scale.kind}{level}', []).append(f'M{first} {i}h{length}v1h-{length}z')
    bottom = len(rows) * height
    gone = ''.join(f'M{_short(j * width)} {_short((i + 1) * height)}l{_short(width)} -{_short(height)}'
                   for i, row in enumerate(matrix) for j, value in enumerate(row) if value is None)
    cells = ''.join(f'<path class="{kind}" d="{"".join(path)}"/>' for kind, path in sorted(paths.items()))
    cells = f'<g transform="scale({width:.4f} {height:.4f})">{cells}</g>'
    cells += f'<path class="gone" d="{gone}"/>' if gone else ''
    names = ''.join(f'<text x="{x:.1f}" y="{bottom + 13:.1f}" text-anchor="{anchor}">{escape(_cut(columns[j]))}</text>'
                    for j, x, anchor in ((0, 0, 'start'), (len(columns) - 1, 300, 'end')))
    names += ''.join(f'<text x="-5" y="{y:.1f}" text-anchor="end">{escape(_cut(rows[i]))}</text>'
                     for i, y in ((0, 9), (len(rows) - 1, bottom)))
    caption = title or 'down: trained through; right: tested on'
    about = f'{title or "accuracy"}, a picture of {len(rows)} rows trained through and {len(columns)} columns tested on'
    return (f'<figure class="panel heat"><figcaption title="{escape(caption)}">{breakable(shorten(caption, _TITLE))}'
            f'</figcaption><svg role="img" aria-label="{escape(about)}" viewBox="-62 -2 366 {bottom + 20:.1f}">'
            f'<path class="axis" d="M0 0H300V{bottom:.1f}H0z"/>{cells}{names}</svg></figure>')


def _cut(name: str) -> str:
    return name if len(name) <= 9 else f'{name[:8]}…'


def _short(number: float) -> str:
    return f'{number:.2f}'.rstrip('0').rstrip('.')
