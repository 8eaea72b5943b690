"""Make a new CLEAR folder from the images of another: sorted by a key of their metadata, cut into buckets anew."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/create_dataset.py data/clear10 data/clear10_by_date --by date_taken --num-buckets 20

Per class all images are sorted (dates as dates, whatever their format) and cut into runs whose sizes differ by at most
one, so every bucket has every class. Images without a date are left out and listed in OUT/regroup.json. OUT has class
names, metadata, file lists and splits, and is read with scenario=dict(type='CLEAR', data_root='OUT').

The earlier create_dataset(process=<sort by date_taken>, num_buckets=n) is --by date_taken --num-buckets n; it sorted
dates as text and dropped the newest images of a class that does not divide by n.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', type=Path, metavar='ROOT', help='CLEAR folder with metadata, in either layout')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--by', default='date_taken', metavar='KEY', help='key of the metadata (default: %(default)s)')
    parser.add_argument('--num-buckets', type=int, default=10, metavar='N', help='default: %(default)s')
    parser.add_argument('--kind', choices=('auto', 'date', 'number', 'text'), default='auto',
                        help='how values compare (default: %(default)s, by the name of the key and the values)')
    parser.add_argument('--missing', choices=('drop', 'first', 'last'), default='drop',
                        help='where images without a value go (default: %(default)s)')
    parser.add_argument('--link', choices=('symlink', 'hard', 'copy'), default='symlink',
                        help='how images get there (default: %(default)s)')
    parser.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2, 3, 4], metavar='SEED',
                        help='a train/test split for each (default: 0 1 2 3 4)')
    parser.add_argument('--test-ratio', type=float, default=0.3, metavar='SHARE', help='default: %(default)s')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: create(parse_args(argv)))


def create(args: argparse.Namespace) -> int:
    from clear.core.logs import progress_bar
    from clear.datasets.make.regroup import MARKER, regroup

    with progress_bar('create', 'images') as progress:
        summary = regroup(args.root, args.out, by=args.by, num_buckets=args.num_buckets, kind=args.kind,
                          missing=args.missing, link=args.link, seeds=args.seeds, test_ratio=args.test_ratio,
                          overwrite=args.overwrite, progress=progress)
    for bucket, count in summary.counts.items():
        print(f'bucket {bucket:>3}  {count:>7} images  {" ... ".join(summary.ranges[bucket])}')
    if summary.without_value:
        where = {'drop': 'left out', 'first': 'put first', 'last': 'put last'}[args.missing]
        print(f'{len(summary.without_value)} images without {args.by} were {where}: {args.out / MARKER} lists them')
    print(f'{args.out}: old layout, {len(summary.counts)} buckets, {sum(summary.counts.values())} images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
