"""What the engine's mix-in adds to an iteration on an image model: ResNet-18 on 32-pixel images.

In turn, in one process: Naive under our mix-in, stock Avalanche's Naive, and a bare torch loop, each over the same
tensors with the same batches, optimiser and number of iterations. Process CPU time, one thread, medians of round-wise
ratios.

Claim: ours / bare loop - 1 <= 0.03.

    python benchmarks/mixin_overhead.py --rounds 5
"""

import argparse
import json
import statistics
import time
import warnings

import torch
from torch import nn

from clear.continual.loggers import build_evaluator
from clear.continual.scenarios import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.strategies import build_strategy, quiet_avalanche
from clear.models import build_classifier

CLASSES, BATCH = 10, 32
MODEL = dict(backbone=dict(type='ResNet_CIFAR', depth=18), neck=dict(type='GlobalAveragePooling'),
             head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=512))


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return build_classifier(MODEL)


def timed(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def ours(benchmark):
    cfg = dict(type='Naive', train_mb_size=BATCH, optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
    strategy = build_strategy(cfg, make_model(), device=torch.device('cpu'), evaluator=build_evaluator([], [], None))
    strategy.attach(seed=0)
    return lambda: strategy.train(benchmark.train_stream[0], eval_streams=[], num_workers=0)


def stock(benchmark):
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import Naive

    model = make_model()
    strategy = Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
                     criterion=nn.CrossEntropyLoss(), train_mb_size=BATCH, evaluator=EvaluationPlugin(loggers=[]))
    return lambda: strategy.train(benchmark.train_stream[0], eval_streams=[], num_workers=0)


def bare(bucket):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def run():
        model.train()
        for rows in torch.randperm(len(bucket)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(bucket.inputs[rows]), bucket.labels[rows]).backward()
            optimizer.step()

    return run


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--small', action='store_true', help='two iterations, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    count = BATCH * (2 if args.small else 12)
    generator = torch.Generator().manual_seed(0)
    bucket = TensorBucket(torch.randn(count, 3, 32, 32, generator=generator), torch.arange(count) % CLASSES)
    info = ScenarioInfo([str(c) for c in range(CLASSES)], ['1'], 'iid', 'benchmark', [bucket], [bucket])
    times: dict[str, list[float]] = dict(ours=[], stock=[], bare=[])
    with quiet_avalanche():
        benchmark = make_benchmark(info)
        bare(bucket)()  # warms up
        for _ in range(args.rounds):
            for name, run in (('ours', ours(benchmark)), ('stock', stock(benchmark)), ('bare', bare(bucket))):
                times[name].append(timed(run))
    for name, values in times.items():
        print(f'{name:6} {1000 * statistics.median(values) / (count / BATCH):7.1f} ms CPU per iteration')
    ratio = {name: statistics.median(a / b for a, b in zip(times[name], times['bare'])) for name in ('ours', 'stock')}
    print(json.dumps(dict(benchmark='mixin_overhead', rounds=args.rounds, iterations=count // BATCH,
                          ours_over_bare=ratio['ours'], stock_over_bare=ratio['stock'], overhead=ratio['ours'] - 1)))


if __name__ == '__main__':
    main()
