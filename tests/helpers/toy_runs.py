"""A tiny self-supervised model and data set that keep the contracts of the Runner, and runs of them."""

import copy
import hashlib
import json
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from clear.core.logs import setup_logging
from clear.core.seeding import seeded_draws
from clear.engine.training.runner import Runner
from clear.registry import DATASETS, MODELS


@DATASETS.register_module()
class ToyViews(Dataset):
    """Two noisy views of fixed images; the noise follows from (seed, epoch, index), from all three generators."""

    def __init__(self, size=24, side=4, seed=0, poison=None):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(size, 3, side, side, generator=generator)
        self.ids = self.paths = [str(index) for index in range(size)]
        self.seed, self.poison = seed, poison

    def __len__(self):
        return len(self.images)

    def fingerprint(self):
        return hashlib.sha256(self.images.numpy().tobytes()).hexdigest()

    def __getitem__(self, key):
        epoch, index = key
        image = self.images[index]
        if self.poison is not None and (epoch, index) == tuple(self.poison):
            image = image * float('nan')
        with seeded_draws(hash((self.seed, epoch, index))):
            views = [image + torch.randn_like(image) + float(np.random.rand()) + random.random() for _ in range(2)]
        return dict(inputs=views)


@MODELS.register_module()
class ToyPairs(BaseModel):
    """Predict one view's embedding from the other's; with noise of the global generator, and a remembered average."""

    def __init__(self, dim=6, noise=0.1, has_bn=True, keeps_average=True, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor)
        norm = nn.BatchNorm2d(dim) if has_bn else nn.Identity()
        self.encoder = nn.Sequential(nn.Conv2d(3, dim, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.predictor = nn.Linear(dim, dim)
        self.register_buffer('average', torch.zeros(dim))
        self.noise, self.keeps_average, self.seen, self.dtypes = noise, keeps_average, [], set()

    def set_progress(self, iteration, max_iterations, iterations_per_epoch, is_step_start):
        self.seen.append((iteration, max_iterations, iterations_per_epoch, is_step_start))

    def features(self, images):
        return self.encoder(images)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'tensor':
            return self.features(inputs)
        first, second = (self.encoder(view) for view in inputs)
        self.dtypes.add(first.dtype)
        noise = self.noise * torch.randn(first.shape)
        error = self.predictor(first + noise) - second.detach() - 0.1 * self.average
        with torch.no_grad():
            if self.keeps_average:
                self.average.lerp_(first.float().mean(0), 0.1)
        return dict(loss_pair=error.square().mean(), loss_size=0.01 * first.square().mean(),
                    acc=(error.detach() > 0).float().mean())


TOY = dict(
    name='toy', model=dict(type='ToyPairs'),
    train_dataloader=dict(batch_size=4, num_workers=0, dataset=dict(type='ToyViews')),
    train_cfg=dict(by_epoch=True, max_epochs=3),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=1e-4)),
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)], seed=3,
    default_hooks=dict(results=dict(type='ResultsHook', figures=False)))


def toy_config(work_dir, **changes):
    """The toy's config with `a=value` replaced, and `a__b=value` put inside `a`."""
    cfg = Config({**copy.deepcopy(TOY), **{key: value for key, value in changes.items() if '__' not in key}})
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items() if '__' in key})
    cfg.work_dir = str(work_dir)
    return cfg


def toy_run(work_dir, resume=None, hooks=(), **changes):
    """Train the toy, with further hooks that are no part of the config; the runner."""
    runner = toy_runner(work_dir, hooks, **changes)
    runner.train(resume=resume)
    return runner


def toy_runner(work_dir, hooks=(), **changes):
    """A built runner of the toy."""
    setup_logging(None)
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    runner = Runner.from_cfg(toy_config(work_dir, **changes))
    for hook in hooks:
        runner.register_hook(hook)
    runner.build()
    return runner


class StopAt(Hook):
    """Asks a run to stop after a number of iterations, as SIGTERM does."""

    def __init__(self, iterations):
        self.iterations = iterations

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.iterations:
            runner.stop_requested = True


def outcome(runner):
    """What two equal runs have in common: weights, optimiser, and results.json without its timing.

    And without the commit: who works on this code may make one while the tests run.
    """
    results = json.loads((Path(runner.work_dir) / 'results.json').read_text())
    del results['timing'], results['git']
    return runner.bare_model.state_dict(), runner.optim_wrapper.state_dict()['state'], results


def assert_same(one, other):
    """Bit-equal weights and optimiser, equal results."""
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(one[1], other[1], rtol=0, atol=0)
    assert one[2] == other[2]


@DATASETS.register_module()
class ToyDraws(Dataset):
    """Asked for an index; draws from whatever the global generators give, as other libraries' data sets do."""

    def __init__(self):
        self.images = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return dict(inputs=[self.images[index] + torch.randn(3, 4, 4) + float(np.random.rand()) + random.random()
                            for _ in range(2)])


@MODELS.register_module()
class ToyOther(ToyPairs):
    """Another algorithm with the same weights."""
