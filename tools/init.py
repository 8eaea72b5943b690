"""Write a first config, a module of one's own and a README into a folder, and say what to run there."""

import argparse
import sys

EPILOG = """example:
  python tools/init.py my_project --kind pretraining

Nothing is asked, fetched or overwritten. Kinds:
  continual    one bucket of images after the other, measured on all of them, past and future
  pretraining  a self-supervised encoder, from images without labels
  alignment    an image tower and a text tower, from images with captions
  probing      a frozen encoder, measured by probes on its features
  evaluation   an image and a text encoder, measured together: zero-shot, retrieval, text
  curation     photos of your own, cut into time buckets
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='where to write; made if need be')
    parser.add_argument('--kind', default='continual', help='kind of run (default: continual)')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import printable
    from clear.engine.starter.write import write_starter

    print(printable(write_starter(args.folder, args.kind)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
