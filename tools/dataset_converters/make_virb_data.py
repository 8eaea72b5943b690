"""Make the folder that a task of ViRB reads, from the official archive of its data set or the folder it unpacks to."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/make_virb_data.py dtd downloads/dtd-r1.0.1.tar.gz data/dtd
  python tools/dataset_converters/make_virb_data.py pets downloads/images.tar.gz data/pets --lists annotations.tar.gz

Images of an unpacked folder are linked, so keep it; those of an archive are unpacked into OUT. Nothing is downloaded.
OUT appears when it is complete: a run that was stopped is started again with the same command. Where no list gives a
split, one is drawn with --seed, and the last lines say so. --list says what each name is made from.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', nargs='?', metavar='NAME', help='data set, as in --list')
    parser.add_argument('archive', nargs='?', type=Path, metavar='ARCHIVE', help='zip, tar, tar.gz or a folder')
    parser.add_argument('out', nargs='?', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--lists', nargs='+', type=Path, default=[], metavar='FILE',
                        help='what is needed beside ARCHIVE: lists of a split, annotations, other archives')
    parser.add_argument('--seed', type=int, default=0, help='of a split that no list gives (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    parser.add_argument('--list', action='store_true', help='say what each NAME is made from, and end')
    args = parser.parse_args(argv)
    if not args.list and args.out is None:
        parser.error('NAME, ARCHIVE and OUT are needed, or --list')
    return args


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: make(parse_args(argv)))


def make(args: argparse.Namespace) -> int:
    from clear.core.checks import check_choice, check_whole
    from clear.datasets.make.virb.layout import make_folder
    from clear.datasets.make.virb.makers import MAKERS

    if args.list:
        for name, maker in MAKERS.items():
            print(f'{name:<16}{" ".join((maker.__doc__ or "").split())}')
        return 0
    maker = MAKERS[check_choice('NAME', args.name, MAKERS)]
    counts, notes = make_folder(maker, args.archive, args.lists, args.out, seed=check_whole('--seed', args.seed, 0),
                                overwrite=args.overwrite, shows_progress=True)
    for what, count in counts.items():
        print(f'{what}: {count} images')
    for note in notes:
        print(note)
    print(f'made {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
