"""Classify images with a trained checkpoint."""

import argparse
import sys

EXAMPLE = """example:
  python tools/predict.py configs/demo/naive_lenet5_demo.py work_dirs/naive_lenet5_demo/latest.pth \\
      data/demo/labeled_images/10/seven 'data/demo/labeled_images/9/*/*.jpg' --out predictions.csv
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('checkpoint', help='exp_<i>.pth or latest.pth of a run, or a file of weights')
    parser.add_argument('images', nargs='+', help='image files, folders, or quoted patterns; of a run on features '
                        'files of features (.npy) too')
    parser.add_argument('--top', type=int, default=3, help='how many classes per image (default: 3)')
    parser.add_argument('--out', metavar='FILE', help='write them to FILE (.csv or .json) in place of printing')
    parser.add_argument('--batch-size', type=int, help="images of one forward pass (default: the config's evaluation)")
    parser.add_argument('--max-bad-fraction', type=float, default=0.01, metavar='SHARE',
                        help='share of files that may be unreadable; they are left out and listed (default: 0.01)')
    parser.add_argument('--task', type=int, help='which head answers, of a model with one for each task')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.engine.launch import predict

    return predict(args)


if __name__ == '__main__':
    sys.exit(main())
