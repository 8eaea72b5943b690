"""Draw what runs logged, or say how long their iterations took; reads the logs of any mmengine run too."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/a work_dirs/b --keys loss lr --out curves.png
  python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/a
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest='task', required=True)
    curves = tasks.add_parser('plot_curve', help='curves of logged numbers, one panel per key')
    times = tasks.add_parser('cal_train_time', help='seconds per iteration')
    for each in (curves, times):
        each.add_argument('logs', nargs='+', metavar='LOG', help='a work_dir, results.json, or scalars.json')
    curves.add_argument('--keys', nargs='+', default=['loss'], metavar='KEY', help='what to draw (default: loss)')
    curves.add_argument('--legend', nargs='+', metavar='NAME', help='names of the runs (default: their folders)')
    curves.add_argument('--title', default='', help='above the figure')
    curves.add_argument('--out', type=Path, required=True, metavar='PNG', help='figure to write')
    times.add_argument('--include-outliers', action='store_true',
                       help='count the first interval of every epoch, in which the loader starts')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.checks import check_figure_path
    from clear.core.errors import ConfigError, printable
    from clear.engine.inspection.logs import curves_figure, iteration_times, read_log
    from clear.visualization.figures import write_figures

    if args.task == 'plot_curve':
        check_figure_path(args.out)
    logs = [read_log(place) for place in args.logs]
    if args.task == 'cal_train_time':
        for place, log in zip(args.logs, logs):
            found = iteration_times(log, include_outliers=args.include_outliers)
            print(printable(f'{place}\nslowest epoch {found.slowest[0]}, {found.slowest[1]:.4f} s per iteration\n'
                            f'fastest epoch {found.fastest[0]}, {found.fastest[1]:.4f} s per iteration\n'
                            f'std over epochs {found.std_s:.4f} s\nmean {found.mean_s:.4f} s per iteration'))
        return
    if args.legend:
        if len(args.legend) != len(logs):
            raise ConfigError(f'--legend has {len(args.legend)} names for {len(logs)} logs.')
        for log, name in zip(logs, args.legend):
            log.name = name
    for path in write_figures({args.out.stem: curves_figure(logs, args.keys, args.title)}, args.out.parent):
        print(f'wrote {path}')


if __name__ == '__main__':
    sys.exit(main())
