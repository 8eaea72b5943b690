"""Write drawn scenes with questions, answers, captions and hypotheses, in the layouts of VQA v2 and SNLI-VE."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_scenes.py data/scenes

Needs no network. 480 scenes to train on and 12 to test on, 5 MB on most disks.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--per-kind', type=int, default=10, metavar='N',
                        help='scenes to train on of each colour, shape and number (default: 10)')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.datasets.make.scenes import write_scenes

    write_scenes(args.out, per_kind=args.per_kind, overwrite=args.overwrite)
    print(f'drawn scenes in the layouts of VQA v2 and SNLI-VE: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
