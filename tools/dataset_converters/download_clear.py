"""Download an official CLEAR data set: resumable, checked, unpacked into a data root."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/download_clear.py clear10 data/clear10

clear10 and clear100 become OUT/train and OUT/test; the older clear10_neurips2021 and clear100_cvpr2022 are trees with
training_folder/. Rerun the same command to go on after a failure. On a machine without network, put the archives
into OUT by hand and run it there. No checksums are published: the SHA-256 of each archive is printed and stored in
OUT/archives.json, and a later download must match it.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', metavar='NAME', help='clear10, clear100, clear10_neurips2021 or clear100_cvpr2022')
    parser.add_argument('out', type=Path, metavar='OUT', help='data root to write')
    parser.add_argument('--mirror', action='append', default=[], metavar='URL', nargs='+',
                        help='base addresses (http, https, file) to try, in order, before the official host')
    parser.add_argument('--sha256', action='append', default=[], metavar='ARCHIVE=HEX',
                        help='expected SHA-256 of an archive; may be given several times')
    parser.add_argument('--keep-archives', action='store_true', help='keep the downloaded archives after unpacking')
    parser.add_argument('--merge', type=Path, metavar='DIR',
                        help='also write train and test as one tree in the old layout to DIR (clear10, clear100)')
    parser.add_argument('--dry-run', action='store_true', help='print what would be done; no network')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.errors import ConfigError
    from clear.core.logs import progress_bar
    from clear.core.storage.fetch import parse_hashes
    from clear.datasets.make.download import archive_urls, archives_of, download_clear
    from clear.datasets.make.merge import merge_official
    from clear.datasets.make.obtain import archive_state, read_record

    archives = archives_of(args.name)
    mirrors = [url for urls in args.mirror for url in urls]
    if args.merge is not None and len(archives) < 2:
        raise ConfigError(f'--merge: {args.name} is one tree in the old layout already.')
    sha256 = parse_hashes(args.sha256)
    for archive in archives:
        print(f'{archive}: {archive_state(args.out, archive)}; from {", ".join(archive_urls(archive, mirrors))}')
    if args.dry_run:
        return
    download_clear(args.name, args.out, mirrors=mirrors, sha256=sha256, keep_archives=args.keep_archives,
                   bars=progress_bar)
    for archive, record in read_record(args.out).items():
        print(f'{archive}: sha256 {record["sha256"]}')
    if args.merge is not None:
        with progress_bar('merge', 'images') as progress:
            merge_official(args.out / 'train', args.out / 'test', args.merge, progress=progress)
    print(f'{args.name}: {args.out}' + (f', merged: {args.merge}' if args.merge is not None else ''))


if __name__ == '__main__':
    sys.exit(main())
