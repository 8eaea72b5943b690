"""Download the metadata of YFCC100M: resumable, checked, unpacked into a folder that curation reads."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/curation/download_yfcc.py sqlite data/yfcc100m

Forms: sqlite (one table; MD5 published), archives (main table, autotags, EXIF, hashes and line numbers as .tgz),
dataset (one .bz2), parts (ten .bz2 and the hashes). All but sqlite lie in a store that asks for an account: name a
mirror, or put the files into OUT by hand (see docs/curation.md) and run it there. Rerun the same command to go on after
a failure. The SHA-256 of each file is stored in OUT/archives.json, and a later download must match it.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('form', metavar='FORM', help='sqlite, archives, dataset or parts')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--only', action='append', default=[], metavar='NAME', nargs='+',
                        help='some files of the form, such as yfcc100m_exif.tgz')
    parser.add_argument('--mirror', action='append', default=[], metavar='URL', nargs='+',
                        help='base addresses (http, https, file) to try, in order, before the published one')
    parser.add_argument('--sha256', action='append', default=[], metavar='NAME=HEX',
                        help='expected SHA-256 of a file; may be given several times')
    parser.add_argument('--keep-archives', action='store_true', help='keep the downloaded archives after unpacking')
    parser.add_argument('--dry-run', action='store_true', help='print what would be done; no network')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.logs import progress_bar
    from clear.core.storage.fetch import parse_hashes
    from clear.curation.metadata.acquire import download_metadata, files_of, urls_of
    from clear.datasets.make.obtain import archive_state, read_record

    only, mirrors = ([value for values in given for value in values] for given in (args.only, args.mirror))
    sha256 = parse_hashes(args.sha256)
    for name, file in files_of(args.form, only).items():
        source = ', '.join(urls_of(name, file, mirrors)) or f'no address; {file.by_hand}'
        print(f'{name}: {archive_state(args.out, name)}; from {source}')
    if args.dry_run:
        return
    download_metadata(args.form, args.out, only=only, mirrors=mirrors, sha256=sha256, keep_archives=args.keep_archives,
                      bars=progress_bar)
    for name, record in read_record(args.out).items():
        print(f'{name}: sha256 {record["sha256"]}')
    print(f'{args.form}: {args.out}')


if __name__ == '__main__':
    sys.exit(main())
