"""Train from a config."""

import argparse
import sys

EXAMPLE = """example:
  python tools/train.py configs/demo/replay_lenet5_demo.py --cfg-options cl_strategy.train_epochs=2
"""


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a shipped one')
    parser.add_argument('--work-dir', help='where results are written (default: work_dirs/<name of the config>)')
    parser.add_argument('--resume', nargs='?', const=True, metavar='CKPT',
                        help='continue from CKPT, by default from latest.pth of the work_dir')
    parser.add_argument('--branch', metavar='CKPT', help='begin a new continual run where CKPT of another one was left '
                        '(e.g. exp_3.pth; of a stream bucket_3/latest.pth), with the options of this config')
    parser.add_argument('--overwrite', action='store_true', help='replace the run that the work_dir holds')
    parser.add_argument('--amp', action=argparse.BooleanOptionalAction, default=None, help='mixed precision')
    parser.add_argument('--device', help='cpu, cuda, cuda:1 ... (default: a GPU if there is one)')
    parser.add_argument('--seed', type=int, help='seed of training')
    parser.add_argument('--dry-run', action='store_true', help='print what would happen, train nothing')
    parser.add_argument('--shard', metavar='I/N', help='of a probing config, the I-th of N parts of its jobs')
    parser.add_argument('--collect', nargs='*', metavar='WORK_DIR', help='of a probing config, make its table of what '
                        'shards have finished in the work_dir, and in these')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='override config fields, e.g. seed=1 '
                        'cl_strategy.optimizer.lr=0.1 scenario.cache=ram')
    # torch.distributed.launch of older versions passes this; torchrun sets the environment instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None) -> int:
    from clear.core.programs.program import run_program

    return run_program(lambda: run(parse_args(argv)))


def run(args: argparse.Namespace) -> int:
    from clear.core.programs.startup import pause_collection, resume_collection

    pause_collection()  # `train` resumes it when training begins.
    try:
        from clear.engine.launch import train

        return train(args)
    finally:
        resume_collection()


if __name__ == '__main__':
    sys.exit(main())
