"""Tables and figures of many encoders on many tasks, from the results.csv of one probing run or several."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/probing_figures.py work_dirs/virb_a work_dirs/virb_b --reference imagenet --out figures
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='a work_dir, or its results.csv')
    parser.add_argument('--out', type=Path, default=Path('probing_figures'),
                        help='folder to write (default: ./probing_figures)')
    parser.add_argument('--reference', metavar='TASK', help='what others are drawn against (default: imagenet)')
    parser.add_argument('--supervised', metavar='ENCODER', help='the encoder that the best ones are compared with '
                        "(default: the only one of method 'supervised')")
    parser.add_argument('--metric', action='append', default=[], metavar='TASK=METRIC',
                        help='what stands for a task (default: the metric that it reports); may be repeated')
    parser.add_argument('--seed', type=int, default=0, help='of the bootstrap (default: 0)')
    parser.add_argument('--dry-run', action='store_true', help='print the tables, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: draw(parse_args(argv)))


def draw(args: argparse.Namespace) -> None:
    """Print the tables and write them with the figures and a page."""
    from clear.core.errors import DataError, printable
    from clear.visualization.suites.page import (
        asked_metrics,
        format_rows,
        reference_of,
        suite_tables,
        supervised_of,
        write_suite,
    )
    from clear.visualization.suites.scores import read_scores

    if args.out.exists() and not args.out.is_dir():
        raise DataError(f'--out {args.out} is a file; it should be a folder.')
    scores = read_scores(args.runs, asked_metrics(args.metric))
    reference, supervised = reference_of(scores, args.reference), supervised_of(scores, args.supervised)
    tables = suite_tables(scores, reference, supervised, args.seed)
    print(printable('\n\n'.join(f'{name}\n{format_rows(rows)}' for name, rows in tables.items() if len(rows) > 1)))
    if not args.dry_run:
        print('\n' + '\n'.join(f'wrote {path}' for path in
                               write_suite(scores, reference, supervised, args.out, args.seed)))


if __name__ == '__main__':
    sys.exit(main())
