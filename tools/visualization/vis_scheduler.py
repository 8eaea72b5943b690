"""Draw the learning rate (or momentum, weight decay) of a config over its iterations, without training."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/visualization/vis_scheduler.py configs/selfsup/mocov2_resnet50_8xb32-cos-200e_imagenet.py \\
      --dataset-size 1281167 --out work_dirs/mocov2_lr.png
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('-p', '--parameter', default='lr', help='a setting of the optimiser: lr, momentum, '
                        'weight_decay ... (default: lr)')
    parser.add_argument('-d', '--dataset-size', type=int, help='assume so many training samples, and read no data')
    parser.add_argument('--out', type=Path, help='figure to write (default: work_dirs/<config>/figures/schedule.png)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.checks import check_figure_path
    from clear.core.logs import logger, setup_logging
    from clear.engine.inspection.schedules import read_schedule, schedule_figure
    from clear.engine.launch import read_run_config
    from clear.visualization.figures import write_figures

    setup_logging(None)
    check_figure_path(args.out)
    cfg = read_run_config(args)
    schedule = read_schedule(cfg, args.parameter, args.dataset_size)
    out = args.out or Path(cfg['work_dir']) / 'figures' / 'schedule.png'
    for label, values in schedule.groups.items():
        logger.info('%s  first %g  highest %g  last %g', label, values[0], max(values), values[-1])
    for path in write_figures({out.stem: schedule_figure(schedule, cfg['name'])}, out.parent):
        logger.info('wrote %s', path)


if __name__ == '__main__':
    sys.exit(main())
