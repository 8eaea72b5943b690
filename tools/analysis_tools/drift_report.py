"""Say how a stream changes: bucket against bucket, class by class, where to cut it, and which links are dead."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/analysis_tools/drift_report.py configs/features/resnet18_demo.py --out work_dirs/drift

SOURCE is one of: feature banks; the folder of a finished Features stage (WORK_DIR/stages/features); or a config of
tools/extract_features.py, of whose data (a tree, a folder, a table) the bank is made first, if it is not there.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', nargs='+', metavar='SOURCE')
    parser.add_argument('--out', default='work_dirs/drift_report', help='folder of drift.json, report.html and '
                        'figures (default: %(default)s)')
    parser.add_argument('--every', choices=('bucket', 'year', 'quarter', 'month'), default='bucket',
                        help='buckets as the banks say, or by the time of the images (default: %(default)s)')
    parser.add_argument('--edges', type=int, metavar='N', help='suggest edges of N buckets (default: as many as there '
                        'are)')
    parser.add_argument('--images', metavar='FOLDER', help='for sheets of examples: what the paths of the bank are '
                        'relative to, or the folder of a finished stage with images')
    parser.add_argument('--download', metavar='STAGE', help='folder of a finished Download stage: how many addresses '
                        'of each year are dead')
    parser.add_argument('--seed', type=int, default=0, help='of the permutations (default: %(default)s)')
    parser.add_argument('--data', metavar='PATH', help="with a config: in place of its data, see extract_features.py")
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='with a config: override its fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: report(parse_args(argv)))


def report(args: argparse.Namespace) -> int:
    from clear.core.files import write_json
    from clear.core.logs import logger, setup_logging
    from clear.engine.reports.drift import drift_of, links_of, open_banks, sheets_of
    from clear.visualization.drift import drift_figures, write_drift_page
    from clear.visualization.figures import write_figures

    setup_logging(None)
    links = links_of(args.download) if args.download else {}
    banks = open_banks(args)
    found, buckets = drift_of(banks, args.every, args.edges, args.seed)
    found = dict(source=', '.join(args.source), **found, dead_links=links)
    figures = drift_figures(found)
    sheets = sheets_of(found, buckets, banks[0].class_names, args.images) if args.images else {}
    out = Path(args.out)
    write_figures(figures | sheets, out / 'figures')
    write_json(out / 'drift.json', found)
    page = write_drift_page(found, out / 'report.html', figures, list(sheets.values()))
    for pair in found['pairs']:
        logger.info('%s - %s  mmd2 %.4f (p %.3f)  frechet %.4g (p %.3f)  knn overlap %.3f', pair['first'], pair['last'],
                    pair['mmd2'], pair['mmd_p_adjusted'], pair['frechet'], pair['frechet_p_adjusted'],
                    pair['knn_overlap'])
    logger.info('report  %s', page)
    return 0


if __name__ == '__main__':
    sys.exit(main())
