"""Make a data set from a photo stream, stage after stage."""

import argparse
import sys

EXAMPLE = """example:
  python tools/curate.py configs/curation/yfcc_metadata_11buckets.py --dry-run
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', help='where stages lie (default: work_dirs/<name of the config>)')
    parser.add_argument('--stages', type=lambda text: text.split(','), metavar='A,B',
                        help='run these stages only (default: all)')
    parser.add_argument('--resume', action='store_true', help='go on with what the work_dir holds')
    parser.add_argument('--overwrite', action='store_true', help='make these stages anew')
    parser.add_argument('--dry-run', action='store_true', help='say what would happen, make nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields, e.g. num_workers=8')
    parser.set_defaults(launcher='none')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.engine.launch import read_run_config, train

    if 'stages' not in read_run_config(args):
        raise ConfigError(f'{args.config} has no stages; tools/train.py runs it.')
    return train(args)


if __name__ == '__main__':
    sys.exit(main())
