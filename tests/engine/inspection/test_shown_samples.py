"""Samples that are drawn are those that training gets."""

import numpy as np
import pytest
import torch
from clear_trees import write_clear_tree
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from PIL import Image

from clear.continual.scenarios import build_scenario
from clear.core.errors import ConfigError
from clear.engine.continual.runner import ContinualRunner
from clear.engine.inspection.samples import read_samples, samples_figure
from clear.engine.training.loading import build_train_dataloader
from clear.registry import MODELS

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('images') / 'data', num_buckets=2, num_classes=3, per_class=4)


def continual(root, *transforms, **options):
    scenario = dict(type='CLEAR', data_root=str(root), seed=0, train_transform=[*transforms, dict(type='ToTensor')],
                    eval_transform=[dict(type='ToTensor'), dict(type='Normalize', mean=MEAN, std=STD)], **options)
    return Config(dict(cl_strategy=dict(type='Naive'), scenario=scenario, seed=5))


@pytest.mark.parametrize('strategy', ['Naive', 'JointTraining'])
def test_draws_are_those_of_training(root, strategy):
    cfg = continual(root, dict(type='RandomHorizontalFlip', p=0.5))
    cfg['cl_strategy'] = dict(type=strategy, train_mb_size=4, train_epochs=3, optimizer=dict(type='SGD', lr=0.1))
    runner, seen = ContinualRunner({**cfg, 'device': 'cpu', 'loggers': [], 'metrics': [], 'model': dict(
        neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=3))}), []
    runner.build()
    unpack = runner.strategy._unpack_minibatch

    def note():
        unpack()
        if runner.strategy.clock.train_exp_epochs == 2:
            seen.extend(image.permute(1, 2, 0).numpy().tobytes() for image in runner.strategy.mb_x)

    runner.strategy._unpack_minibatch = note
    runner.train()
    shown = read_samples(cfg, 'train', count=100, epoch=2)
    assert sorted(each.pictures[0].tobytes() for each in shown) == sorted(seen) and len(seen) == 18
    info = runner.info
    assert shown[0].caption == f'{info.bucket_names[0]}: {info.class_names[info.train[0].targets[0]]}'
    other = read_samples(cfg, 'train', count=100, epoch=1)
    assert any(not np.array_equal(a.pictures[0], b.pictures[0]) for a, b in zip(shown, other))


def test_normalisation_is_undone(root):
    cfg = continual(root)
    raw = build_scenario(continual(root)['scenario']).info.test[1]
    shown = read_samples(cfg, 'test', count=3, bucket='2', with_original=True)
    for each, row in zip(shown, (0, len(raw) // 3, 2 * len(raw) // 3)):
        original, seen = each.pictures
        assert np.allclose(original, np.asarray(raw.image(row)) / 255)
        assert np.allclose(seen, original, atol=1e-5)


def runner_config(folder, **options):
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    dataset = dict(type='CustomDataset', data_root=str(folder), with_label=True, pipeline=pipeline)
    return Config(dict(train_dataloader=dict(batch_size=2, dataset=dataset), model=dict(
        type='ImageClassifier', data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)), **options))


def test_colours_of_mmpretrain_are_turned_round(tmp_path):
    for name, colour in (('blue', (0, 0, 250)), ('red', (250, 0, 0))):
        (tmp_path / name).mkdir()
        Image.new('RGB', (8, 8), colour).save(tmp_path / name / 'a.png')
    shown = read_samples(runner_config(tmp_path), count=2, with_original=True)
    assert [each.caption for each in shown] == ['blue', 'red']
    for each, colour in zip(shown, ((0, 0, 250), (250, 0, 0))):
        for picture in each.pictures:
            assert np.allclose(picture * 255, np.broadcast_to(colour, (8, 8, 3)))


def test_views_are_those_of_the_preprocessor(root):
    views = dict(type='ViewPreprocessor', views=dict(type='BatchedMultiCrop', recipe='moco_v2', options=dict(size=16)))
    loader = dict(batch_size=2, dataset=dict(type='BucketImages', data_root=str(root), image_size=24))
    cfg = Config(dict(train_dataloader=loader, seed=3, model=dict(type='MoCo', data_preprocessor=views)))
    shown = read_samples(cfg, count=4, epoch=1, with_original=True)
    assert [len(each.pictures) for each in shown] == [3] * 4
    with DefaultScope.overwrite_default_scope('clear'):
        dataset = build_train_dataloader(loader, 3).dataset
    batch = default_collate([dataset[1, row * len(dataset) // 4] for row in range(4)])
    made = MODELS.build(views)(batch, training=True)['inputs']
    mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for number, each in enumerate(shown):
        for view, picture in zip(made, each.pictures[1:]):
            seen = (view[number] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
            assert np.allclose(picture, seen, atol=1e-6)


def test_a_sheet_has_every_picture(root):
    shown = read_samples(continual(root), 'test', count=5)
    figure = samples_figure(shown, 'run', 'five')
    assert sum(len(panel.images) for panel in figure.axes) == 5


@pytest.mark.parametrize('options, message', [
    (dict(split='val'), 'say train or test'), (dict(count=0), 'at least one'), (dict(epoch=-1), 'an epoch from 0'),
    (dict(bucket='3'), "--bucket is '3'; expected '1' or '2'")])
def test_wrong_input(root, options, message):
    with pytest.raises(ConfigError, match=message):
        read_samples(continual(root), **options)


def test_wrong_input_of_ordinary_runs(tmp_path):
    with pytest.raises(ConfigError, match='no val_dataloader'):
        read_samples(runner_config(tmp_path), 'val')
    with pytest.raises(ConfigError, match='--bucket is for continual'):
        read_samples(runner_config(tmp_path), bucket='1')
