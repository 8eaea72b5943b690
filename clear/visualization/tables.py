"""Tables for the terminal: the accuracy matrix, the metrics of a run, runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from clear.visualization.comparison import RunGroup, group_value, metric_names, number_text

if TYPE_CHECKING:
    from clear.core.types import Plain

MISSING = '-'
OVERLAP_NOTE = 'measures training data'
_MAX_LABEL = 12
_MAX_COLUMN = 7


def format_matrix(acc_matrix: Sequence[Sequence[float | None]], bucket_names: Sequence[object] | None = None) -> str:
    """The accuracy matrix in fixed width: at most 100 columns of text for 11 buckets.

    Args:
        acc_matrix: rows = trained through bucket i, columns = tested on bucket j, None where not measured.
        bucket_names: names of the columns (and of the rows of a square matrix), shortened where they are long;
            1, 2, ... if None.
    """
    columns = len(acc_matrix[0])
    names = [str(name) for name in (bucket_names or range(1, columns + 1))]
    row_names = names if len(acc_matrix) == columns else ['all'] * len(acc_matrix)
    label_width = max(len(name) for name in [*map(_label, row_names), 'bucket'])
    column_width = max(5, min(_MAX_COLUMN, max(map(len, names))))
    lines = ['accuracy: rows = trained through bucket, columns = tested on bucket',
             ' '.join(['bucket'.ljust(label_width), *(shorten(name, column_width).rjust(column_width)
                                                      for name in names)])]
    for name, row in zip(row_names, acc_matrix):
        lines.append(' '.join([_label(name).ljust(label_width),
                               *(format_value(value).rjust(column_width) for value in row)]))
    return '\n'.join(lines)


def format_metrics(metrics: Mapping[str, Plain]) -> str:
    """One line per metric, `in_domain 0.912`; None is left out.

    Metrics in `train_overlap` measure training data; their lines start with `train_overlap` and say so, so that
    neither a reader nor a `grep '^in_domain'` takes them for test accuracy.
    """
    lines = [f'{name} {format_value(value)}' for name, value in metrics.items()
             if name != 'train_overlap' and value is not None]
    for name, value in (metrics.get('train_overlap') or {}).items():
        if value is not None:
            lines.append(f'train_overlap {name} {format_value(value)} ({OVERLAP_NOTE})')
    return '\n'.join(lines)


def format_comparison(groups: Sequence[RunGroup], width: int = 120) -> str:
    """Runs x metrics of one protocol; mean ± sample std (number of runs) for repeats.

    A second part shows what measures training data, if anything does. Metrics that do not fit into `width`
    continue below, under the same run names.
    """
    parts = [f'protocol {groups[0].protocol}', _comparison_blocks(groups, metric_names(groups), False, width)]
    overlapped = metric_names(groups, overlapped=True)
    if overlapped:
        parts += [f'not comparable with held-out accuracy: each of these {OVERLAP_NOTE}',
                  _comparison_blocks(groups, overlapped, True, width)]
    return '\n'.join(parts)


def format_value(value: object) -> str:
    """Three decimals for a float of common size, a dash for None, anything else as it is."""
    if value is None:
        return MISSING
    return number_text(value) if isinstance(value, float) else str(value)


def shorten(text: str, width: int) -> str:
    """`text` cut to `width` characters, the cut marked."""
    return text if len(text) <= width else f'{text[:width - 1]}…'


def _label(name: str) -> str:
    return shorten(name, _MAX_LABEL)


def _comparison_blocks(groups: Sequence[RunGroup], names: Sequence[str], overlapped: bool, width: int) -> str:
    fixed = [_column('run', [group.label for group in groups]),
             _column('buckets', [group.progress for group in groups])]
    columns = [_column(name, [group_value(group, name, overlapped) for group in groups], right=True) for name in names]
    blocks, block = [], list(fixed)
    for column in columns:
        if len(block) > len(fixed) and sum(len(item[0]) + 2 for item in [*block, column]) > width:
            blocks.append(block)
            block = list(fixed)
        block.append(column)
    return '\n\n'.join('\n'.join('  '.join(cells).rstrip() for cells in zip(*item)) for item in [*blocks, block])


def _column(title: str, cells: Sequence[str], right: bool = False) -> list[str]:
    """Title and cells, padded to one width."""
    width = max(len(cell) for cell in [title, *cells])
    return [cell.rjust(width) if right else cell.ljust(width) for cell in [title, *cells]]
