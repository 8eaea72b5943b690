"""Which classes a checkpoint takes for which others, on the test data of its config."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/analysis_tools/confusion_matrix.py configs/demo/naive_lenet5_demo.py \\
      work_dirs/naive_lenet5_demo/exp_9.pth --bucket 1 --out work_dirs/confusions.png
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('checkpoint', type=Path, help='of that config, or a file of weights')
    parser.add_argument('--bucket', help='of a stream, this test set alone (default: all together)')
    parser.add_argument('--out', type=Path, metavar='FILE', help='figure to write; the counts go beside it, as .csv '
                        '(default: work_dirs/<config>/figures/confusions.png)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.checks import check_figure_path
    from clear.core.logs import logger, setup_logging
    from clear.engine.inspection.confusions import (
        confusion_figure,
        confusion_lines,
        read_confusions,
        write_confusions,
    )
    from clear.engine.launch import read_run_config
    from clear.visualization.figures import write_figures

    setup_logging(None)
    check_figure_path(args.out)
    cfg = read_run_config(args, 'test')
    matrix, names = read_confusions(cfg, args.checkpoint, args.bucket)
    stem = f'confusions_{args.bucket}' if args.bucket else 'confusions'
    out = args.out or Path(cfg['work_dir']) / 'figures' / f'{stem}.png'
    logger.info('%s', '\n'.join(confusion_lines(matrix, names)))
    title = f"{cfg['name']}, {args.checkpoint.name}" + (f', bucket {args.bucket}' if args.bucket else '')
    for path in (*write_figures({out.stem: confusion_figure(matrix, names, title)}, out.parent),
                 write_confusions(matrix, names, out.with_suffix('.csv'))):
        logger.info('wrote %s', path)


if __name__ == '__main__':
    sys.exit(main())
