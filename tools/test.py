"""Evaluate a checkpoint on the test set of every bucket, without training."""

import argparse
import sys

EXAMPLE = """example:
  python tools/test.py configs/demo/naive_lenet5_demo.py work_dirs/naive_lenet5_demo/exp_9.pth --out accuracy.json
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('checkpoint', help='exp_<i>.pth or latest.pth of a run, or a file of weights')
    parser.add_argument('--out', metavar='JSON', help='also write the accuracies to this file')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.engine.launch import test

    return test(args)


if __name__ == '__main__':
    sys.exit(main())
