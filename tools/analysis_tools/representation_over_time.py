"""Measure the encoders of several times on every time bucket: an accuracy matrix of a representation.

As tools/train.py with runner_type='OverTimeRunner' and --resume.
"""

import argparse
import sys

EPILOG = """example:
  python tools/analysis_tools/representation_over_time.py configs/probing/representation_over_time_demo.py \\
      --work-dir work_dirs/over_time

The config holds encoder=dict(type=...), data=dict(type='CLEAR', data_root=...), checkpoints=[dict(path=...,
through='1'), ...] (or the work_dir of a run over buckets), and if wanted tasks=[dict(type='KNN')], protocols, buckets,
banks, seed, device, threads, num_workers. A run that was stopped goes on when the same command runs again.
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', help="folder of the results (default: the config's, else "
                        'work_dirs/<name of the config>)')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--dry-run', action='store_true', help='check everything, say which banks are missing, '
                        'encode and write nothing')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE', default=[],
                        help='override config fields, e.g. '
                        'data.data_root=data/clear10 checkpoints=work_dirs/continual_mocov2')
    parser.set_defaults(resume=True, overwrite=False, amp=None, seed=None, launcher='none')
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: measure(parse_args(argv)))


def measure(args: argparse.Namespace) -> int:
    from clear.engine.launch import train

    args.cfg_options = ['runner_type=OverTimeRunner', *args.cfg_options]
    return train(args)


if __name__ == '__main__':
    sys.exit(main())
