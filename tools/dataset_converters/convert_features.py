"""Convert stored features: a CLEAR tree's .pth files into a bank, or a bank into the .pth files of a CLEAR tree."""

import argparse
import sys
from pathlib import Path

EPILOG = """examples:
  python tools/dataset_converters/convert_features.py data/clear10 work_dirs/moco_bank --to bank --feature-type moco_b0
  python tools/dataset_converters/convert_features.py work_dirs/demo_bank data/demo --to old --feature-type resnet18

With --to old or --to new, OUT is a CLEAR tree in that layout, whose lists say which image is where; the features are
added to it and read with scenario.feature_type.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, metavar='IN', help='a CLEAR tree with features, or a bank')
    parser.add_argument('out', type=Path, metavar='OUT', help='the bank to write, or the CLEAR tree to add to')
    parser.add_argument('--to', choices=('bank', 'old', 'new'), required=True)
    parser.add_argument('--feature-type', help='which features; may be left out if IN has one type only')
    parser.add_argument('--dtype', choices=('float32', 'float16'), default='float32', help='of the bank')
    parser.add_argument('--overwrite', action='store_true', help='replace the bank at OUT')
    parser.add_argument('--dry-run', action='store_true', help='print what would happen, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: convert(parse_args(argv)))


def convert(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.features import FeatureBank, export_legacy, import_legacy

    if args.to == 'bank':
        print(f'{args.source}: features {args.feature_type or "(the only type)"} into the bank {args.out}')
        if args.dry_run:
            return 0
        bank = import_legacy(args.source, args.out, feature_type=args.feature_type, dtype=args.dtype,
                             overwrite=args.overwrite)
        print(f'{len(bank)} x {bank.dim} {args.dtype}\nbank {args.out}')
        return 0
    if not args.feature_type:
        raise ConfigError(f'--to {args.to} needs --feature-type, the name under which configs find the features.')
    bank = FeatureBank.open(args.source)
    print(f"{bank} into {args.out} ({args.to} layout) as features '{args.feature_type}'")
    if not args.dry_run:
        files = export_legacy(bank, args.out, feature_type=args.feature_type, layout=args.to)
        print(f'wrote {len(files)} files')
    return 0


if __name__ == '__main__':
    sys.exit(main())
