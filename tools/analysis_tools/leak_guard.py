"""Find copies of training images among test images of later buckets, or of a pretraining set in an evaluation set."""

import argparse
import sys
from pathlib import Path

EPILOG = """examples:
  python tools/analysis_tools/leak_guard.py data/demo --out work_dirs/leaks
  python tools/analysis_tools/leak_guard.py data/photos --against data/evaluation
  python tools/analysis_tools/leak_guard.py work_dirs/bank --images data/demo --min-cosine 0.98

SOURCE is a CLEAR tree, a folder of classes, a list (.txt) or table (.csv, .parquet) of images, a feature bank, or the
folder of a finished stage with images or features. Training and test images are its parts train and test, a test image
counting from its own bucket on; without parts every bucket is compared with those that follow. Copies may be encoded
anew, resized, mirrored, or cropped by a tenth.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='?', metavar='SOURCE', help='training images; with --run none')
    other = parser.add_mutually_exclusive_group()
    other.add_argument('--test', metavar='SOURCE', help='test images of the same stream')
    other.add_argument('--against', metavar='SOURCE', help='an evaluation set: all of it counts, whatever its time')
    other.add_argument('--run', metavar='WORK_DIR', help='a finished continual run on images: its data and its '
                       'accuracies')
    parser.add_argument('--images', metavar='FOLDER', help='of a bank: what its paths are relative to, or the stage '
                        'that has its images')
    parser.add_argument('--test-images', metavar='FOLDER', help='the same for the other side')
    parser.add_argument('--buckets', metavar='STAGE', help='of a stage with images: the one with its time buckets')
    parser.add_argument('--no-hashes', action='store_true', help='compare features alone')
    parser.add_argument('--min-cosine', type=float, metavar='C', help='of features: also these are copies')
    parser.add_argument('--max-bits', type=int, default=10, help='of 64, in which pHash may differ (default: '
                        '%(default)s)')
    parser.add_argument('--max-gradient-bits', type=int, default=12, help='the same of dHash (default: %(default)s)')
    parser.add_argument('--predictions', metavar='TABLE', help='columns path, label, prediction, and through: accuracy '
                        'with and without what leaked')
    parser.add_argument('--out', default='work_dirs/leak_guard', help='folder of leaks.csv, leaks.json, drop_test.txt '
                        'and drop_train.txt (default: %(default)s)')
    parser.add_argument('--dry-run', action='store_true', help='say what would be compared')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: guard(parse_args(argv)))


def guard(args: argparse.Namespace) -> int:
    from clear.core.checks import check_number, check_whole
    from clear.core.errors import ConfigError
    from clear.core.logs import logger, setup_logging
    from clear.curation.leaks import Likeness
    from clear.engine.reports.leaks import (
        FinishedRun,
        knn_or_none,
        leaks_of,
        open_sides,
        prediction_accuracies,
        write_report,
    )

    setup_logging(None)
    if (args.source is None) == (args.run is None):
        raise ConfigError('Give either SOURCE or --run.')
    if args.min_cosine is not None:
        check_number('--min-cosine', args.min_cosine, above=0, most=1)
    elif args.no_hashes:
        raise ConfigError('--no-hashes compares features alone: say how near by --min-cosine, such as 0.98.')
    for name in ('max_bits', 'max_gradient_bits'):
        check_whole(f'--{name.replace("_", "-")}', getattr(args, name), 0, 64)
    likeness = Likeness(not args.no_hashes, args.min_cosine, args.max_bits, args.max_gradient_bits)
    run = FinishedRun(args.run) if args.run else None
    train, test, order = run.sides() if run else open_sides(args)
    logger.info('%s: %s images in %d buckets, against %s of %s', train.name, f'{len(train):,}', len(train.buckets),
                f'{len(test):,}', test.name)
    if args.dry_run:
        logger.info('dry run: nothing was compared')
        return 0
    leaks = leaks_of(train, test, likeness, order)
    if args.predictions:
        accuracies = prediction_accuracies(args.predictions, test, leaks)
    else:
        accuracies = run.accuracies(train, test, leaks) if run else knn_or_none(train, test, leaks, order)
    found = write_report(Path(args.out), train, test, leaks, order, likeness, accuracies)
    for one, others in found['by_bucket'].items():
        logger.info('training bucket %s  %s', one, '  '.join(f'{name}: {count:,}' for name, count in others.items()))
    for each in accuracies:
        logger.info('%s%s  accuracy %s of %s images, %s without %s leaked', f'through {each.through}  '
                    if each.through else '', f'bucket {each.bucket}' if each.bucket else 'all',
                    share(each.with_leaks), f'{each.rows:,}', share(each.without), each.rows - each.clean_rows)
    logger.info('%s of %s test images have a copy in training (%s pairs, %s images unreadable)\nlists  %s',
                f'{found["leaked"]:,}', f'{len(test):,}', f'{found["pairs"]:,}', f'{leaks.unreadable:,}', args.out)
    return 0


def share(value: float | None) -> str:
    return '-' if value is None else f'{value:.3f}'


if __name__ == '__main__':
    sys.exit(main())
