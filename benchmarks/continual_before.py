"""What continual training does once per experience, and epochs of augmented images, against an earlier commit.

This checkout and a `git worktree` of `--commit` measure the same in turn, each in a process of its own: CPU seconds,
one thread, medians of round-wise ratios. Features: 2,310 rows of 2,048 numbers in each of two buckets, 11 classes, a
linear head.

- EWC, MAS, DER: everything that follows an experience's last iteration (importances, logits, memory);
- LeNet5, linear: two epochs of 660 images of 32 x 32 in memory, as the demo's, with `RandomCrop` and
  `RandomHorizontalFlip`, behind a first one that decodes them; a linear model shows the images alone.

    python benchmarks/continual_before.py --commit ec6192b --rounds 3
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSES = {'EWC by batch': ('EWC', dict(ewc_lambda=1.0, fisher='batch')),
          'EWC by sample': ('EWC', dict(ewc_lambda=1.0, fisher='sample')),
          'MAS by batch': ('MAS', dict(importance='batch')), 'MAS by sample': ('MAS', dict(importance='sample')),
          'DER': ('DER', dict(mem_size=500)), 'DERpp': ('DERpp', dict(mem_size=500))}


def seconds_after_experiences(name, num_rows, dim) -> float:
    """CPU seconds behind the last iteration, over two experiences."""
    import torch
    from continual_speed import linear, make_stream

    from clear.continual.loggers import build_evaluator
    from clear.continual.strategies import build_strategy, quiet_avalanche

    kind, options = PASSES[name]
    benchmark = make_stream(2, num_rows, 10, dim)
    cfg = dict(type=kind, train_mb_size=256, eval_mb_size=256, train_epochs=1, optimizer=dict(type='SGD', lr=0.1),
               **options)
    with quiet_avalanche():
        strategy = build_strategy(cfg, linear(dim), device=torch.device('cpu'),
                                  evaluator=build_evaluator([], [], None))
        strategy.attach(seed=0)
        after, spent = type(strategy)._after_training_exp, []

        def timed(self, **kwargs):
            started = time.process_time()
            after(self, **kwargs)
            spent.append(time.process_time() - started)

        type(strategy)._after_training_exp = timed
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[], num_workers=0)
    return sum(spent)


LENET = dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=10, in_channels=120))
LINEAR = dict(neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=10, in_channels=1))


def seconds_of_epochs(root, model) -> float:
    """CPU seconds of two epochs of augmented images."""
    from clear.continual.strategies import quiet_avalanche
    from clear.engine.continual.runner import ContinualRunner

    end = [dict(type='ToTensor'), dict(type='Normalize', mean=[0.5], std=[0.5])]
    crops = [dict(type='Grayscale'), dict(type='RandomCrop', size=32, padding=4), dict(type='RandomHorizontalFlip')]
    runner = ContinualRunner(dict(
        scenario=dict(type='CLEAR', data_root=str(root), evaluation_protocol='iid', seed=0, cache='ram', decoder='cv2',
                      train_transform=[*crops, *end], eval_transform=[crops[0], *end]),
        model=model, loggers=[], metrics=[], threads=1, device='cpu', cl_strategy=dict(
            type='Naive', train_mb_size=64, eval_mb_size=64, train_epochs=2, optimizer=dict(type='SGD', lr=0.05))),
        None)
    runner.build()
    runner.strategy.attach(seed=0, context=runner.info.context)
    experience = next(iter(runner.benchmark.train_stream))
    with quiet_avalanche():
        runner.strategy.train(experience, eval_streams=[], num_workers=0)
        started = time.process_time()
        runner.strategy.train(experience, eval_streams=[], num_workers=0)
        return time.process_time() - started


def measure(small: bool) -> dict[str, float]:
    """CPU seconds of every part, with the `clear` that this process finds."""
    import warnings

    import torch

    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    rows, dim = (64, 16) if small else (2310, 2048)
    found = {name: seconds_after_experiences(name, rows, dim) for name in PASSES}
    sys.path.insert(0, str(ROOT / 'tests' / 'helpers'))
    from clear_trees import write_clear_tree

    with tempfile.TemporaryDirectory() as folder:
        root = write_clear_tree(folder, num_buckets=1, num_classes=10, per_class=10 if small else 94, image_size=32)
        return {**found, 'LeNet5': seconds_of_epochs(root, LENET), 'linear': seconds_of_epochs(root, LINEAR)}


def measured_in(checkout: Path, small: bool) -> dict[str, float]:
    """`measure` in a process that imports `clear` from a checkout."""
    env = {**os.environ, 'PYTHONPATH': str(checkout), 'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'}
    done = subprocess.run([sys.executable, __file__, '--measure', *(['--small'] if small else [])], env=env, text=True,
                          capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--commit', default='ec6192b')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='few rows and features, to see that it runs')
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.measure:
        print(json.dumps(measure(args.small)))
        return
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / 'before'
        git = ['git', '-C', str(ROOT), 'worktree']
        subprocess.run([*git, 'add', '--quiet', '--detach', str(before), args.commit], check=True)
        try:
            rounds = [dict(now=measured_in(ROOT, args.small), before=measured_in(before, args.small))
                      for _ in range(args.rounds)]
        finally:
            subprocess.run([*git, 'remove', '--force', str(before)], check=True)
    ratios = {name: statistics.median(times['before'][name] / times['now'][name] for times in rounds)
              for name in rounds[0]['now']}
    for name, ratio in ratios.items():
        now = statistics.median(times['now'][name] for times in rounds)
        print(f'{name:15} {1e3 * now:7.1f} cpu-ms, {ratio:.2f} times as fast as {args.commit}')
    print(json.dumps(dict(benchmark='continual_before', rounds=args.rounds, **{
        f'{name.lower().replace(" ", "_")}_before_over_now': round(ratio, 2) for name, ratio in ratios.items()})))


if __name__ == '__main__':
    main()
