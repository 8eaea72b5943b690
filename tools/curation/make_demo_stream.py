"""Write a small photo stream to try curation on, and serve its photos while another command runs."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/curation/make_demo_stream.py data/curation_demo/stream --serve-while \\
    python tools/curate.py configs/curation/demo.py

Needs no network: the photographs are crops of the sample images of scikit-image and scikit-learn.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('out', type=Path, metavar='OUT', help='folder to write')
    parser.add_argument('--photos', type=int, default=1800, help='how many (default: 1800)')
    parser.add_argument('--port', type=int, default=8371,
                        help='of 127.0.0.1, where they are served (default: 8371)')
    parser.add_argument('--seed', type=int, default=0, help='of what is drawn (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace whatever OUT holds')
    parser.add_argument('--serve-while', nargs=argparse.REMAINDER, metavar='COMMAND', default=[],
                        help='serve the photos, with the failures of script.json, until this command ends')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import progress_bar
    from clear.curation.demo.stream import Demo, write_stream

    with progress_bar('demo photos', 'photos') as progress:
        written = write_stream(args.out, Demo(args.photos, args.port, args.seed), overwrite=args.overwrite,
                               progress=progress)
    print(f'a stream of {args.photos} photos: {args.out} ({"written" if written else "already complete"})')
    return serve_while(args.out, args.port, args.serve_while) if args.serve_while else 0


def serve_while(folder: Path, port: int, command: list[str]) -> int:
    """The exit code of a command, while which the photos of a stream are served."""
    import subprocess

    from clear.core.errors import ConfigError
    from clear.curation.demo.server import PhotoServer
    from clear.curation.demo.stream import photos, script

    try:
        with PhotoServer(photos(folder), script(folder), robots=(folder / 'robots.txt').read_text(), port=port):
            return subprocess.run(command).returncode
    except OSError as error:
        raise ConfigError(f'port {port} of 127.0.0.1 cannot be used ({error.strerror}). Choose another with --port, '
                          'which limits.allow of the config must have too.') from error


if __name__ == '__main__':
    sys.exit(main())
