"""Encode a data set into a feature bank."""

import argparse
import sys

EPILOG = """example:
  python tools/extract_features.py configs/features/resnet18_demo.py --out work_dirs/demo_bank

The config holds encoder=dict(type=...), data=dict(type=...), and if wanted dtype, batch_size, block_size, maps,
num_workers, device, threads, max_bad_fraction, out. A stopped extraction goes on when the same command runs again.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--encoder', metavar='NAME', help="in place of the config's: TYPE:ARCH, e.g. "
                        'TimmEncoder:resnet18 (random weights), or a config file with encoder=dict(...)')
    parser.add_argument('--data', metavar='PATH', help="in place of the config's: a CLEAR tree, an image folder, a "
                        'list (.txt), a table (.csv, .parquet), or a config file with data=dict(...)')
    parser.add_argument('--out', metavar='BANK', help='folder of the bank (default: below work_dirs/banks, named by '
                        'its fingerprint, where training configs find it)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=True,
                        help='--no-resume throws unfinished work away')
    parser.add_argument('--overwrite', action='store_true', help='replace another bank at BANK')
    parser.add_argument('--dry-run', action='store_true', help='print what would happen, encode nothing')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields, e.g. '
                        'batch_size=16 data.data_root=data/clear10')
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: extract(parse_args(argv)))


def extract(args: argparse.Namespace) -> int:
    from clear.features.program import run

    return run(args)


if __name__ == '__main__':
    sys.exit(main())
