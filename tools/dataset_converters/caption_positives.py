"""Write which captions fit which images of COCO, as ECCV Caption and CxC found, for `ImageTextRetrieval`.

Reads the data of the installed package eccv-caption (MIT licence); nothing of it is run."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/caption_positives.py data/coco_positives

Then, in a config: dict(type='ImageTextRetrieval', positives=dict(eccv='data/coco_positives/eccv_caption.json')), on the
images of dict(type='CocoCaptions', split='val', year=2014, only='data/coco_positives/coco_5k.json').
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='FOLDER', help='where the three files go')
    parser.add_argument('--data', type=Path, metavar='FOLDER', help="data of eccv-caption (default: the package's)")
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist')
    parser.add_argument('--dry-run', action='store_true', help='say what is there and write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.core.files import write_json
    from clear.datasets.readers.pairs.caption_positives import SETS, eccv_caption_folder, read_caption_positives

    paths = {name: args.out / f'{name}.json' for name in SETS}
    there = [path for path in paths.values() if path.exists()]
    if there and not args.overwrite and not args.dry_run:
        raise ConfigError(f'{there[0]} exists. Write elsewhere, or say --overwrite.')
    found = read_caption_positives(args.data or eccv_caption_folder())
    for name, parts in found.items():
        pairs = [f'{len(content):6,} {part.split("_")[0]}s with {sum(map(len, content.values())):7,} right'
                 for part, content in parts.items()]
        print(f'{name:13} {"  ".join(pairs)}')
        if not args.dry_run:
            args.out.mkdir(parents=True, exist_ok=True)
            write_json(paths[name], parts)
            print(paths[name])
    return 0


if __name__ == '__main__':
    sys.exit(main())
