"""Measure the encoders of several times on every time bucket: an accuracy matrix of a representation."""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/analysis_tools/representation_over_time.py configs/probing/representation_over_time_demo.py \\
      --work-dir work_dirs/over_time

The config holds encoder=dict(type=...), data=dict(type='CLEAR', data_root=...), checkpoints=[dict(path=...,
through='1'), ...] (or the work_dir of a run over buckets), and if wanted tasks=[dict(type='KNN')], protocols, buckets,
banks, seed, device, threads, num_workers. A run that was stopped goes on when the same command runs again.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='representation_over_time.py', description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', type=Path, help="folder of the results (default: the config's, else "
                        'work_dirs/<name of the config>)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--dry-run', action='store_true', help='check everything, say which banks are missing, '
                        'encode and write nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields, e.g. '
                        'data.data_root=data/clear10 checkpoints=work_dirs/continual_mocov2')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: measure(parse_args(argv)))


def measure(args: argparse.Namespace) -> None:
    """Read the config, measure, print the matrices."""
    import torch

    from clear.core.logs import logger, setup_logging
    from clear.engine.streams.over_time import RepresentationOverTime
    from clear.engine.streams.over_time_keys import read_config
    from clear.engine.streams.over_time_table import format_results
    from clear.engine.work_dir import held

    setup_logging(None)
    cfg = read_config(args.config, args.cfg_options or [])
    cfg['device'] = args.device or cfg.get('device')
    work_dir = args.work_dir or Path(cfg.get('work_dir') or Path('work_dirs') / cfg['name'])
    over_time = RepresentationOverTime(cfg, work_dir)
    if over_time.cfg['threads']:
        torch.set_num_threads(over_time.cfg['threads'])
    logger.info('%s', over_time.describe())
    if args.dry_run:
        over_time.plan()
        logger.info('dry run: nothing was encoded or written')
        return
    with held(work_dir):
        setup_logging(work_dir)
        results = over_time.run()
        logger.info('%s\n\nresults  %s', format_results(results), work_dir / 'results.json')


if __name__ == '__main__':
    sys.exit(main())
