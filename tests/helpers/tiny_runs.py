"""Tiny continual runs for tests: the shipped strategy configs on three buckets of random features."""

import copy
from pathlib import Path

import pytest
import torch
from clear_trees import FEATURE_TYPE, write_clear_tree

from clear.core.config import configs_folder, load_config
from clear.core.files import load_tensors, read_json
from clear.engine.continual.runner import ContinualRunner

# Strategy and its file among the shipped bases.
STRATEGIES = {'Naive': 'naive', 'Cumulative': 'cumulative', 'JointTraining': 'joint', 'Replay': 'replay',
              'GDumb': 'gdumb', 'EWC': 'ewc', 'LwF': 'lwf', 'AGEM': 'agem', 'SynapticIntelligence': 'si'}
# Sizes that make a strategy's memory matter on 3 x 28 samples.
SMALL = {'Replay': dict(mem_size=11), 'GDumb': dict(mem_size=11), 'AGEM': dict(patterns_per_exp=9, sample_size=6)}
HEADS = {'LinearClsHead': {},
         'StackedLinearClsHead': dict(mid_channels=[6], dropout_rate=0.2, norm_cfg=dict(type='BN1d'))}
NUM_BUCKETS, NUM_CLASSES, PER_CLASS, DIM = 3, 4, 10, 8


def write_stream(root, num_buckets=NUM_BUCKETS):
    """A folder with features: per bucket 28 training and 12 test samples of four classes."""
    return write_clear_tree(root, num_buckets=num_buckets, num_classes=NUM_CLASSES, per_class=PER_CLASS, features=DIM,
                            images=False)


def config(root, strategy='Naive', *, metrics=(), head='LinearClsHead', **options):
    """The shipped config of a strategy, made small: 2 epochs of batches of 8 on the stream below `root`.

    Args:
        head: 'LinearClsHead', or 'StackedLinearClsHead' for a hidden layer with BatchNorm and dropout.
        options: other values in `cl_strategy`.
    """
    path = configs_folder() / '_base_' / 'strategies' / f'{STRATEGIES[strategy]}.py'
    cl_strategy = load_config(path)[0].to_dict()['cl_strategy']
    cl_strategy.update(train_mb_size=8, eval_mb_size=5, train_epochs=2, **SMALL.get(strategy, {}))
    cl_strategy['optimizer']['lr'] = 0.1
    cl_strategy['scheduler']['step_size'] = 1
    cl_strategy.update(options)
    return dict(
        scenario=dict(type='CLEAR', data_root=str(root), feature_type=FEATURE_TYPE, seed=0),
        model=dict(head=dict(type=head, num_classes=NUM_CLASSES, in_channels=DIM, **HEADS[head])),
        cl_strategy=cl_strategy, loggers=[], metrics=list(metrics), device='cpu', seed=3)


def built(cfg, work_dir=None):
    """A runner with everything built and nothing trained."""
    before = copy.deepcopy(cfg)
    runner = ContinualRunner(cfg, work_dir)
    runner.build()
    assert cfg == before
    return runner


def train(cfg, work_dir=None, resume=None):
    """A finished run, without figures and report, which take longer than the training."""
    runner = built(cfg, work_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
        patch.setattr('clear.visualization.write_report', lambda *args, **kwargs: None)
        runner.train(resume)
    return runner


def stop_in(runner, experience, iteration=2):
    """Make a built runner stop by a signal, in the given iteration of an experience."""
    after = runner._on_iteration

    def on_iteration(strategy):
        after(strategy)
        if (strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations) == (experience, iteration):
            strategy.request_stop()

    runner._on_iteration = on_iteration


def weights(runner):
    """A copy of the weights as they are now. (GDumb gives the strategy another model at every experience.)"""
    return {name: value.detach().clone() for name, value in runner.strategy.model.state_dict().items()}


def same_weights(one, other):
    """Equal bit for bit; NaN is equal to nothing."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def results_without_time(work_dir):
    return {key: value for key, value in read_json(Path(work_dir) / 'results.json').items() if key != 'timing'}


def checkpoint(work_dir, name='latest.pth'):
    return load_tensors(Path(work_dir) / name)
