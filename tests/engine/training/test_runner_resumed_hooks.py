"""Hooks of other libraries that ask whether a run is resumed: it ends as one that was not stopped."""

import json
from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from event_files import recorded
from mmengine.config import Config
from mmengine.hooks import Hook
from toy_runs import StopAt

from clear.core.errors import Interrupted
from clear.engine.training.runner import Runner
from clear.registry import HOOKS

HOOKS_OF_OTHERS = dict(
    mmengine_average=dict(type='mmengine.EMAHook', momentum=0.1),
    mmpretrain_average=dict(type='EMAHook', momentum=0.1, evaluate_on_origin=True),
    several=[dict(type='PreciseBNHook', num_samples=8), dict(type='ClassNumCheckHook'), dict(
        type='SwitchRecipeHook', schedule=[dict(
            action_epoch=2, train_pipeline=[dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5),
                                            dict(type='PackInputs')],
            batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))])],
    switched_loss=dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, loss=dict(
        type='LabelSmoothLoss', label_smooth_val=0.4, num_classes=3))]),
    asks=dict(type='AsksBeforeTraining'))


@HOOKS.register_module()
class AsksBeforeTraining(Hook):
    """Moves a weight at the start of a fresh run only."""

    def before_train(self, runner):
        if not runner._resume:
            with torch.no_grad():
                next(runner.bare_model.parameters()).add_(0.5)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    tree = write_clear_tree(tmp_path_factory.mktemp('data'), num_buckets=1, per_class=8, image_size=32)
    return next(tree.rglob('*.jpg')).parents[1]


def classifier(work_dir, images, hook, stop=None, resume=False):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    data = dict(batch_size=8, num_workers=0, dataset=dict(type='CustomDataset', data_root=str(images),
                                                         pipeline=pipeline))
    Path(work_dir).mkdir(exist_ok=True)
    runner = Runner.from_cfg(Config(dict(
        work_dir=str(work_dir), device='cpu', seed=0, name='small',
        model=dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4,
                                                         base_channels=4, strides=(2, 2, 2, 2)),
                   neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3,
                                                                     in_channels=32),
                   data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, num_classes=3)),
        train_dataloader=data, train_cfg=dict(by_epoch=True, max_epochs=3),
        val_dataloader=dict(data, sampler=dict(type='DefaultSampler', shuffle=False)), val_cfg=dict(),
        val_evaluator=dict(type='Accuracy', topk=(1,)),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        custom_hooks=hook if isinstance(hook, list) else [hook],
        default_hooks=dict(results=dict(type='ResultsHook', figures=False)),
        visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'),
                                                         dict(type='TensorboardVisBackend')]))))
    if stop:
        runner.register_hook(StopAt(stop))
    runner.build()
    runner.train(resume=resume)
    return runner


@pytest.fixture(scope='module')
def whole(images, tmp_path_factory):
    folder, finished = tmp_path_factory.mktemp('whole'), {}
    for name, hook in HOOKS_OF_OTHERS.items():
        finished[name] = classifier(folder / name, images, hook)
    return finished


@pytest.mark.parametrize(('name', 'stop'), [('mmengine_average', 6), *((name, 7) for name in HOOKS_OF_OTHERS)])
def test_a_resumed_run_ends_as_the_whole_one(name, stop, whole, images, tmp_path):
    """Stopped after the second of three epochs of three iterations, and inside the third."""
    with pytest.raises(Interrupted):
        classifier(tmp_path / 'run', images, HOOKS_OF_OTHERS[name], stop=stop)
    resumed = classifier(tmp_path / 'run', images, HOOKS_OF_OTHERS[name], resume=True)
    torch.testing.assert_close(resumed.bare_model.state_dict(), whole[name].bare_model.state_dict(), rtol=0, atol=0)
    logs = [json.loads((Path(run.work_dir) / 'results.json').read_text())['extras']['train_log']
            for run in (resumed, whole[name])]
    assert logs[0] == logs[1]


def test_the_hooks_do_something(whole):
    """Without it, equality above would say little."""
    heads = {name: run.bare_model.state_dict()['head.fc.weight'] for name, run in whole.items()}
    assert not any(torch.equal(heads['asks'], heads[name]) for name in ('switched_loss', 'several'))


def test_both_values_of_an_average_are_in_the_results(whole, images):
    """Those of the weights themselves, which are no part of what the validation returns."""
    run = whole['mmpretrain_average']
    assert all('val_accuracy/top1_origin' in entry for entry in run.train_log)
    loop = run.val_loop
    run.model.eval()
    for number, batch in enumerate(loop.dataloader):
        loop.run_iter(number, batch)
    assert run.train_log[-1]['val_accuracy/top1_origin'] == loop.evaluator.evaluate(len(loop.dataloader.dataset))[
        'accuracy/top1']
    assert not any(key.endswith('_origin') for entry in whole['asks'].train_log for key in entry)


class Crash(Hook):
    """Ends the run as a kill would, after what it measured in its second epoch was logged."""

    priority = 'LOWEST'

    def after_val_epoch(self, runner, metrics=None):
        if runner.epoch == 2:
            raise RuntimeError('killed')


def logged(work_dir, name):
    """Lines of a log file without what the clock decides."""
    lines = [json.loads(line) for line in (Path(work_dir) / 'vis_data' / name).read_text().splitlines()]
    return [{key: value for key, value in line.items() if 'time' not in key and key != 'memory'} for line in lines]


@pytest.mark.parametrize('tail', ['', '{"accuracy/top1": 33.3, "st', '[1, 2]\n', '\x00\xff\n', '[' * 3000])
def test_measurements_are_logged_once(tail, whole, images, tmp_path, monkeypatch):
    """Whatever a kill left at the end of the files; also in the one without a name."""
    hook = HOOKS_OF_OTHERS['asks']
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match='killed'):
        register = Runner.build
        patch.setattr(Runner, 'build', lambda runner: (runner.register_hook(Crash()), register(runner)))
        classifier(tmp_path / 'run', images, hook)
    names = ('scalars.json', '.json')
    for name in names:
        with (tmp_path / 'run/vis_data' / name).open('a') as file:
            file.write(tail)
    classifier(tmp_path / 'run', images, hook, resume=True)
    for name in names:
        assert logged(tmp_path / 'run', name) == logged(whole['asks'].work_dir, name)
    assert recorded(tmp_path / 'run/vis_data') == recorded(Path(whole['asks'].work_dir) / 'vis_data')
    steps = [line['step'] for line in logged(tmp_path / 'run', 'scalars.json') if 'accuracy/top1' in line]
    assert steps == [1, 2, 3]
