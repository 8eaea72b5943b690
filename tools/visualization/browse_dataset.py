"""Draw samples of a config as its model sees them, with the draws of training."""

import argparse
import sys
from pathlib import Path

EXAMPLE = """example:
  python tools/visualization/browse_dataset.py configs/demo/naive_lenet5_demo.py --bucket 10 --number 32
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--phase', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('-n', '--number', type=int, default=32, help='samples, spread evenly (default: 32)')
    parser.add_argument('--epoch', type=int, default=0, help='of random transforms, the draws of this epoch')
    parser.add_argument('--bucket', help='of a stream, this bucket alone')
    parser.add_argument('--original', action='store_true', help='put the image of the file beside each sample')
    parser.add_argument('--out', type=Path, metavar='PNG',
                        help='figure to write (default: work_dirs/<config>/figures/samples_<phase>.png)')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', help='override config fields')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> None:
    from clear.core.checks import check_figure_path
    from clear.core.logs import logger, setup_logging
    from clear.engine.inspection.samples import read_samples, samples_figure
    from clear.engine.launch import read_run_config
    from clear.visualization.figures import write_figures

    setup_logging(None)
    check_figure_path(args.out)
    cfg = read_run_config(args)
    samples = read_samples(cfg, args.phase, args.number, args.epoch, args.bucket, args.original)
    what = f'{len(samples)} samples of {args.phase}, epoch {args.epoch}'
    out = args.out or Path(cfg['work_dir']) / 'figures' / f'samples_{args.phase}.png'
    for path in write_figures({out.stem: samples_figure(samples, cfg['name'], what)}, out.parent):
        logger.info('wrote %s', path)


if __name__ == '__main__':
    sys.exit(main())
