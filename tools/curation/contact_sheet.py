"""Write what is most like a text or an image as one HTML file."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/curation/contact_sheet.py configs/curation/demo.py --prompt "a photo of a cat" --every 40

Every bucket that is named gets a part of its own.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the stages, or the name of a shipped one')
    query = parser.add_mutually_exclusive_group(required=True)
    query.add_argument('--prompt', nargs='+', metavar='TEXT', help='one text, or several to be compared')
    query.add_argument('--image', type=Path, metavar='FILE', help='an image in place of a text')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/contact_sheet.html'), help='(default: %(default)s)')
    parser.add_argument('--bank', metavar='NAME', help='which of the banks (default: the first)')
    parser.add_argument('--bucket', nargs='+', metavar='NAME', help='buckets (default: all together)')
    parser.add_argument('--prefix', default='', help='in front of every text')
    parser.add_argument('--first', type=int, default=1, help='rank to begin with (default: %(default)s)')
    parser.add_argument('--top', type=int, default=None, help='rank to end with (default: 60; 1000 with --every)')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='show each N-th of them only')
    parser.add_argument('--ranks', type=int, nargs='+', metavar='R', help='show these ranks only, e.g. 1 200 400')
    parser.add_argument('--work-dir', help='where stages lie (default: work_dirs/<name of the config>)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.core.files import read_bytes
    from clear.core.logs import setup_logging
    from clear.curation.app.places import ALL, OpenPlace
    from clear.curation.explore import histogram
    from clear.engine.reports.contact_sheet import write_sheet
    from clear.engine.stages.app import read_app_config, session_of

    setup_logging(None)
    top = args.top if args.top is not None else max([1000 if args.every > 1 else 60, *(args.ranks or ())])
    if not 1 <= args.first <= top:
        raise ConfigError(f'--first {args.first} --top {top}: the first rank is 1 or more, and not behind the last.')
    places = {place.name: place for place in session_of(read_app_config(args)).places}
    if args.bank is not None and args.bank not in places:
        raise ConfigError(f"--bank: there is no '{args.bank}'; there are {', '.join(places)}.")
    place = OpenPlace(places[args.bank or next(iter(places))])
    if args.image is not None:
        queries = {args.image.name: place.of_image(read_bytes(args.image))}
    else:
        queries = {text: place.of_text(text, args.prefix) for text in args.prompt}
    parts, scores = {}, {}
    for name, vector in queries.items():
        for bucket in args.bucket or [ALL]:
            found = place.search(vector, bucket, top, args.first)
            chosen = found.at(args.ranks) if args.ranks else found.every(args.every)
            if not len(chosen):
                raise ConfigError(f'{name}: none of these ranks is there; there are {len(found)} images.')
            heading = f'{name}, {bucket if bucket == ALL else f"bucket {bucket}"}'
            parts[heading] = place.hits(chosen)
            scores[heading] = histogram(found.scores)
            print(f'{heading}: {len(chosen)} of {len(found)} images, mean score {scores[heading].mean:.4f}')
    print(f'sheet  {write_sheet(args.out, ", ".join(queries), parts, scores)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
