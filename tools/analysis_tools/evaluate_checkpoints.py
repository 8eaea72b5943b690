"""Measure every checkpoint of an alignment run on the same tasks: a table with a row for each, and curves.

What is done is skipped, so the same command goes on after a stop, and measures new checkpoints of a run under way.
"""

import argparse
import sys
from pathlib import Path

EPILOG = """example:
  python tools/analysis_tools/evaluate_checkpoints.py work_dirs/demo_clip --config configs/evaluation/demo.py

The table is RUN/evaluation/CONFIG/evaluation_metrics_all.csv, so each config has its own; --checkpoints epoch_3 writes
single_evaluation_metrics@epoch_3.csv beside it. Without --config the tasks are those that the run measured while it
trained, and the table lies in RUN/evaluation. A row of an earlier call whose checkpoint is gone stays as measured.
A folder takes more tasks later; a list that lacks one that has numbers there, or has it with other arguments, is
refused: choose another folder with --out. A checkpoint that cannot be read is named and left out, with exit status 2.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('run', help='work_dir of an alignment; of a run over buckets the folder of one bucket')
    parser.add_argument('--config', help='a probing config, or the name of a shipped one, whose tasks and data are '
                        'taken; its encoders are not')
    parser.add_argument('--checkpoints', nargs='+', default=[], metavar='NAME',
                        help='epoch_3, best ... (default: all that the run keeps)')
    parser.add_argument('--out', help='folder of the results (default: RUN/evaluation/CONFIG, '
                        'without --config RUN/evaluation)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--dry-run', action='store_true', help='build everything, encode and write nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='override fields of --config')
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> None:
    from clear.core.config import load_config
    from clear.core.configs.options import parse_options
    from clear.core.errors import ConfigError
    from clear.engine.probing.checkpoints import evaluate_checkpoints
    from clear.engine.probing.keys import KNOWN
    from clear.engine.schema import check_names

    if args.cfg_options and not args.config:
        raise ConfigError('--cfg-options override fields of --config: give one.')
    cfg = None
    if args.config:
        cfg, assigned = load_config(args.config, parse_options(args.cfg_options))
        check_names(assigned, KNOWN)
        cfg = cfg.to_dict()
    evaluate_checkpoints(args.run, cfg, checkpoints=args.checkpoints, name=Path(args.config or '').stem, out=args.out,
                         device=args.device, dry_run=args.dry_run)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: evaluate(parse_args(argv)))


if __name__ == '__main__':
    sys.exit(main())
