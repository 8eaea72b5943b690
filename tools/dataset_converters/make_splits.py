"""Write the train/test splits, or the few-shot splits, that a CLEAR folder in the old layout lacks."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_splits.py data/mine --seeds 0 1 2 3 4 --shots 1 5

Both are drawn per bucket and class. Without --shots train/test splits are written, with it few-shot splits: that many
images of every class to train on, all others to test on. They are chosen with scenario.seed and scenario.shot.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, metavar='ROOT', help='CLEAR folder in the old layout')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4], metavar='SEED',
                        help='default: 0 1 2 3 4')
    parser.add_argument('--shots', type=int, nargs='+', default=[], metavar='K', help='few-shot splits of these sizes')
    parser.add_argument('--test-ratio', type=float, default=0.3, metavar='SHARE', help='default: %(default)s')
    parser.add_argument('--legacy', action='store_true',
                        help="the permutations of CLEAR's helper script: one seed for every class")
    parser.add_argument('--whole-buckets', action='store_true',
                        help="draw from all images of a bucket, not per class, as CLEAR's published splits were")
    parser.add_argument('--overwrite', action='store_true', help='replace splits that exist')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.datasets.make.make_splits import write_missing_splits

    written = write_missing_splits(args.root, seeds=args.seeds, shots=args.shots, test_ratio=args.test_ratio,
                                   legacy=args.legacy, per_class=not args.whole_buckets,
                                   overwrite=args.overwrite)
    print('\n'.join(str(folder) for folder in written))
    return 0


if __name__ == '__main__':
    sys.exit(main())
