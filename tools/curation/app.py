"""Look at the banks of a curation in a web page: texts and images as queries, verdicts, prompts to keep."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/curation/app.py configs/curation/demo.py

The page is for this machine alone, http://127.0.0.1:8501, unless --host says otherwise: whoever can open it sees the
images and can write verdicts. Ctrl-C ends it.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of the stages, or the name of a shipped one')
    parser.add_argument('--work-dir', help='where stages lie (default: work_dirs/<name of the config>)')
    parser.add_argument('--host', default='127.0.0.1', help='address to serve at (default: %(default)s)')
    parser.add_argument('--port', type=int, default=8501, help='(default: %(default)s)')
    parser.add_argument('--dry-run', action='store_true', help='say what would be shown, serve nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.errors import ConfigError
    from clear.core.logs import setup_logging
    from clear.curation.app.places import OpenPlace
    from clear.curation.app.serve import serve
    from clear.engine.stages.app import read_app_config, session_of

    setup_logging(None)
    if not 0 < args.port < 65536:
        raise ConfigError(f'--port {args.port}: expected a number between 1 and 65535.')
    cfg = read_app_config(args)
    session = session_of(cfg)
    for place in session.places:
        opened = OpenPlace(place)
        print(f'{place.name}  {sum(map(len, opened.banks)):,} images in {len(opened.buckets)} buckets, '
              f'{"texts and " if place.text_encoder else ""}images as queries')
    print(f'verdicts go to {session.answers}, prompts to {session.prompts}')
    if args.dry_run:
        return 0
    file = Path(cfg['work_dir']) / 'app.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    session.write(file)
    serve(file, args.host, args.port)
    return 0


if __name__ == '__main__':
    sys.exit(main())
