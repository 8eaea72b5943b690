"""Write two small drawn sets in the storage of ELEVATER: index files, class names, zip archives."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_elevater_toy.py data/elevater_toy

Needs no network. `toy-colours` has three classes, 30 images to train on and 30 to test on; `toy-corners` four, any of
which an image may show, 66 and 66. 200 KB. They serve configs/evaluation/elevater_toy_demo.py.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--seed', type=int, default=0, help='of the drawing (default: 0)')
    parser.add_argument('--coco', action='store_true', help='write the indices as COCO JSON')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.datasets.make.writing import new_folder
    from clear.datasets.readers.elevater.toy import write_toy_sets

    with new_folder(args.out, replace=args.overwrite) as folder:
        write_toy_sets(folder, args.coco, args.seed)
    print(f'two small sets in the storage of ELEVATER: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
