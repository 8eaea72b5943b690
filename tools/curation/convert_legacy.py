"""Trees, buckets and pickles of the earlier curation: import them, export them, and follow them when they move."""

import argparse
import sys
from pathlib import Path

EXAMPLES = """examples:
  python tools/curation/convert_legacy.py import data/yfcc --out work_dirs/yfcc --verify
  python tools/curation/convert_legacy.py import data/yfcc/bucket_11.json --root data/yfcc --out work_dirs/yfcc
  python tools/curation/convert_legacy.py export work_dirs/yfcc --out work_dirs/legacy --tree
  python tools/curation/convert_legacy.py relocate work_dirs/legacy --verify
  python tools/curation/convert_legacy.py relocate work_dirs/yfcc --verify
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    one = commands.add_parser('import', help='all_folders.json or .pickle, bucket_*.json or .pickle into stages')
    one.add_argument('source', type=Path, help='a folder with all_folders.*, or a file')
    one.add_argument('--out', type=Path, required=True, help='work_dir whose stages are written')
    one.add_argument('--how', choices=('hardlink', 'copy'), default='hardlink', help='how images come')
    one.add_argument('--shard-rows', type=int, default=10_000, help='records of one shard')
    one.add_argument('--overwrite', action='store_true', help='replace stages that are there')
    two = commands.add_parser('export', help='stages into bucket_*.json, and with --tree into all_folders.*')
    two.add_argument('work_dir', type=Path, help='the work_dir whose stages are exported')
    two.add_argument('--out', type=Path, required=True, help='the folder to write')
    for kind, name in (('records', 'metadata'), ('images', 'download'), ('buckets', 'time_buckets')):
        two.add_argument(f'--{kind}', default=name, metavar='STAGE', help=f'stage with {kind} (%(default)s)')
    two.add_argument('--name', help='of the buckets: bucket_NAME.json (default: as the earlier system called the rule)')
    two.add_argument('--tree', action='store_true', help='also the images, in chunks with their records')
    two.add_argument('--how', choices=('hardlink', 'symlink', 'copy'), default='hardlink', help='how images come')
    two.add_argument('--generation', type=int, choices=(1, 2), default=2, help='of the tree: 1 = pickles, 2 = JSON')
    three = commands.add_parser('relocate', help='check what was moved, and put its new place into legacy lists')
    three.add_argument('path', type=Path, help='a work_dir, a stage, a legacy tree or list')
    for each in (one, three):
        each.add_argument('--root', type=Path, help='the folder that holds the images now (default: that of the list)')
        each.add_argument('--old-root', help='the folder that they were in (default: found by looking)')
        each.add_argument('--verify', action='store_true',
                          help='end with an error if an image is missing, or a checksum of a stage does not match')
    for each in (one, two, three):
        each.add_argument('--dry-run', action='store_true', help='say what would happen, write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    return {'import': take, 'export': export, 'relocate': relocate}[args.command](args)


def take(args: argparse.Namespace) -> int:
    from clear.core.checks import check_whole
    from clear.core.errors import DataError, printable
    from clear.curation.legacy.importing import import_stages, survey
    from clear.curation.legacy.sources import find_source
    from clear.curation.manifest import Finished

    check_whole('--shard-rows', args.shard_rows, 1)
    source = find_source(args.source, args.root, args.old_root)
    found = survey(source)
    print(f'{source.path}: {found.records:,} records in {len(source.files):,} files, images below {source.places.root}')
    for name, count in found.buckets.items():
        print(printable(f'  bucket {name}  {count:,}'))
    if found.missing_count:
        print(f'{found.missing_count:,} images are missing:')
        print('\n'.join(printable(f'  {each}') for each in found.missing))
        if args.verify:
            raise DataError(f'{found.missing_count:,} of {found.records:,} images are not below {source.places.root}. '
                            'Give --root, the folder that holds them, or import without --verify.')
    if args.dry_run:
        print('dry run: nothing was written')
        return 0
    made = import_stages(source, found, args.out, args.how, args.shard_rows, args.overwrite)
    print('\n'.join(f'{kind:<8}{folder}' for kind, folder in made.items()))
    counts = Finished(made['records']).counts
    print(''.join(f'{name}  {count:,}\n' for name, count in counts.items() if name.startswith('rejected: ')), end='')
    return 0


def export(args: argparse.Namespace) -> int:
    from clear.curation.legacy.exporting import Stages, bucket_file_name, export_buckets, export_tree
    from clear.curation.manifest import MANIFEST, Finished

    def stage(name: str) -> Finished | None:
        folder = args.work_dir / 'stages' / name
        # Those that are asked for by name must be there; of the usual ones images and buckets may be absent.
        is_needed = name not in ('download', 'time_buckets')
        return Finished(folder) if is_needed or (folder / MANIFEST).is_file() else None

    stages = Stages(stage(args.records), stage(args.images), stage(args.buckets), args.out)
    print(f'records {stages.records.folder.path}\nimages  {stages.images.folder.path if stages.images else "none"}')
    name = None if stages.buckets is None else args.name or bucket_file_name(stages.buckets)
    print(f'buckets {"none" if name is None else args.out / f"bucket_{name}.json"}')
    if args.dry_run:
        print('dry run: nothing was written')
        return 0
    files = export_tree(stages, args.out, args.how, args.generation) if args.tree else []
    files += export_buckets(stages, args.out, name, args.tree) if stages.buckets is not None else []
    print('\n'.join(f'wrote {file}' for file in files))
    return 0


def relocate(args: argparse.Namespace) -> int:
    from clear.core.errors import DataError, printable
    from clear.curation.legacy.places import Places
    from clear.curation.legacy.relocating import damages, legacy_lists, missing_images, rewrite_lists, stage_folders
    from clear.curation.manifest import Finished

    folders, wrong = stage_folders(args.path), 0
    for folder in folders:
        found = list(damages(Finished(folder), args.verify))
        print(f'{folder}: {"whole" if not found else f"{len(found):,} files are not as they were"}')
        print(''.join(f'  {each}\n' for each in found[:20]), end='')
        wrong += len(found)
    if folders:
        print('Paths in stages are relative to their folders: nothing is to be rewritten.')
    else:
        lists = legacy_lists(args.path)
        places = Places(args.root or (args.path if args.path.is_dir() else args.path.parent), args.old_root)
        counts = rewrite_lists(lists, places, args.dry_run)
        print(f'{len(lists):,} lists: {counts["changed"]:,} paths {"would change" if args.dry_run else "changed"}, '
              f'{counts["same"]:,} were right, {counts["unknown"]:,} lie outside of {places.root}')
        if args.verify:
            found = missing_images(lists, places)
            print(''.join(printable(f'  {each}\n') for each in found.missing), end='')
            wrong = found.missing_count
    if wrong:
        raise DataError(f'{wrong:,} files are missing or not what they were. Copy them again.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
