"""Continual learning on features: our runner, stock Avalanche and a raw tensor loop, on CLEAR-10-size data.

Ten buckets of 2,310 training and 990 test rows of 2,048 features, eleven classes, a linear head, SGD with momentum,
batch 256. In turn, in one process: Naive epochs, Replay epochs (memory of 2,310), and the evaluation of the whole
test stream, each by our engine, by stock Avalanche with its own loaders and evaluator, and by a plain loop over
tensors that does the same steps. Process CPU time, one thread, medians of round-wise ratios.

Claims: Naive and Replay >= 4 x faster than Avalanche and <= 1.2 x / 1.3 x the raw loop; evaluation >= 8 x faster than
Avalanche and <= 1.2 x raw.

    python benchmarks/continual_speed.py --rounds 3
"""

import argparse
import json
import statistics
import time
import warnings

import torch
from torch import nn

from clear.continual.evaluate import count_correct
from clear.continual.loggers import build_evaluator
from clear.continual.scenarios import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.strategies import build_strategy, quiet_avalanche

CLASSES, LR, MOMENTUM, BATCH = 11, 1.0, 0.9, 256


def make_stream(num_buckets: int, num_train: int, num_test: int, dim: int):
    """A benchmark of random features with class means that drift a little."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, dim, generator=generator)

    def bucket(count):
        labels = torch.arange(count) % CLASSES
        return TensorBucket(means[labels] + 4 * torch.randn(count, dim, generator=generator), labels)

    info = ScenarioInfo([str(c) for c in range(CLASSES)], [str(b + 1) for b in range(num_buckets)], 'iid', 'benchmark',
                        [bucket(num_train) for _ in range(num_buckets)], [bucket(num_test) for _ in range(num_buckets)])
    return make_benchmark(info)


def linear(dim: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(dim, CLASSES)


def ours(name, benchmark, dim, epochs):
    options = dict(mem_size=len(benchmark.info.train[0])) if name == 'Replay' else {}
    cfg = dict(type=name, train_mb_size=BATCH, eval_mb_size=BATCH, train_epochs=epochs,
               optimizer=dict(type='SGD', lr=LR, momentum=MOMENTUM), **options)
    strategy = build_strategy(cfg, linear(dim), device=torch.device('cpu'), evaluator=build_evaluator([], [], None))
    strategy.attach(seed=0)
    return strategy


def stock(name, benchmark, dim, epochs):
    from avalanche.training import supervised

    model = linear(dim)
    options = dict(mem_size=len(benchmark.info.train[0])) if name == 'Replay' else {}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    # The usual evaluator of Avalanche's examples, without console output.
    from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
    from avalanche.training.plugins import EvaluationPlugin

    evaluator = EvaluationPlugin(accuracy_metrics(epoch=True, experience=True), loss_metrics(epoch=True), loggers=[])
    return getattr(supervised, name)(model=model, optimizer=optimizer, criterion=nn.CrossEntropyLoss(),
                                     train_mb_size=BATCH, eval_mb_size=BATCH, train_epochs=epochs, evaluator=evaluator,
                                     **options)


def raw(name, buckets, dim, epochs):
    """The same training as a loop over tensors: current rows, and as many of a memory from the second bucket on."""
    model = linear(dim)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    memory = None
    for bucket in buckets:
        for _ in range(epochs):
            past = None if memory is None else iter(torch.randperm(len(memory[1])).split(BATCH))
            for rows in torch.randperm(len(bucket)).split(BATCH):
                x, y = bucket.inputs.index_select(0, rows), bucket.labels.index_select(0, rows)
                if past is not None:
                    old = next(past)
                    x = torch.cat([x, memory[0].index_select(0, old)])
                    y = torch.cat([y, memory[1].index_select(0, old)])
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
        if name == 'Replay' and memory is None:
            memory = bucket.inputs, bucket.labels
    return model


def timed(function) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def train_all(strategy, experiences) -> None:
    for experience in experiences:
        strategy.train(experience, eval_streams=[], num_workers=0)


def train_rounds(name, benchmark, dim, epochs, rounds):
    """CPU seconds of each way, per round, over the first two buckets (the second one replays)."""
    times = dict(ours=[], stock=[], raw=[])
    experiences = list(benchmark.train_stream)[:2]
    for _ in range(rounds):
        for way, make in (('ours', ours), ('stock', stock)):
            strategy = make(name, benchmark, dim, epochs)
            times[way].append(timed(lambda strategy=strategy: train_all(strategy, experiences)))
        times['raw'].append(timed(lambda: raw(name, benchmark.info.train[:2], dim, epochs)))
    return times


def evaluation_rounds(benchmark, dim, rounds):
    model = linear(dim)
    strategy = stock('Naive', benchmark, dim, 1)
    tests = benchmark.info.test

    def plain():
        with torch.no_grad():
            return [(model(bucket.inputs).argmax(1) == bucket.labels).sum().item() for bucket in tests]

    def by_rows():
        return [count_correct(model, bucket, batch_size=BATCH, device='cpu').correct for bucket in tests]

    assert plain() == by_rows()
    times = dict(ours=[], stock=[], raw=[])
    for _ in range(rounds):
        times['ours'].append(timed(by_rows))
        times['stock'].append(timed(lambda: strategy.eval(benchmark.test_stream)))
        times['raw'].append(timed(plain))
    return times


def ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(one, other))


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--small', action='store_true', help='few rows and features, to see that it runs')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    buckets, num_train, num_test, dim, epochs = (2, 300, 100, 32, 1) if args.small else (10, 2310, 990, 2048, 10)
    benchmark = make_stream(buckets, num_train, num_test, dim)
    result = dict(benchmark='continual_speed', rounds=args.rounds)
    with quiet_avalanche():
        measured = {name: train_rounds(name, benchmark, dim, epochs, args.rounds) for name in ('Naive', 'Replay')}
        measured['evaluation'] = evaluation_rounds(benchmark, dim, args.rounds)
    for name, times in measured.items():
        print(f'{name:10}', '  '.join(f'{way} {statistics.median(values):.3f} cpu-s' for way, values in times.items()))
        result[f'{name.lower()}_stock_over_ours'] = ratio(times['stock'], times['ours'])
        result[f'{name.lower()}_ours_over_raw'] = ratio(times['ours'], times['raw'])
    print(json.dumps(result))


if __name__ == '__main__':
    main()
