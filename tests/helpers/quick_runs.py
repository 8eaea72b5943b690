"""Continual runs on three buckets of features, without figures, which take longer than the training."""

from pathlib import Path

import pytest
from clear_trees import FEATURE_TYPE

from clear.core.errors import Interrupted
from clear.core.files import load_tensors
from clear.engine.continual.runner import ContinualRunner

DIM, CLASSES = 8, 3


def config(root, kind='Naive', strategy=(), **changes):
    """A config of two epochs of batches of 8; `strategy` are values in `cl_strategy`, `changes` other keys."""
    options = dict(type=kind, train_mb_size=8, eval_mb_size=8, train_epochs=2,
                   optimizer=dict(type='SGD', lr=0.1, momentum=0.9)) | dict(strategy)
    return dict(scenario=dict(type='CLEAR', data_root=str(root), seed=0, feature_type=FEATURE_TYPE),
                model=dict(head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=DIM)),
                cl_strategy=options, loggers=[], metrics=[], checkpoint_config=dict(interval=1), device='cpu') | changes


def built(cfg, work_dir=None):
    runner = ContinualRunner(cfg, work_dir)
    runner.build()
    return runner


def without_figures(patch):
    """Write a report of no words, and no figures."""
    patch.setattr('clear.visualization.draw_figures', lambda *args, **kwargs: [])
    patch.setattr('clear.visualization.write_report', lambda results, path, **kwargs: Path(path).write_text('report'))


def trained(cfg, work_dir=None, **how):
    """A finished run; `how` is `resume` or `branch`."""
    runner = built(cfg, work_dir)
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        runner.found = runner.train(**how)
    return runner


def stop(runner, experience, iteration):
    """Train a built runner until a signal comes in an iteration of an experience."""
    after = runner._on_iteration

    def on_iteration(strategy):
        after(strategy)
        if (strategy.clock.train_exp_counter, strategy.clock.train_exp_iterations) == (experience, iteration):
            strategy.request_stop()

    runner._on_iteration = on_iteration
    with pytest.raises(Interrupted):
        runner.train()


def weights_of(work_dir, name='latest.pth'):
    return load_tensors(Path(work_dir) / name)['state_dict']
