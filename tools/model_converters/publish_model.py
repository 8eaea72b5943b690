"""Make a checkpoint ready to be given away: its weights alone, in a file named by its own hash."""

import argparse
import sys

EXAMPLE = """example:
  python tools/model_converters/publish_model.py work_dirs/naive_lenet5_demo/exp_9.pth naive_lenet5_demo.pth

writes naive_lenet5_demo-<8 hex digits of its SHA-256>.pth, which tools/test.py, load_from and encoders read.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', metavar='IN', help='a checkpoint of ours, or any file of weights')
    parser.add_argument('out', metavar='OUT', help='file to write, .pth or .safetensors; its name gets the hash')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from pathlib import Path

    from clear.engine.publish import publish

    written = publish(args.checkpoint, args.out)
    before, after = Path(args.checkpoint).stat().st_size, written.stat().st_size
    print(f'wrote {written}, {after / 2**20:.2f} MiB of {before / 2**20:.2f} MiB')


if __name__ == '__main__':
    sys.exit(main())
