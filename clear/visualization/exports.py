"""The numbers of a comparison as files for other programs: CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clear.core.files import write_csv, write_text
from clear.visualization.comparison import RunGroup, group_value, mean_and_std, metric_names
from clear.visualization.tables import MISSING, OVERLAP_NOTE

STEM = 'comparison'
COLUMNS = ('protocol', 'run', 'metric', 'measures_training_data', 'mean', 'std', 'n')
_LATEX = {'\\': r'\textbackslash{}', '{': r'\{', '}': r'\}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}',
          '±': r'$\pm$', '<': r'\textless{}', '>': r'\textgreater{}', **{mark: f'\\{mark}' for mark in '&%$#_'}}
# What a program that opens a table may take for a formula.
_FORMULAS = ('=', '+', '-', '@', '\t', '\r')


def write_tables(groups: Mapping[str, Sequence[RunGroup]], folder: Path) -> list[Path]:
    """Write `comparison.csv` (a line a run and metric, full precision), `.md` and `.tex` (a table a protocol); paths.

    In the latter two metrics are rows where there are more of them than runs.
    """
    paths = [folder / f'{STEM}.{ending}' for ending in ('csv', 'md', 'tex')]
    write_csv(paths[0], [COLUMNS, *(map(_safe, row) for row in _rows(groups))])
    tables = list(_tables(groups))
    write_text(paths[1], '\n\n'.join(_markdown(title, table) for title, table in tables) + '\n')
    write_text(paths[2], '\n\n'.join(_latex(title, table) for title, table in tables) + '\n')
    return paths


def _rows(groups: Mapping[str, Sequence[RunGroup]]) -> list[list[str]]:
    rows = []
    for protocol, members in groups.items():
        for group in members:
            for overlapped in (False, True):
                for name in metric_names(members, overlapped):
                    values = group.values(name, overlapped)
                    if values:
                        mean, std = mean_and_std(values)
                        rows.append([protocol, group.label, name, str(overlapped), repr(mean),
                                     '' if std is None else repr(std), str(len(values))])
    return rows


def _tables(groups: Mapping[str, Sequence[RunGroup]]):
    """(title, rows of text with a header) of each protocol, and of what measures training data under it."""
    for protocol, members in groups.items():
        for overlapped in (False, True):
            names = metric_names(members, overlapped)
            if not names:
                continue
            rows = [['run', *names], *([group.marked_label, *(group_value(group, name, overlapped) for name in names)]
                                       for group in members)]
            if len(names) > len(members):
                rows = [list(column) for column in zip(*rows)]
                rows[0][0] = 'metric'
            yield protocol + (f', each of these {OVERLAP_NOTE}' if overlapped else ''), rows


def _markdown(title: str, rows: Sequence[Sequence[str]]) -> str:
    lines = ['| ' + ' | '.join(_plain(text).replace('\\', '\\\\').replace('|', '\\|').replace('<', '&lt;')
                               for text in row) + ' |' for row in rows]
    lines.insert(1, '|---' + '|---:' * (len(rows[0]) - 1) + '|')
    return '\n'.join([f'Protocol {_plain(title)}', '', *lines])


def _latex(title: str, rows: Sequence[Sequence[str]]) -> str:
    """A `tabular` with the rules of booktabs."""
    lines = [' & '.join('--' if text == MISSING else ''.join(_LATEX.get(mark, mark) for mark in _plain(text))
                        for text in row) + r' \\' for row in rows]
    return '\n'.join([f'% protocol {_plain(title)}', rf'\begin{{tabular}}{{l{"r" * (len(rows[0]) - 1)}}}', r'\toprule',
                      lines[0], r'\midrule', *lines[1:], r'\bottomrule', r'\end{tabular}'])


def _plain(text: str) -> str:
    """On one line."""
    return ' '.join(text.split())


def _safe(text: str) -> str:
    """A cell that no program takes for a formula; numbers stay what they are."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.startswith(_FORMULAS) else text
    return text
