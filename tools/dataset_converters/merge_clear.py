"""Merge the official train and test folders of CLEAR into one tree in the old layout (hard links where possible)."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/merge_clear.py data/clear10/train data/clear10/test data/clear10_merged

The official split becomes training_folder/testset_ratio_0.3/split_0, so configs use seed 0.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('train', type=Path, metavar='TRAIN', help='official train folder')
    parser.add_argument('test', type=Path, metavar='TEST', help='official test folder')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import progress_bar
    from clear.datasets.make.merge import merge_official

    with progress_bar('merge', 'images') as progress:
        summary = merge_official(args.train, args.test, args.out, overwrite=args.overwrite, progress=progress)
    if summary.skipped:
        print(f'left out, because only one of the two folders has them: buckets {", ".join(summary.skipped)}')
    print(f'{args.out}: old layout, {len(summary.buckets)} buckets, {summary.num_train} training and '
          f'{summary.num_test} test images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
