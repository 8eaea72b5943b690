"""One self-contained HTML page about a run, or about several runs side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.results import Results
from clear.visualization.comparison import RunGroup, comparison_figures, group_runs, group_value, metric_names
from clear.visualization.figures import run_figures, to_png
from clear.visualization.page import figure_of, table_row, write_page
from clear.visualization.tables import MISSING, OVERLAP_NOTE, format_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clear.core.types import Plain

def write_report(results: Results | Sequence[Results], path: str | Path, *, group_by: str = 'name',
                 sources: Sequence[str] | None = None, figures: Sequence[Path] | None = None) -> Path:
    """Write the page, atomically. Several results get a comparison with its figures, then a section of tables each.

    Args:
        group_by, sources: as `by` and `sources` of `group_runs`, used when there are several results.
        figures: PNG files to embed, as `draw_figures` returned them for these results; None draws them.

    Returns:
        `path`.

    Raises:
        ValueError: if there are no results.
        DataError: if runs that should be grouped are no repeats of each other.
    """
    runs = [results] if isinstance(results, Results) else list(results)
    if not runs:
        raise ValueError('A report needs the results of at least one run, got none.')
    if len(runs) == 1:
        title = runs[0].name
        body = [_run_section(runs[0], _images(figures, lambda: run_figures(runs[0])))]
    else:
        title, groups = f'Comparison of {len(runs)} runs', group_runs(runs, group_by, sources)
        body = [f'<h1>{title}</h1>', _comparison(groups, _images(figures, lambda: comparison_figures(groups)))]
        body += [_run_section(run, {}, sources[k] if sources else None) for k, run in enumerate(runs)]
    return write_page(title, body, path)


def _run_section(run: Results, images: Mapping[str, bytes], source: str | None = None) -> str:
    """Everything about one run."""
    facts = {'protocol': run.protocol, 'runner': run.runner, 'seeds': run.seeds, 'config hash': run.config_hash,
             'processes': run.world_size, 'joint training': 'yes' if run.joint else None, 'source': source}
    parts = [f'<section>\n<h1>{escape(run.name)}</h1>', _unfinished_note(run),
             _facts_table({key: value for key, value in facts.items() if value is not None}),
             '<h2>Metrics</h2>', _metrics_tables(run.metrics)]
    if run.acc_matrix is not None:
        parts += ['<h2>Accuracy matrix</h2>', _matrix_table(run)]
    parts += [figure_of(stem, png) for stem, png in images.items()]
    if run.extras.get('config_text'):
        parts += ['<h2>Config</h2>', f'<pre>{escape(str(run.extras["config_text"]))}</pre>']
    others = {key: value for key, value in run.extras.items() if key not in ('config_text', 'bucket_names')}
    for title, table in (('Versions', run.versions), ('Git', run.git), ('Timing', run.timing), ('Further', others)):
        if table:
            parts += [f'<h2>{title}</h2>', _facts_table(table)]
    return '\n'.join(part for part in parts if part) + '\n</section>'


def _unfinished_note(run: Results) -> str:
    if run.progress is None or run.progress[0] == run.progress[1]:
        return ''
    return f'<p class="warning">Unfinished: {run.progress[0]} of {run.progress[1]} buckets measured.</p>'


def _metrics_tables(metrics: Mapping[str, Plain]) -> str:
    """The headline table, and below it, marked, what measures training data."""
    headline = {key: value for key, value in metrics.items() if key != 'train_overlap' and value is not None}
    overlapped = {key: value for key, value in (metrics.get('train_overlap') or {}).items() if value is not None}
    parts = [_facts_table(headline) if headline else '<p>None is complete yet.</p>']
    if overlapped:
        parts += [f'<h3>Not comparable: each of these {OVERLAP_NOTE}</h3>',
                  '<div class="warning"><p>Under this protocol a bucket is tested on the images it was trained on, '
                  'so these are no test accuracies.</p>', _facts_table(overlapped), '</div>']
    return '\n'.join(parts)


def _matrix_table(run: Results) -> str:
    """The accuracy matrix as a table with row and column headers."""
    names = run.bucket_names
    row_names = names if len(run.acc_matrix) == len(names) else ['all'] * len(run.acc_matrix)
    mask = run.overlap_mask or [[False] * len(names)] * len(run.acc_matrix)
    lines = ['<div class="scroll"><table class="matrix">', '<caption>rows: trained through bucket; columns: tested on '
             'bucket</caption>', table_row('th', ['bucket', *names], scope='col')]
    for name, values, masked in zip(row_names, run.acc_matrix, mask):
        cells = [f'<td class="number{_cell_class(value, overlap)}">{format_value(value)}</td>'
                 for value, overlap in zip(values, masked)]
        lines.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    note = f'<p>Striped, in italics: {OVERLAP_NOTE}.</p>' if any(map(any, mask)) else ''
    return '\n'.join([*lines, '</table></div>', note])


def _cell_class(value: float | None, overlap: bool) -> str:
    if value is None:
        return ' missing'
    return ' overlap' if overlap else ''


def _comparison(groups: Mapping[str, Sequence[RunGroup]], images: Mapping[str, bytes]) -> str:
    """A table per protocol, then the figures. Numbers of different protocols never share a table."""
    parts = []
    if len(groups) > 1:
        parts.append('<p class="warning">These runs follow different protocols. Their numbers are not comparable and '
                     'stand in separate tables.</p>')
    for protocol, members in groups.items():
        parts += [f'<h2>Protocol {escape(protocol)}</h2>', '<p>Repeats with different seeds: mean ± sample standard '
                  'deviation (number of runs).</p>', _comparison_table(members, False)]
        if metric_names(members, overlapped=True):
            parts += [f'<h3>Not comparable with held-out accuracy: each of these {OVERLAP_NOTE}</h3>',
                      f'<div class="warning">{_comparison_table(members, True)}</div>']
    return '\n'.join([*parts, *(figure_of(stem, png) for stem, png in images.items())])


def _comparison_table(groups: Sequence[RunGroup], overlapped: bool) -> str:
    names = metric_names(groups, overlapped)
    lines = [table_row('th', ['run', 'buckets', *names], scope='col')]
    for group in groups:
        cells = ''.join(f'<td class="number">{group_value(group, name, overlapped)}</td>' for name in names)
        lines.append(f'<tr><th scope="row">{escape(group.label)}</th><td>{escape(group.progress)}</td>{cells}</tr>')
    return '<div class="scroll"><table>\n' + '\n'.join(lines) + '\n</table></div>'


def _facts_table(facts: Mapping[str, object]) -> str:
    """Keys and values in two columns."""
    lines = [f'<tr><th scope="row">{escape(str(key))}</th><td>{escape(_fact(value))}</td></tr>'
             for key, value in facts.items()]
    return '<div class="scroll"><table>\n' + '\n'.join(lines) + '\n</table></div>'


def _fact(value: object) -> str:
    """A value as readable text: nested dicts on one line, floats with three decimals."""
    if isinstance(value, dict):
        return ', '.join(f'{key}: {_fact(item)}' for key, item in value.items()) or MISSING
    if isinstance(value, list):
        return ', '.join(map(_fact, value)) or MISSING
    return json.dumps(value) if isinstance(value, bool) else format_value(value)


def _images(files: Sequence[Path] | None, draw: Callable[[], Mapping[str, Figure]]) -> dict[str, bytes]:
    """Stem -> PNG: of the given files, else drawn now."""
    if files is not None:
        return {Path(file).stem: Path(file).read_bytes() for file in files}
    return {stem: to_png(figure) for stem, figure in draw().items()}
