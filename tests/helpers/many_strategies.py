"""Every strategy on a tiny stream, run as the shipped runner runs it: what the comparison tests go through."""

import copy

import pytest
import torch
from tiny_runs import DIM, NUM_CLASSES, STRATEGIES, config, results_without_time, same_weights, stop_in, weights
from toy_streams import CLASS_INCREMENTAL, DOMAIN, class_stream, domain_stream

from clear.continual.scenarios.base import ScenarioInfo, TensorBucket
from clear.core.errors import Interrupted
from clear.engine.continual.runner import ContinualRunner
from clear.registry import STRATEGIES as REGISTRY

# Heads by name: one layer; a hidden layer; a hidden layer with BatchNorm, and with BatchNorm and dropout.
HEADS = {
    'linear': dict(type='LinearClsHead'),
    'hidden': dict(type='StackedLinearClsHead', mid_channels=[6]),
    'norm': dict(type='StackedLinearClsHead', mid_channels=[6], norm_cfg=dict(type='BN1d')),
    'noisy': dict(type='StackedLinearClsHead', mid_channels=[6], dropout_rate=0.2, norm_cfg=dict(type='BN1d'))}
# Ours, beside those that shadow one of Avalanche's, and further forms of one under a name of their own.
OWN = {'DERpp': dict(mem_size=11, alpha=0.3, beta=0.7, batch_size_mem=5), 'NCM': {}, 'Prototype': {},
       'PrototypePlus': {}, 'RanPAC': {}}
FORMS = {
    'EWC by sample': ('EWC', dict(ewc_lambda=1.0, fisher='sample')),
    'AGEM by reservoir': ('AGEM', dict(patterns_per_exp=9, sample_size=6, reservoir=True)),
    'Replay by reservoir': ('Replay', dict(storage_policy=dict(type='ReservoirSamplingBuffer', max_size=11))),
    'GDumb by biased reservoir': ('GDumb', dict(buffer=dict(type='BiasedReservoirSamplingBuffer', max_size=11,
                                                            alpha_mode='Dynamic', alpha_value=0.5))),
    'Naive with LoadBest': ('Naive', dict(plugins=[dict(type='LoadBest', val_ratio=0.2)])),
    'Replay with LwF': ('Replay', dict(mem_size=11, plugins=[dict(type='LwFPlugin', alpha=1.0, temperature=2.0)]))}
ON_CLASSES = tuple(f'{name} on classes' for name in CLASS_INCREMENTAL)
NAMES = tuple(dict.fromkeys([*STRATEGIES, *DOMAIN, *OWN, *FORMS, *ON_CLASSES]))
# Their solution is written into one linear layer.
ONE_LAYER = ('NCM', 'Prototype', 'PrototypePlus', 'RanPAC', 'StreamingLDA')
# They go beyond the last layer's inputs, so these must be trained.
HIDDEN_LAYER = ('LFL', 'ER_AML', 'SCR', 'CoPE')


def kind_and_options(name):
    """Type of a strategy by its name here, and what its constructor needs."""
    if name in FORMS:
        return FORMS[name]
    kind = name.removesuffix(' on classes')
    found = [table[kind] for table in ((CLASS_INCREMENTAL,) if kind != name else (OWN, DOMAIN)) if kind in table]
    return kind, found[0]


def settings(root, name, *, head='hidden', metrics=(), **options):
    """The config of a strategy by its name here, with batches of 8 and 2 epochs, as in `tiny_runs.config`.

    Args:
        head: a key of `HEADS`; not for those that allow one layer only.
        options: other values in `cl_strategy`.
    """
    if name in STRATEGIES:
        cfg = config(root, name, metrics=metrics)
    else:
        cfg = config(root, 'Naive', metrics=metrics)
        kind, own = kind_and_options(name)
        cfg['cl_strategy'].update(type=kind, **copy.deepcopy(own))
        owner = REGISTRY.require(kind)
        unused = [*(['loss'] if hasattr(owner, 'own_loss') else []),
                  *(['train_epochs'] if kind == 'OnlineNaive' else []),
                  *([] if getattr(owner, 'needs_optimizer', True) else ['optimizer', 'scheduler', 'train_epochs'])]
        for key in unused:
            cfg['cl_strategy'].pop(key, None)
    cfg['cl_strategy'].update(options)
    part = HEADS['linear' if name in ONE_LAYER else head]
    if name == 'RanPAC':
        part = dict(type='RandomProjectionHead', dim=20)
    cfg['model'] = dict(head=dict(num_classes=NUM_CLASSES, in_channels=DIM, **part))
    return cfg


class OnClasses(ContinualRunner):
    """A runner on a class-incremental stream of features, two new classes in each of two buckets."""

    def build_data(self):
        self.benchmark = class_stream()
        train, test = ([_bucket(experience.dataset) for experience in stream]
                       for stream in (self.benchmark.train_stream, self.benchmark.test_stream))
        self.info = self.benchmark.info = ScenarioInfo(
            class_names=list('abcd'), bucket_names=list('01'), protocol='iid', fingerprint='toy', train=train,
            test=test)


class OnImages(ContinualRunner):
    """A runner on three buckets of 8 x 8 images, which are tensors."""

    def build_data(self):
        self.benchmark = domain_stream(3, shape=(1, 8, 8))
        self.info = self.benchmark.info


def _bucket(dataset):
    return TensorBucket(torch.stack([row[0] for row in dataset]), torch.tensor([int(row[1]) for row in dataset]))


def built(root, name, work_dir=None, **options):
    """A runner of a strategy by its name here, with everything built; `options` as for `settings`."""
    runner_class = OnClasses if name in ON_CLASSES else OnImages if name == 'LearningToPrompt' else ContinualRunner
    runner = runner_class(settings(root, name, **options), work_dir)
    if runner_class is OnImages:  # its model is a ViT of its own
        runner.cfg['model'] = dict(neck=dict(type='GlobalAveragePooling'),
                                   head=dict(type='LinearClsHead', num_classes=NUM_CLASSES, in_channels=1))
    runner.build()
    return runner


def trained(runner, resume=None):
    """The runner, trained, without figures and report, which take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
        patch.setattr('clear.visualization.write_report', lambda *args, **kwargs: None)
        runner.train(resume)
    return runner


def stopped(runner, experience, iteration, resume=None):
    """Train a built runner until a signal comes in an iteration of an experience."""
    stop_in(runner, experience, iteration)
    with pytest.raises(Interrupted):
        runner.train(resume)
    return runner


def assert_same_run(whole, parts):
    """Weights bit for bit, and results but times, of two finished runs in folders of their own."""
    assert same_weights(weights(whole), weights(parts))
    assert results_without_time(whole.work_dir) == results_without_time(parts.work_dir)
