"""Check a CLEAR data set: every list, every image, overlaps and identical images."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/dataset_converters/check_clear.py data/clear10 --data-name clear10 --json check.json

exit code: 0 if the data are clean, 1 if problems were found, 2 if there is nothing to check
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data_root', type=Path, help='folder of the data set, in either CLEAR layout')
    parser.add_argument('--data-name', help='published set whose number of classes to expect, e.g. clear10')
    parser.add_argument('--fast', action='store_true', help='do not decode images (files are still read and compared)')
    parser.add_argument('--json', type=Path, metavar='OUT', help='also write the report, complete, as JSON')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from clear.core.errors import printable
    from clear.core.files import write_json
    from clear.datasets.make.check import check_tree, format_report

    report = check_tree(args.data_root, data_name=args.data_name, decode=not args.fast,
                        progress=lambda paths: tqdm(paths, unit='image', file=sys.stderr))
    print(printable(format_report(report)))
    if args.json is not None:
        write_json(args.json, report.as_dict())
        print(f'report: {args.json}')
    return 1 if report.problems else 0


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
