"""Several seeds, or values of a hyper-parameter, in one lane, against single runs of an earlier commit.

Ten buckets of 2,310 training and 990 test rows of 11 classes, batches of 256, ten epochs each, a linear head. In turn,
each in a process of its own: a single run by the earlier commit (a git worktree that lies beside for the time of the
benchmark), five seeds by `seeds=`, and sixteen learning rates by `sweep=`, both by this checkout. A process trains a
small run first, so that imports and what libraries do once are left out. CPU seconds, one thread, medians of
round-wise ratios; figures of the report are off everywhere, checkpoints and results are written as always.

Claims, of every strategy: five seeds / five single runs <= 0.3 at 64 features, <= 0.55 at 512, <= 0.8 at 2,048;
sixteen values / one single run <= 3.

    python benchmarks/continual_lane.py --rounds 3
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from timing import ratio

ROOT = Path(__file__).resolve().parents[1]
EARLIER = 'ec6192b'
STRATEGIES = dict(Naive={}, Cumulative={}, Replay=dict(mem_size=2310), EWC=dict(ewc_lambda=0.4),
                  LwF=dict(alpha=1.0, temperature=2.0), DERpp=dict(mem_size=2310))
VALUES = [round(0.02 * (number + 1), 2) for number in range(16)]

# Runs in a process of its own, in either checkout: prints the CPU seconds of one command of tools/train.py.
PROCESS = """
import argparse, json, logging, sys, tempfile, time, warnings
from pathlib import Path
warnings.simplefilter('ignore')
import torch
from mmengine.config import Config
torch.set_num_threads(1)
from clear.continual.scenarios import ScenarioInfo, TensorBucket, make_benchmark
from clear.engine.continual.program import ContinualProgram
from clear.registry import SCENARIOS

wanted = json.loads(sys.argv[1])

@SCENARIOS.register_module(name='BenchRows')
def bench_rows(dim, buckets, rows, work_dir=None):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(11, dim, generator=generator)
    def bucket(count):
        targets = torch.arange(count) % 11
        return TensorBucket(means[targets] + 2 * torch.randn(count, dim, generator=generator), targets)
    parts = [[bucket(count) for _ in range(buckets)] for count in (rows, rows * 3 // 7)]
    return make_benchmark(ScenarioInfo([str(c) for c in range(11)], [str(b) for b in range(buckets)], 'iid', 'rows',
                                       *parts))

def run(buckets, rows, epochs, **more):
    with tempfile.TemporaryDirectory() as folder:
        cfg = Config(dict(
            name='bench', work_dir=folder + '/run', scenario=dict(type='BenchRows', dim=wanted['dim'], buckets=buckets,
            rows=rows), model=dict(head=dict(type='LinearClsHead', num_classes=11, in_channels=wanted['dim'])),
            cl_strategy=dict(train_mb_size=256, eval_mb_size=256, train_epochs=epochs,
                             optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
                             scheduler=dict(type='StepLR', step_size=6), **wanted['strategy']),
            loggers=[], metrics=[], threads=1, device='cpu', report=False, **more))
        ContinualProgram.check(cfg)
        args = argparse.Namespace(dry_run=False, resume=None, overwrite=False, branch=None, amp=None, seed=None)
        started = time.process_time()
        ContinualProgram(cfg).run(args)
        return time.process_time() - started

logging.disable(logging.CRITICAL)
small = {key: value[:2] if isinstance(value, list) else {name: each[:2] for name, each in value.items()}
         for key, value in wanted['more'].items()}
run(2, 220, 1, **small)
print(run(wanted['buckets'], wanted['rows'], wanted['epochs'], **wanted['more']))
"""


@contextmanager
def earlier_checkout():
    """The folder of a worktree of the earlier commit."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'earlier'
        subprocess.run(['git', 'worktree', 'add', '-q', '--detach', str(path), EARLIER], cwd=ROOT, check=True)
        try:
            yield path
        finally:
            subprocess.run(['git', 'worktree', 'remove', '--force', str(path)], cwd=ROOT, check=True)


def cpu_seconds(checkout: Path, wanted: dict) -> float:
    """What a process of a checkout says.

    Raises:
        RuntimeError: if it failed, with what it wrote.
    """
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(checkout)}
    done = subprocess.run([sys.executable, '-c', PROCESS, json.dumps(wanted)], capture_output=True, text=True, env=env,
                          cwd=checkout)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return float(done.stdout.splitlines()[-1])


def measure(earlier: Path, strategy: str, dim: int, rounds: int, size: dict) -> dict[str, float]:
    """Ratios of one strategy on rows of one width."""
    wanted = dict(dim=dim, strategy=dict(type=strategy, **STRATEGIES[strategy]), **size)
    times = []
    for _ in range(rounds):
        one = cpu_seconds(earlier, {**wanted, 'more': {}})
        seeds = cpu_seconds(ROOT, {**wanted, 'more': dict(seeds=[0, 1, 2, 3, 4])})
        sweep = cpu_seconds(ROOT, {**wanted, 'more': dict(sweep={'cl_strategy.optimizer.lr': VALUES})})
        times.append(dict(one=one, five=5 * one, seeds=seeds, sweep=sweep))
    return dict(seeds=ratio(times, 'seeds', 'five'), sweep=ratio(times, 'sweep', 'one'))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--strategies', nargs='+', choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument('--features', nargs='+', type=int, default=[64, 512, 2048])
    parser.add_argument('--small', action='store_true', help='two small buckets of this checkout, to see that it runs')
    args = parser.parse_args(argv)
    if args.small:
        found = {'Naive': {'8': measure(ROOT, 'Naive', 8, 1, dict(buckets=2, rows=220, epochs=1))}}
    else:
        found = {strategy: {} for strategy in args.strategies}
        with earlier_checkout() as earlier:
            for strategy in args.strategies:
                for dim in args.features:
                    ratios = measure(earlier, strategy, dim, args.rounds, dict(buckets=10, rows=2310, epochs=10))
                    found[strategy][str(dim)] = ratios
                    print(f"{strategy:10} {dim:5} features  5 seeds {ratios['seeds']:.3f} x five runs  16 values "
                          f"{ratios['sweep']:.2f} x one run", flush=True)
    print(json.dumps(dict(benchmark='continual_lane', rounds=args.rounds, ratios=found)))


if __name__ == '__main__':
    main()
