"""Write a small data set of real images in the layout of CLEAR: handwritten digits that drift over ten buckets."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_demo_clear.py data/demo_clear

Needs no network: the digits ship with scikit-learn. About 18,000 images, 75 MB on most disks.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--layout', choices=('old', 'new'), default='old',
                        help='old: training_folder/ with a split per seed; new: train/ and test/ (default: old)')
    parser.add_argument('--seeds', type=int, nargs='+', metavar='SEED',
                        help='seeds of the splits of the old layout (default: 0 1 2 3 4)')
    parser.add_argument('--limit', type=int, metavar='N', help='use only the first N of the 1797 digits')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import progress_bar
    from clear.datasets.make.demo import write_demo

    with progress_bar('demo images', 'images') as progress:
        written = write_demo(args.out, args.layout, seeds=args.seeds, limit=args.limit, overwrite=args.overwrite,
                             progress=progress)
    state = 'written' if written else 'already complete, left as it is'
    print(f'{args.layout} layout, ten buckets of handwritten digits: {args.out} ({state})')
    return 0


if __name__ == '__main__':
    sys.exit(main())
