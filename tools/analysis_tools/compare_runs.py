"""Compare runs: their metrics as tables (terminal, CSV, Markdown, LaTeX), figures side by side, and one page."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/compare_runs.py work_dirs/naive_seed0 work_dirs/naive_seed1 work_dirs/replay --out compare
  python tools/analysis_tools/compare_runs.py work_dirs/naive_5_seeds work_dirs/replay_lr_sweep
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='a work_dir or its results.json; that of a run '
                        'with seeds or of a sweep stands for all runs in it')
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
    """Print one table per protocol; write tables, figures and page."""
    import shutil

    from clear.core.errors import DataError, printable
    from clear.engine.reports.find_runs import find_runs
    from clear.visualization.comparison import comparison_figures, data_note, group_runs, repeats_note
    from clear.visualization.exports import write_tables
    from clear.visualization.figures import write_figures
    from clear.visualization.report import write_report
    from clear.visualization.tables import format_comparison

    if args.out.exists() and not args.out.is_dir():
        raise DataError(f'--out {args.out} is a file; it should be a folder.')
    runs = find_runs(args.runs)
    results, sources = [run.results for run in runs], [run.source for run in runs]
    groups = group_runs(results, args.group_by, sources, [run.repeats for run in runs])
    width = shutil.get_terminal_size((120, 24)).columns
    if len(groups) > 1:
        print('These runs follow different protocols; their numbers are not comparable and stand in separate tables.\n')
    for members in groups.values():
        for note in filter(None, (data_note(members), repeats_note(members))):
            print(printable(f'{note}\n'))
    print(printable('\n\n'.join(format_comparison(members, width) for members in groups.values())))
    if args.dry_run:
        return
    paths = write_figures(comparison_figures(groups), args.out) + write_tables(groups, args.out)
    paths.append(write_report(results, args.out / 'report.html', sources=sources, groups=groups))
    print('\n' + '\n'.join(f'wrote {path}' for path in paths))


if __name__ == '__main__':
    sys.exit(main())
