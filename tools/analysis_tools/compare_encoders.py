"""Linear CKA between all blocks of pairs of encoders, over the images of a probing config."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/analysis_tools/compare_encoders.py configs/probing/random_resnet18_demo-b1.py --max-images 200

A block is the stem, one of the four stages, or the embedding; one encoder alone is compared with itself.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a probing config, or the name of a shipped one')
    parser.add_argument('--encoders', nargs='+', metavar='NAME', help='some of its encoders (default: all)')
    parser.add_argument('--data', metavar='PATH', help="in place of the config's data.test: an image folder, a list "
                        '(.txt) or a table (.csv, .parquet)')
    parser.add_argument('--out', type=Path, default=Path('encoder_blocks'), help='folder (default: ./encoder_blocks)')
    parser.add_argument('--max-images', type=int, help='the first so many images (default: all)')
    parser.add_argument('--batch-size', type=int, default=64, help='changes nothing but memory (default: 64)')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that read images (default: 0)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: compare(parse_args(argv)))


def compare(args: argparse.Namespace) -> int:
    from clear.engine.probing.blocks import run

    return run(args)


if __name__ == '__main__':
    sys.exit(main())
