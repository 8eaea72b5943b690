"""Compare banks with an encoder: encode some of their images again; those that agree count as verified."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/curation/verify_features.py work_dirs/b0 --encoder configs/_base_/encoders/clip_rn101.py \\
      --images data/yfcc --cfg-options encoder.allow_network=True

A bank that was imported names its model, and nothing shows that it is of it until images agree (cosine above .999).
With --dry-run the cosines are printed and nothing is noted. Exit code 2 if they do not agree.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('banks', type=Path, nargs='+', metavar='BANK')
    parser.add_argument('--encoder', required=True, metavar='CONFIG', help='a config file with encoder=dict(type=...)')
    parser.add_argument('--images', required=True, type=Path, help="the folder that the banks' paths are relative to, "
                        'or a config file with data=dict(type=...), in which images are found by id')
    parser.add_argument('--count', type=int, default=32, help='images of each bank')
    parser.add_argument('--dry-run', action='store_true', help='compare, and note nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help="override fields of the encoder's config")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: verify(parse_args(argv)))


def verify(args: argparse.Namespace) -> int:
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.errors import ConfigError
    from clear.curation.legacy.agreement import agreement, verify_bank
    from clear.datasets import read_images
    from clear.features import FeatureBank
    from clear.features.build import make_encoder

    banks = [FeatureBank.open(path) for path in args.banks]
    parts = {}
    for key, path, options in (('encoder', args.encoder, parse_options(args.cfg_options)), ('data', args.images, {})):
        if Path(path).suffix == '.py':
            parts[key] = load_config(str(path), options)[0].to_dict().get(key)
            if not isinstance(parts[key], dict):
                raise ConfigError(f'{path} has no {key}=dict(type=...).')
    if 'encoder' not in parts:
        raise ConfigError(f'--encoder is {args.encoder}; expected a config file with encoder=dict(type=...).')
    encoder = make_encoder(parts['encoder'])
    images = read_images(parts['data']) if 'data' in parts else args.images
    for bank in banks:
        found = (agreement if args.dry_run else verify_bank)(bank, encoder, images, args.count)
        noted = 'dry run: nothing was noted' if args.dry_run else 'verified'
        print(f'{bank.path}: {found.describe()}; {noted}')
        if not found.holds:
            return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
