"""Draw the figures and the report of a run again, from its results.json."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/make_report.py work_dirs/clear10_naive
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', metavar='RUN', help='a work_dir, or its results.json')
    parser.add_argument('--out', type=Path, help='folder for figures/*.png and report.html (default: the work_dir)')
    parser.add_argument('--dry-run', action='store_true', help='print the tables, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: make_report(parse_args(argv)))


def make_report(args: argparse.Namespace) -> None:
    """Print the matrix and the metrics, then write figures and report."""
    from clear.continual.journal import read_run
    from clear.core.errors import DataError, printable
    from clear.core.results import find_results
    from clear.visualization.figures import run_figures, write_figures
    from clear.visualization.probing import DRAWN_IN_PAGE, probe_figures
    from clear.visualization.report import write_report
    from clear.visualization.tables import format_matrix, format_metrics

    path = find_results(args.run)
    out = args.out or path.parent
    if out.exists() and not out.is_dir():
        raise DataError(f'--out {out} is a file; it should be a folder.')
    results = read_run(path)
    print(printable(f'{results.name}, protocol {results.protocol}'))
    if results.acc_matrix is not None:
        print(printable(format_matrix(results.acc_matrix, results.bucket_names)))
    print(printable(format_metrics(results.metrics)))
    if args.dry_run:
        return
    figures = write_figures({**run_figures(results), **probe_figures(results)}, out / 'figures')
    # What tasks of a probing run had drawn needs their data; it lies there.
    left = sorted((path.parent / 'figures').glob('*.png')) if results.runner == 'ProbeRunner' else []
    shown = {file.name: file for file in [*left, *figures] if results.runner == 'ProbeRunner'
             and file.stem not in DRAWN_IN_PAGE}
    report = write_report(results, out / 'report.html', figures=list(shown.values()), date=path.stat().st_mtime)
    print('\n'.join(f'wrote {path}' for path in [*figures, report]))


if __name__ == '__main__':
    sys.exit(main())
