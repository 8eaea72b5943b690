"""Write the class names and templates in a copy of CLIP, ELEVATER or ITRA as a JSON file of lists for zero-shot tasks.

Python files, notebooks and Markdown are read as text: nothing in them is run."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/dataset_converters/prompt_tables.py ~/CLIP/data/prompts.md --out data/prompts/clip.json

Then, in a config: dict(type='ZeroShot', templates=dict(file='data/prompts/clip.json', list='Birdsnap')). The order of
the classes is that of the project; a list in another order than the classes of the data is refused. docs/zero_shot.md
says where the projects keep their lists.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('sources', type=Path, nargs='+', metavar='SOURCE', help='.py, .ipynb or .md, or a folder')
    parser.add_argument('--out', type=Path, required=True, metavar='JSON', help='the file to write')
    parser.add_argument('--only', nargs='+', metavar='LIST', help='these lists alone')
    parser.add_argument('--overwrite', action='store_true', help='replace a file that exists')
    parser.add_argument('--dry-run', action='store_true', help='say what is there and write nothing')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError, nearest, printable
    from clear.core.files import write_json
    from clear.datasets.make.prompt_tables import read_prompt_tables

    if args.out.exists() and not args.overwrite and not args.dry_run:
        raise ConfigError(f'{args.out} exists. Write elsewhere, or say --overwrite.')
    found = read_prompt_tables(args.sources)
    for name in args.only or ():
        if name not in found.lists:
            raise ConfigError(f"There is no list '{name}'. Nearest: {nearest(name, found.lists) or 'none'}.")
    lists = {name: parts for name, parts in found.lists.items() if not args.only or name in args.only}
    width = max(map(len, lists))
    print(f'{"list":{width}}  classes  templates')
    for name, parts in lists.items():
        print(printable(f'{name:{width}}  {len(parts.get("names", ())):7}  {len(parts.get("templates", ())):9}'))
    for reason in found.skipped:
        print(printable(f'not read: {reason}'), file=sys.stderr)
    if not args.dry_run:
        write_json(args.out, lists)
        print(args.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())
