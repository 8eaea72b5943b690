"""Combine, check and summarise predictions for ELEVATER's leaderboard."""

import argparse
import sys
from pathlib import Path

EPILOG = """examples:
  python tools/analysis_tools/elevater_submission.py combine work_dirs/elevater/clip/predictions/linear_probe_5
  python tools/analysis_tools/elevater_submission.py validate work_dirs/elevater/clip/predictions/linear_probe_5
  python tools/analysis_tools/elevater_submission.py summary work_dirs/elevater/clip

combine writes FOLDER/all_predictions.zip; validate looks at that, or at any such archive, and ends with code 1 if
something is wrong or one of the twenty sets is missing; summary writes FOLDER/summary.csv.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='{combine,validate,summary}')
    combine = commands.add_parser('combine', help='one archive of the predictions of a mode')
    combine.add_argument('folder', type=Path, metavar='FOLDER', help='WORK_DIR/predictions/MODE')
    validate = commands.add_parser('validate', help='check an archive before it is uploaded')
    validate.add_argument('folder', type=Path, metavar='FOLDER', help='where combine wrote it, or the archive')
    validate.add_argument('--own', nargs='+', action='extend', default=[], metavar='NAME=IMAGESxCLASSES[:multi]',
                          help="test sets of your own, e.g. birds=200x10; :multi if an image may show several classes")
    validate.add_argument('--allow-missing', action='store_true',
                          help='not all twenty sets need be there (then the leaderboard computes no average)')
    summary = commands.add_parser('summary', help='one table of the scores')
    summary.add_argument('folder', type=Path, metavar='FOLDER', help='WORK_DIR, or WORK_DIR/scores/MODE')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    from clear.core.logs import logger, setup_logging
    from clear.evaluation.elevater.submission import combine, summarise, validate

    setup_logging(None)
    if args.command == 'combine':
        logger.info('combined  %s', combine(args.folder))
        return 0
    if args.command == 'summary':
        summary = summarise(args.folder)
        rows = summary.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            logger.info('%s', '  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        logger.info('table  %s', summary.path)
        return 0
    found = validate(args.folder, own_sets(args.own))
    for name, shape in found.sets.items():
        logger.info('%s  %s', name, shape)
    for problem in found.problems:
        logger.error('problem  %s', problem)
    if found.missing:
        logger.warning('missing  %d of 20 sets, so the leaderboard computes no average: %s', len(found.missing),
                       ', '.join(found.missing))
    is_good = not found.problems and (args.allow_missing or not found.missing)
    logger.info('%s', 'The submission is in order.' if is_good else 'The submission is not in order.')
    return 0 if is_good else 1


def own_sets(given: list[str]) -> dict:
    """Name -> what is expected of each set of one's own."""
    import re

    from clear.core.errors import ConfigError
    from clear.evaluation.elevater.submission import Expected

    found = {}
    for text in given:
        parts = re.fullmatch('(.+)=([0-9]+)x([0-9]+)(:multi)?', text)
        if parts is None:
            raise ConfigError(f'--own {text}: expected NAME=IMAGESxCLASSES, or NAME=IMAGESxCLASSES:multi.')
        found[parts[1]] = Expected(int(parts[2]), int(parts[3]), parts[4] is not None)
    return found


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
