"""An ordinary classifier's results name its classes, and whoever shows them afterwards does."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import read_results, run, train, write_config
from tiny_encoder import write_images

import clear
from clear.core.config import load_config
from clear.core.files import load_tensors, read_json, write_json
from clear.core.results import read_results as results_of
from clear.engine.inspection.confusions import read_confusions
from clear.engine.prediction.class_names import is_classifier
from clear.registry import MODELS
from clear.visualization.html.one_run import run_page

CLASSES = ['a', 'b & c', 'd']
CONFIG = """
device, threads = 'cpu', 1
model = dict(type='ImageClassifier', backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4),
             neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
             data_preprocessor=dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, num_classes=3))
data = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dict(
    type='CustomDataset', data_root={root!r}, pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')]))
train_dataloader = val_dataloader = test_dataloader = data
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg, val_cfg, test_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1), dict(), dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
val_evaluator = test_evaluator = [dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric', average=None)]
"""


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ordinary')
    write_images(folder / 'images', count=24, size=32, classes=CLASSES)
    write_config(folder / 'config.py', CONFIG, 'images')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train('config.py', '--work-dir', 'run')
    return folder


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)


def test_results_report_and_confusions_name_the_classes(here):
    assert read_results('run')['extras']['class_names'] == CLASSES
    [recalls] = [values for name, values in read_results('run')['extras']['train_log'][-1].items() if 'recall' in name]
    page = Path('run/report.html').read_text().replace('<wbr>', '')
    assert '3 classes' in page and 'val_single-label/recall' in page
    row = page[page.index('val_single-label/recall'):].partition('title="b &amp; c"')[2].partition('</tr>')[0]
    assert f'{recalls[1]:.3f}'.rstrip('0') in row
    names = read_confusions(load_config('config.py')[0], Path('run/latest.pth'))[1]
    assert names == CLASSES


def test_two_classes_of_one_name_have_a_row_each(here):
    results = results_of(Path('run/results.json'))
    results.extras['class_names'] = ['crane', 'crane', 'd']
    page = ''.join(run_page(results, []))
    assert 'title="crane (0)"' in page and 'title="crane (1)"' in page and 'title="d"' in page


def test_names_are_there_when_the_data_are_not(here, tmp_path, monkeypatch):
    shutil.copytree('run', tmp_path / 'run')
    shutil.copy('config.py', tmp_path)
    monkeypatch.chdir(tmp_path)
    image = np.zeros((32, 32, 3), np.uint8)
    assert clear.Predictor('config.py', 'run/latest.pth')(image)[0].label in CLASSES
    assert run('model_converters/publish_model', 'run/latest.pth', 'out.pth').code == 0
    [published] = Path().glob('out-*.pth')
    assert load_tensors(published)['class_names'] == CLASSES


def test_a_run_of_before_goes_on_and_gets_its_names(here, tmp_path, monkeypatch):
    shutil.copytree('run', tmp_path / 'run')
    shutil.copytree('images', tmp_path / 'images')
    shutil.copy('config.py', tmp_path)
    monkeypatch.chdir(tmp_path)
    whole = read_json('run/results.json')
    before = {**whole, 'extras': {key: value for key, value in whole['extras'].items() if key != 'class_names'}}
    write_json(Path('run/results.json'), before)
    shutil.copy('run/epoch_1.pth', 'run/latest.pth')
    train('config.py', '--work-dir', 'run', '--resume')
    again = read_json('run/results.json')
    assert again['config_hash'] == whole['config_hash'] and again['extras']['class_names'] == CLASSES
    assert again['extras']['train_log'] == whole['extras']['train_log']


def test_models_that_give_features_have_no_classes(here):
    cfg = load_config('config.py')[0]
    assert is_classifier(MODELS.build(cfg.model.to_dict()))
    backbone = dict(type='ResNet', depth=18)
    assert not is_classifier(MODELS.build(dict(type='SimSiam', backbone=backbone, neck=dict(
        type='ProjectionMLP', in_channels=512, out_channels=8), predictor=dict(
        type='ProjectionMLP', in_channels=8, out_channels=8)))) and not is_classifier(torch.nn.Linear(1, 1))
