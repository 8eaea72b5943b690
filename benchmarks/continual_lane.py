"""Several seeds, or values of a hyper-parameter, in one lane, against single runs of an earlier commit.

Ten buckets of 2,310 training and 990 test rows of 11 classes, batches of 256, ten epochs each, a linear head. In turn:
a single run by the earlier commit (a git worktree that lies beside for the time of the benchmark), five seeds by
`seeds=`, and sixteen learning rates by `sweep=`, both by this checkout. Each checkout has one process, which trains a
small run of a kind before the first one that counts, so that imports and what libraries do once are left out. CPU
seconds, one thread, medians of round-wise ratios; figures of the report are off everywhere, checkpoints and results are
written as always.

Claims, of every strategy: five seeds / five single runs <= 0.3 at 64 features, <= 0.55 at 512, <= 0.8 at 2,048;
sixteen values / one single run <= 3.

    python benchmarks/continual_lane.py --rounds 3
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from timing import ratio

ROOT = Path(__file__).resolve().parents[1]
EARLIER = 'ec6192b'
STRATEGIES = dict(Naive={}, Cumulative={}, Replay=dict(mem_size=2310), EWC=dict(ewc_lambda=0.4),
                  LwF=dict(alpha=1.0, temperature=2.0), DERpp=dict(mem_size=2310))
Timed = Callable[[dict], float]
VALUES = [round(0.02 * (number + 1), 2) for number in range(16)]

# The process of a checkout: for every line that it reads, the CPU seconds of one command of tools/train.py.
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

def run(dim, strategy, buckets, rows, epochs, more):
    with tempfile.TemporaryDirectory() as folder:
        cfg = Config(dict(
            name='bench', work_dir=folder + '/run', scenario=dict(type='BenchRows', dim=dim, buckets=buckets,
            rows=rows), model=dict(head=dict(type='LinearClsHead', num_classes=11, in_channels=dim)),
            cl_strategy=dict(train_mb_size=256, eval_mb_size=256, train_epochs=epochs,
                             optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
                             scheduler=dict(type='StepLR', step_size=6), **strategy),
            loggers=[], metrics=[], threads=1, device='cpu', report=False, **more))
        ContinualProgram.check(cfg)
        args = argparse.Namespace(dry_run=False, resume=None, overwrite=False, branch=None, amp=None, seed=None)
        started = time.process_time()
        ContinualProgram(cfg).run(args)
        return time.process_time() - started

logging.disable(logging.CRITICAL)
answers, sys.stdout = sys.stdout, sys.stderr
seen = set()
for line in sys.stdin:
    wanted = json.loads(line)
    kind = json.dumps([wanted['strategy'], wanted['more']])
    if kind not in seen:
        run(**{**wanted, 'buckets': 2, 'rows': 220, 'epochs': 1})
        seen.add(kind)
    print(run(**wanted), file=answers, flush=True)
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


@contextmanager
def training_process(checkout: Path):
    """A function from a run to its CPU seconds, in a process of a checkout.

    Raises:
        RuntimeError: by the function, if the process ended; with what it wrote.
    """
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(checkout)}
    with tempfile.TemporaryFile('w+') as said, \
            subprocess.Popen([sys.executable, '-c', PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=said, text=True, env=env, cwd=checkout) as process:

        def cpu_seconds(wanted: dict) -> float:
            print(json.dumps(wanted), file=process.stdin, flush=True)
            line = process.stdout.readline()
            if not line:
                process.wait()
                said.seek(0)
                raise RuntimeError(said.read())
            return float(line)

        yield cpu_seconds


def measure(earlier: Timed, now: Timed, strategy: str, dim: int, rounds: int, size: dict) -> dict[str, float]:
    """Ratios of one strategy on rows of one width."""
    wanted = dict(dim=dim, strategy=dict(type=strategy, **STRATEGIES[strategy]), **size)
    times = []
    for _ in range(rounds):
        one = earlier({**wanted, 'more': {}})
        seeds = now({**wanted, 'more': dict(seeds=[0, 1, 2, 3, 4])})
        sweep = now({**wanted, 'more': dict(sweep={'cl_strategy.optimizer.lr': VALUES})})
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
        with training_process(ROOT) as now:
            found = {'Naive': {'8': measure(now, now, 'Naive', 8, 1, dict(buckets=2, rows=220, epochs=1))}}
    else:
        found = {strategy: {} for strategy in args.strategies}
        with earlier_checkout() as path, training_process(path) as earlier, training_process(ROOT) as now:
            for strategy, dim in itertools.product(args.strategies, args.features):
                ratios = measure(earlier, now, strategy, dim, args.rounds, dict(buckets=10, rows=2310, epochs=10))
                found[strategy][str(dim)] = ratios
                print(f"{strategy:10} {dim:5} features  5 seeds {ratios['seeds']:.3f} x five runs  16 values "
                      f"{ratios['sweep']:.2f} x one run", flush=True)
    print(json.dumps(dict(benchmark='continual_lane', rounds=args.rounds, ratios=found)))


if __name__ == '__main__':
    main()
