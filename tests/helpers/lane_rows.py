"""Toy features for lanes: a stream of four classes, configs on it, and runs of them together and alone."""

import copy
from pathlib import Path

import torch
from mmengine.config import Config

from clear.continual.scenarios import ScenarioInfo, TensorBucket, make_benchmark
from clear.core.files import load_tensors
from clear.engine.continual.lanes import Seat, run_lane
from clear.engine.continual.runner import ContinualRunner
from clear.registry import SCENARIOS

CLASSES, FEATURES = 4, 6
OPTIONS = dict(Naive={}, Cumulative={}, Replay=dict(mem_size=17), EWC=dict(ewc_lambda=0.7),
               LwF=dict(alpha=[0.5, 1.0, 2.0], temperature=2.0), DERpp=dict(mem_size=13, batch_size_mem=5))
HEADS = dict(linear=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=FEATURES),
             mlp=dict(type='StackedLinearClsHead', num_classes=CLASSES, in_channels=FEATURES, mid_channels=[5]))
EPOCH_METRICS = [dict(type='accuracy_metrics', epoch=True), dict(type='loss_metrics', epoch=True)]


@SCENARIOS.register_module(name='LaneRows', force=True)
def lane_rows(num_buckets: int = 3, features: int = FEATURES, tested: int = 20, work_dir: str | None = None):
    """Buckets of 37, 41 and 29 rows, in torch's default dtype."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, features, generator=generator)

    def bucket(rows):
        targets = torch.randint(0, CLASSES, (rows,), generator=generator)
        return TensorBucket(means[targets] + torch.randn(rows, features, generator=generator), targets)

    return make_benchmark(ScenarioInfo(
        [str(label) for label in range(CLASSES)], [str(number) for number in range(num_buckets)], 'iid', 'lane rows',
        [bucket(rows) for rows in (37, 41, 29)[:num_buckets]], [bucket(tested) for _ in range(num_buckets)]))


def lane_config(kind='Naive', head='linear', **options):
    """A config on these rows; `options` are of `cl_strategy`."""
    strategy = dict(type=kind, train_mb_size=8, train_epochs=2, optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
                    scheduler=dict(type='StepLR', step_size=1, gamma=0.5), **OPTIONS[kind])
    return Config(dict(scenario=dict(type='LaneRows'), model=dict(head=HEADS[head]), cl_strategy=strategy | options,
                       loggers=[], metrics=EPOCH_METRICS, threads=1, device='cpu', report=False))


def run_together(cfg, folder, seeds, resume=False):
    """The folder of each seed of a lane."""
    seats = []
    for seed in seeds:
        one = copy.deepcopy(cfg)
        one['seed'] = seed
        seats.append(Seat(one, Path(folder) / f'seed_{seed}', f'seed {seed}'))
    run_lane(seats, resume, lambda: None)
    return [seat.folder for seat in seats]


def run_alone(cfg, folder, seed):
    """The folder of a run of `ContinualRunner`."""
    folder = Path(folder) / f'alone_{seed}'
    folder.mkdir(parents=True)
    runner = ContinualRunner({**cfg.to_dict(), 'seed': seed}, folder)
    runner.build()
    runner.train()
    return folder


def tensors_of(state, path=''):
    """Every tensor in nested state, by its place."""
    if isinstance(state, torch.Tensor):
        return {path: state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, (list, tuple)) else ()
    return {name: tensor for key, value in items for name, tensor in tensors_of(value, f'{path}.{key}').items()}


def checkpoint_of(folder):
    """`latest.pth` of a run."""
    return load_tensors(Path(folder) / 'latest.pth')
