"""Count multiply-adds, activations and parameters of the model of a config; no data and no weights are read."""

import argparse
import sys

EXAMPLE = """example:
  python tools/analysis_tools/get_flops.py configs/clear10/naive_resnet18_1x64-step-70e_clear10.py --shape 224
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--shape', type=int, nargs='+', metavar='N', help='side, or height and width, or channels, '
                        'height and width (default: 224; of a head on stored features what it takes)')
    parser.add_argument('--table', action='store_true', help='also print every module')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.logs import setup_logging
    from clear.engine.inspection.complexity import read_complexity
    from clear.engine.launch import read_run_config

    setup_logging(None)
    found = read_complexity(read_run_config(args), args.shape)
    if args.table:
        print(found.table.strip())
    print(f'input        1 x {" x ".join(map(str, found.shape))}, {found.part}\n'
          f'flops        {found.flops / 1e9:.4g} G multiply-adds\n'
          f'activations  {found.activations / 1e6:.4g} M\n'
          f'parameters   {found.parameters:,}, {found.trained:,} trained (of the whole model)')
    if found.uncounted:
        print(f'not counted  {", ".join(found.uncounted)}')


if __name__ == '__main__':
    sys.exit(main())
