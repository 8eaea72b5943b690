"""Compare runs: a table of their metrics, figures side by side, and one report."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/compare_runs.py work_dirs/naive_seed0 work_dirs/naive_seed1 work_dirs/replay --out compare
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='a work_dir, or its results.json')
    parser.add_argument('--out', type=Path, default=Path('compare'), help='folder to write (default: ./compare)')
    parser.add_argument('--group-by', choices=('name', 'none'), default='name',
                        help='name: runs of one config name with different seeds become mean ± sample std (n); '
                             'none: every run on its own (default: name)')
    parser.add_argument('--dry-run', action='store_true', help='print the tables, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: compare(parse_args(argv)))


def compare(args: argparse.Namespace) -> None:
    """Print one table per protocol and write figures and report."""
    import shutil

    from clear.continual.journal import read_run
    from clear.core.errors import DataError, printable
    from clear.core.results import find_results
    from clear.visualization.comparison import comparison_figures, group_runs
    from clear.visualization.figures import write_figures
    from clear.visualization.report import write_report
    from clear.visualization.tables import format_comparison

    if args.out.exists() and not args.out.is_dir():
        raise DataError(f'--out {args.out} is a file; it should be a folder.')
    paths = [find_results(run) for run in args.runs]
    if len({path.resolve() for path in paths}) < len(paths):
        raise DataError('A run is named twice; each counts once: ' + ', '.join(map(str, paths)))
    results = [read_run(path) for path in paths]
    groups = group_runs(results, args.group_by, args.runs)
    width = shutil.get_terminal_size((120, 24)).columns
    if len(groups) > 1:
        print('These runs follow different protocols; their numbers are not comparable and stand in separate tables.\n')
    print(printable('\n\n'.join(format_comparison(members, width) for members in groups.values())))
    if args.dry_run:
        return
    figures = write_figures(comparison_figures(groups), args.out)
    report = write_report(results, args.out / 'report.html', group_by=args.group_by, sources=args.runs,
                          figures=figures)
    print('\n' + '\n'.join(f'wrote {path}' for path in [*figures, report]))


if __name__ == '__main__':
    sys.exit(main())
