"""How strong each regulariser should be on the demo stream and on SplitDigits: the sweeps behind their recipes.

A fifth of the training images of every bucket, drawn once, is held out and measured on; test images are not looked at.
Each recipe of `configs/demo` is trained on the rest with six values of the strength of its penalty, or with `--rates`
of its learning rate (`naive` always), everything else as shipped. The number is the accuracy on the held-out images
after the last bucket, the mean of all buckets and seeds. With `--test` the recipe as it ships is trained on all
training images and measured on the test images.

    python benchmarks/regulariser_strengths.py --data split --methods ewc si --seeds 0 1 2
    python benchmarks/regulariser_strengths.py --data split --rates --seeds 0 1 2
    python benchmarks/regulariser_strengths.py --data split --test --seeds 0 1 2
    python benchmarks/regulariser_strengths.py --data demo --methods ewc --data-root data/demo --seeds 0
"""

import argparse
import json
import statistics
import time

import torch

from clear.continual.evaluate import count_correct
from clear.continual.scenarios import build_scenario
from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.continual.strategies import build_strategy, quiet_avalanche
from clear.core.config import configs_folder, load_config
from clear.core.errors import TrainingError
from clear.core.seeding import derive_seed, seed_everything
from clear.models import build_classifier

DATA = dict(demo='demo', split='split-digits')
HELD_OUT = 0.2
# The key that is swept, below `cl_strategy`, and its values on the two streams.
STRENGTHS = {
    'ewc': ('ewc_lambda', dict(demo=[5, 15, 50, 150, 500, 1500], split=[1, 3, 10, 30, 100, 300])),
    'si': ('si_lambda', dict(demo=[0.3, 1, 3, 10, 30, 100], split=[3, 10, 30, 100, 300, 1000])),
    'mas': ('lambda_reg', dict(demo=[0.0003, 0.001, 0.003, 0.01, 0.03, 0.1], split=[0.01, 0.03, 0.1, 0.3, 1, 3])),
    'lwf': ('alpha', dict(demo=[0.3, 1, 2, 4, 8, 16], split=[0.3, 1, 2, 4, 8, 16])),
    'lfl': ('lambda_e', dict(demo=[0.1, 0.3, 1, 3, 10, 30], split=[0.1, 0.3, 1, 3, 10, 30])),
    'featuredistillation': (
        'plugins.0.alpha', dict(demo=[0.1, 0.3, 1, 3, 10, 30], split=[0.01, 0.03, 0.1, 0.3, 1, 3])),
    'rwalk': ('plugins.0.ewc_lambda', dict(demo=[0.1, 0.3, 1, 3, 10, 30], split=[0.1, 0.3, 1, 3, 10, 30]))}
RATE = ('optimizer.lr', dict(demo=[0.005, 0.01, 0.02, 0.05, 0.1, 0.2], split=[0.005, 0.01, 0.02, 0.03, 0.05, 0.1]))
VARIANTS = {('ewc', 'demo'): '-sample', ('ewc', 'split'): '-sample', ('naive', 'split'): '-masked'}


def held_out(buckets):
    """Training and held-out part of every bucket."""
    generator, parts = torch.Generator().manual_seed(0), []
    for inputs, targets in map(tensors, buckets):
        order = torch.randperm(len(targets), generator=generator)
        count = round(HELD_OUT * len(targets))
        parts.append([TensorBucket(inputs[take], targets[take]) for take in (order[count:], order[:count])])
    return [list(part) for part in zip(*parts)]


def tensors(bucket):
    rows = [bucket[row] for row in range(len(bucket))]
    return torch.stack([row[0] for row in rows]), torch.tensor([int(row[1]) for row in rows])


def last_row(cfg, train, test, seed):
    """The mean accuracy on the parts to measure on after the last bucket; None if training diverged."""
    seed_everything(derive_seed(seed, 'model'))
    model, cpu = build_classifier(cfg['model']), torch.device('cpu')
    names = [str(number) for number in range(len(train))]
    benchmark = make_benchmark(ScenarioInfo(class_names=list('0123456789'), bucket_names=names, protocol='iid',
                                            fingerprint='', train=train, test=test))
    with quiet_avalanche():
        strategy = build_strategy(cfg['cl_strategy'], model, device=cpu)
        strategy.attach(seed=seed)
        try:
            for experience in benchmark.train_stream:
                strategy.train(experience, eval_streams=[], num_workers=0)
        except TrainingError:
            return None
    counts = [count_correct(strategy.model, part, batch_size=256, device=cpu) for part in test]
    return statistics.mean(count.correct / count.total for count in counts)


def changed(cfg, key, value):
    """A copy of `cl_strategy` with a value below a dotted key, in which numbers are places in lists."""
    cfg = json.loads(json.dumps(cfg))
    *path, last = key.split('.')
    part = cfg['cl_strategy']
    for name in path:
        part = part[int(name)] if isinstance(part, list) else part[name]
    part[last] = value
    return cfg


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--data', choices=DATA, required=True)
    parser.add_argument('--data-root', default='data/demo', help='of the demo stream')
    parser.add_argument('--methods', nargs='+', choices=['naive', *STRENGTHS], help='all that have a recipe by default')
    parser.add_argument('--rates', action='store_true', help='sweep the learning rate at the strength that ships')
    parser.add_argument('--test', action='store_true', help='no sweep: the recipe as it ships, on test images')
    parser.add_argument('--values', nargs='+', type=float, help='in place of the six of the script')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = {'scenario.data_root': args.data_root} if args.data == 'demo' else {}
    parts, found = None, {}
    for method in args.methods or ['naive', *STRENGTHS]:
        name = f'{method}_lenet5_{DATA[args.data]}{VARIANTS.get((method, args.data), "")}.py'
        cfg = load_config(configs_folder() / 'demo' / name, options)[0].to_dict()
        if parts is None:
            info = build_scenario(cfg['scenario']).info
            parts = [[TensorBucket(*tensors(bucket)) for bucket in part] for part in (info.train, info.test)] \
                if args.test else held_out(info.train)
        key, values = RATE if args.rates or method == 'naive' else STRENGTHS[method]
        tried = {'as shipped': cfg} if args.test else {
            f'{key}={value:g}': changed(cfg, key, value) for value in args.values or values[args.data]}
        for label, trial in tried.items():
            started = time.process_time()
            scores = [last_row(trial, *parts, seed) for seed in args.seeds]
            good = [score for score in scores if score is not None]
            mean = round(statistics.mean(good), 4) if len(good) == len(scores) else None
            found.setdefault(method, {})[label] = mean
            print(f'{method:20} {label:24} {"diverged" if mean is None else mean}  seeds '
                  f'{[None if score is None else round(score, 3) for score in scores]}  '
                  f'{time.process_time() - started:.0f} s CPU', flush=True)
    print(json.dumps(found))


if __name__ == '__main__':
    main()
