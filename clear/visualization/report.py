"""One self-contained HTML page about a run, or about several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clear.core.results import Results
from clear.visualization.comparison import RunGroup, group_runs
from clear.visualization.html.one_run import run_page
from clear.visualization.html.several_runs import comparison_page
from clear.visualization.page import figure_of, write_page


def write_report(results: Results | Sequence[Results], path: str | Path, *, group_by: str = 'name',
                 sources: Sequence[str] | None = None, figures: Sequence[Path] = (), date: float | None = None,
                 groups: Mapping[str, Sequence[RunGroup]] | None = None) -> Path:
    """Write the page, atomically. Several results get a comparison, then what is known of each run.

    Matrices and curves are drawn in the page itself, so that they follow its theme.

    Args:
        group_by, sources: as `by` and `sources` of `group_runs`, used when there are several results.
        figures: PNG files to embed beside.
        date: when the results of a single run were written, in seconds since 1970.
        groups: of several results, where they are grouped already.

    Returns:
        `path`.

    Raises:
        ValueError: if there are no results.
        DataError: if runs that should be grouped are no repeats of each other.
    """
    runs = [results] if isinstance(results, Results) else list(results)
    if not runs:
        raise ValueError('A report needs the results of at least one run, got none.')
    images = [figure_of(Path(file).stem, Path(file).read_bytes()) for file in figures]
    if len(runs) == 1:
        return write_page(runs[0].name, run_page(runs[0], images, date), path)
    title = f'{len(runs)} runs'
    groups = groups or group_runs(runs, group_by, sources)
    return write_page(f'Comparison of {title}', comparison_page(title, groups, runs, sources, images), path)
