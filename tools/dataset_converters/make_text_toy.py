"""Write small files in the layouts of the text tasks: made-up sentences about six places of everyday life."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_text_toy.py data/text_toy

Needs no network. Scored pairs of sentences and of words, triplets, passages with questions, opinions of films, and a
table of sentences and their places; 50 KB. They serve configs/evaluation/language_toy_demo.py.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--seed', type=int, default=0, help='of what is drawn (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.datasets.make.writing import new_folder
    from clear.evaluation.text.toy import write_toy_texts

    with new_folder(args.out, replace=args.overwrite) as folder:
        write_toy_texts(folder, args.seed)
    print(f'small files in the layouts of the text tasks: {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
