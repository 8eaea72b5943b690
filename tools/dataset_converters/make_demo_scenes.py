"""Write rendered scenes in the folder layouts of all data sets of the probing suite: what lies below `data/`."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_demo_scenes.py data/demo_scenes

Needs no network. The surfaces are photographs that come with scikit-image and scikit-learn. Classes, counts, motions of
the camera, depth, masks and optical flow are those of the rendered world. The same options write the same bytes.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--train', type=int, default=240, metavar='N',
                        help='samples to train on of each data set (default: 240), at least one of each class')
    parser.add_argument('--test', type=int, default=120, metavar='N', help='samples to test on (default: 120)')
    parser.add_argument('--size', type=int, default=64, metavar='PIXELS', help='height of the pictures (default: 64)')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes (default: 0)')
    parser.add_argument('--only', nargs='+', metavar='FOLDER', help='these layouts alone, e.g. pets CLEVR')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import progress_bar
    from clear.datasets.make.demo_scenes import write_demo_scenes

    with progress_bar('scenes', unit='samples') as report:
        write_demo_scenes(args.out, only=args.only, train=args.train, test=args.test, edge=args.size, seed=args.seed,
                          overwrite=args.overwrite, progress=report)
    print(f'rendered scenes in the layouts of the probing suite: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
