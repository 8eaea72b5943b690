"""mmpretrain's configs with data and schedule overridden: trained, stopped, resumed to the same bits, and tested."""

import json

import pytest
import torch
from short_runs import CONFIGS, read_results, run
from toy_runs import StopAt

from clear.core.files import load_tensors
from clear.datasets.make.demo import write_demo
from clear.engine.training.runner import Runner

pytest.importorskip('mmpretrain')
FOLDER = CONFIGS / 'mmpretrain'
RECIPES = sorted(path.stem for path in FOLDER.glob('*.py'))
# Networks of the same kind, small enough for a test; the recipes have the published ones.
SMALL = {
    'resnet18_demo': ['model.backbone.base_channels=8', 'model.backbone.stem_channels=8', 'model.head.in_channels=64'],
    'convnext-tiny_demo': ['model.backbone.arch=atto', 'model.head.in_channels=320'],
    'vit-base-p16_demo': ['model.backbone.arch=deit-tiny', 'model.head.in_channels=192', 'model.head.hidden_dim=64'],
    'mae_vit-base-p16_demo': ['model.backbone.arch=deit-tiny', 'model.neck.embed_dim=192',
                              'model.neck.decoder_embed_dim=64', 'model.neck.decoder_depth=1',
                              'model.neck.decoder_num_heads=4'],
    'mocov3_vit-small-p16_demo': ['model.backbone.arch=deit-tiny', 'model.neck.in_channels=192',
                                  'model.neck.hid_channels=64', 'model.head.predictor.hid_channels=64'],
    'swav_resnet50_demo': ['model.backbone.depth=18', 'model.backbone.base_channels=8',
                           'model.backbone.stem_channels=8', 'model.neck.in_channels=64',
                           'custom_hooks.0.batch_size=16', 'custom_hooks.0.epoch_queue_starts=1',
                           'custom_hooks.0.queue_length=32',
                           'custom_hooks.0.frozen_layers_cfg.prototypes=2'],
}
PRETRAINING = ('mae', 'mocov3', 'swav')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    write_demo(root / 'data' / 'demo', seeds=[0], limit=100)
    return root


def options(name):
    """Two epochs of four or five iterations."""
    return ['threads=1', 'device=cpu', 'train_cfg.max_epochs=2', 'train_dataloader.batch_size=16', *SMALL[name]]


def test_every_recipe_has_a_small_one():
    assert set(SMALL) == set(RECIPES)


def test_a_recipe_is_planned(data, tmp_path, monkeypatch):
    """In the order that a user of mmpretrain looks for: which classes, what was replaced, what was left out."""
    monkeypatch.chdir(data)
    done = run('train', FOLDER / 'swav_resnet50_demo.py', '--dry-run', '--cfg-options', *options('swav_resnet50_demo'))
    assert done.code == 0, done.err
    text = done.out + done.err
    for words in ('names     mmpretrain.SwAV, mmpretrain.SwAVLoss', 'clear.SwAVLoss', 'replaced  ', 'SwAVHook',
                  'left out  env_cfg.dist_cfg'):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_trains_stops_resumes_and_is_tested(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    config = FOLDER / f'{name}.py'

    def train(folder, *more):
        return run('train', config, '--work-dir', tmp_path / folder, *more, '--cfg-options', *options(name))

    whole = train('whole')
    assert whole.code == 0, whole.err
    build = Runner.build
    with monkeypatch.context() as patch:
        patch.setattr(Runner, 'build', lambda runner: (runner.register_hook(StopAt(6)), build(runner))[1])
        stopped = train('run')
    assert stopped.code == 143 and 'after iteration 6 of ' in stopped.err
    resumed = train('run', '--resume')
    assert resumed.code == 0, resumed.err
    states = [load_tensors(tmp_path / folder / 'latest.pth')['state_dict'] for folder in ('run', 'whole')]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    logs = [read_results(tmp_path / folder)['extras']['train_log'] for folder in ('run', 'whole')]
    assert logs[0] == logs[1] and len(logs[0]) == 2
    tested = run('test', config, tmp_path / 'run' / 'latest.pth', '--out', tmp_path / 'tested.json', '--cfg-options',
                 *options(name))
    if name.startswith(PRETRAINING):
        assert tested.code == 2 and 'evaluated by a probing config' in tested.err
        return
    assert tested.code == 0, tested.err
    measured = json.loads((tmp_path / 'tested.json').read_text())['metrics']
    assert measured == {key.removeprefix('val_'): value for key, value in logs[0][-1].items() if key.startswith('val_')}


IMPORTED = """
from mmengine.config import read_base
with read_base():
    from mmpretrain.configs.resnet.resnet18_8xb16_cifar10 import *
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.evaluation import Accuracy, SingleLabelMetric
from torch.optim import AdamW

split = 'training_folder/testset_ratio_0.3/split_0/1'
images = dict(type=CustomDataset, data_root='data/demo', pipeline=[dict(type=LoadImageFromFile), dict(type=PackInputs)])
train_dataloader.update(batch_size=16, num_workers=0)
train_dataloader.dataset = dict(images, ann_file=f'{split}/train.txt')
val_dataloader.update(num_workers=0)
val_dataloader.dataset = dict(images, ann_file=f'{split}/test.txt')
test_dataloader = val_dataloader
val_evaluator = [dict(type=Accuracy, topk=(1, 5)), dict(type=SingleLabelMetric)]
test_evaluator = val_evaluator
model.backbone.update(base_channels=8, stem_channels=8)
model.head.update(in_channels=64)
default_hooks.update(checkpoint=dict(type=CheckpointHook, save_best='single-label/recall', save_last=True))
train_cfg = dict(type=EpochBasedTrainLoop, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type=AdamW, lr=1e-3))
"""


def test_a_config_of_imported_classes(data, tmp_path, monkeypatch):
    """Stopped, resumed from the config that the run has saved, and tested."""
    monkeypatch.chdir(data)
    path = tmp_path / 'imported.py'
    path.write_text(IMPORTED)
    more = ['--work-dir', tmp_path / 'run', '--cfg-options', 'threads=1', 'device=cpu',
            'optim_wrapper.optimizer.lr=0.01']
    build = Runner.build
    with monkeypatch.context() as patch:
        patch.setattr(Runner, 'build', lambda runner: (runner.register_hook(StopAt(7)), build(runner))[1])
        assert run('train', path, *more).code == 143
    log = (tmp_path / 'run' / 'run.log').read_text()
    assert 'replaced  ParamSchedulerHook, CheckpointHook, EpochBasedTrainLoop: ours' in log
    assert 'CheckpointHook.save_last' in log and 'AdamW lr 0.01' in log
    resumed = run('train', path, '--resume', *more)
    assert resumed.code == 0 and 'resumed from' in resumed.out + resumed.err, resumed.err
    metrics = read_results(tmp_path / 'run')['metrics']
    assert {'val_accuracy/top1', 'val_accuracy/top5', 'val_single-label/f1-score'} <= set(metrics)
    tested = run('test', path, tmp_path / 'run' / 'best.pth', '--out', tmp_path / 'tested.json')
    assert tested.code == 0, tested.err
    best = max(entry['val_single-label/recall'] for entry in read_results(tmp_path / 'run')['extras']['train_log'])
    assert json.loads((tmp_path / 'tested.json').read_text())['metrics']['single-label/recall'] == best
