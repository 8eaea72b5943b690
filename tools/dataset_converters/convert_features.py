"""Convert stored features: those of a CLEAR tree or of an earlier curation into a bank, or a bank into them."""

import argparse
import sys
from pathlib import Path

EPILOG = """examples:
  python tools/dataset_converters/convert_features.py data/clear10 work_dirs/moco_bank --to bank --feature-type moco_b0
  python tools/dataset_converters/convert_features.py work_dirs/demo_bank data/demo --to old --feature-type resnet18
  python tools/dataset_converters/convert_features.py data/yfcc/bucket_11/0 work_dirs/b0 --to bank --feature-type RN101
  python tools/dataset_converters/convert_features.py work_dirs/b0 data/yfcc/bucket_11/0 --to curation \\
      --feature-type RN101

With --to old or --to new, OUT is a CLEAR tree in that layout, whose lists say which image is where; the features are
added to it and read with scenario.feature_type. The folder of a bucket of an earlier curation has
features_<MODEL>.json (or .pickle) and features_<MODEL>/features_<i>_{original,normalized}.npy; --feature-type is the
model. A bank of it counts as unverified until tools/curation/verify_features.py has compared images.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, metavar='IN',
                        help="a CLEAR tree with features, a bucket's folder, or a bank")
    parser.add_argument('out', type=Path, metavar='OUT', help="the bank to write, or the CLEAR tree or bucket's "
                        'folder to add to')
    parser.add_argument('--to', choices=('bank', 'old', 'new', 'curation'), required=True)
    parser.add_argument('--feature-type', help='which features; may be left out if IN has one type only')
    parser.add_argument('--dtype', choices=('float32', 'float16'), help="of the bank (default: float32, of a "
                        "curation's features their own)")
    parser.add_argument('--images', type=Path, help='of a curation: the folder that its images are below now; the '
                        'paths of the bank are relative to it')
    parser.add_argument('--old-root', help='where that folder was, if that cannot be found by looking')
    parser.add_argument('--bucket', help='with --to curation, where IN is the folder of a stage of features: of which '
                        'bucket')
    parser.add_argument('--records', type=Path, help='with --to curation: bucket_<b>.json, whose records and order are '
                        'taken')
    parser.add_argument('--overwrite', action='store_true', help='replace the bank, or the features of a curation')
    parser.add_argument('--dry-run', action='store_true', help='print what would happen, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: convert(parse_args(argv)))


def convert(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.features import export_legacy, import_legacy

    if args.to == 'bank':
        print(f'{args.source}: features {args.feature_type or "(the only type)"} into the bank {args.out}')
        if args.dry_run:
            return 0
        if any(args.source.glob('features_*.json')) or any(args.source.glob('features_*.pickle')):
            bank = from_curation(args)
        else:
            bank = import_legacy(args.source, args.out, feature_type=args.feature_type, dtype=args.dtype or 'float32',
                                 overwrite=args.overwrite)
        print(f'{len(bank)} x {bank.dim} {bank.meta["dtype"]}\nbank {args.out}')
        return 0
    if not args.feature_type:
        raise ConfigError(f'--to {args.to} needs --feature-type, the name under which configs find the features.')
    banks = banks_in(args)
    print(f"{', '.join(map(str, banks))} into {args.out} ({args.to} layout) as features '{args.feature_type}'")
    if args.dry_run:
        return 0
    if args.to == 'curation':
        from clear.curation.legacy.feature_banks import export_features

        files = export_features(banks, args.out, args.feature_type, records=args.records, image_dir=args.images,
                                overwrite=args.overwrite)
    else:
        files = export_legacy(banks[0], args.out, feature_type=args.feature_type, layout=args.to)
    print(f'wrote {len(files)} files')
    return 0


def banks_in(args: argparse.Namespace) -> list:
    """The bank, or those of a bucket of a stage of features."""
    from clear.core.errors import ConfigError
    from clear.features import FeatureBank

    if args.to != 'curation' or not (args.source / 'manifest.json').exists():
        return [FeatureBank.open(args.source)]
    from clear.curation.features import banks_of
    from clear.curation.manifest import Finished

    finished = Finished(args.source)
    if args.bucket is None:
        raise ConfigError(f'{args.source} has several banks, of buckets '
                          f'{", ".join(finished.summary.get("buckets", {}))}; say which with --bucket.')
    return banks_of(finished, args.bucket)


def from_curation(args: argparse.Namespace):
    from clear.curation.legacy.feature_banks import import_features

    bank = import_features(args.source, args.out, model=args.feature_type, dtype=args.dtype, images=args.images,
                           old_root=args.old_root, overwrite=args.overwrite)
    print(f'{len(bank) - bank.meta["num_valid"]} rows without features are masked; unverified, see '
          'tools/curation/verify_features.py')
    return bank


if __name__ == '__main__':
    sys.exit(main())
