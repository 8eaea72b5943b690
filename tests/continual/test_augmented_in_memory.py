"""A run on small images in memory, augmented by batches, is bit for bit the run that augments them one by one."""

import pytest
from clear_trees import write_clear_tree
from many_strategies import assert_same_run, stopped, trained
from tiny_runs import built, config

from clear.continual import samples
from clear.datasets.loaders.cropped import CroppedImages

END = [dict(type='ToTensor'), dict(type='Normalize', mean=[0.5], std=[0.5])]
TRAIN = [dict(type='RandomCrop', size=8, padding=2), dict(type='RandomHorizontalFlip'), *END]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('tree'), num_buckets=3, num_classes=4, per_class=10, image_size=8)


def on_images(tree, name, work_dir):
    cfg = config(tree, name)
    cfg['scenario'].pop('feature_type')
    cfg['scenario'].update(train_transform=TRAIN, eval_transform=END, cache='ram')
    cfg['model'] = dict(neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=4,
                                                                         in_channels=3))
    return built(cfg, work_dir)


def test_a_run_is_that_of_single_images(tree, monkeypatch, tmp_path):
    many = on_images(tree, 'Replay', tmp_path / 'many')
    batches, finish = [], CroppedImages.finish
    monkeypatch.setattr(CroppedImages, 'finish', lambda *args: batches.append(1) or finish(*args))
    trained(many)
    assert batches
    batches.clear()
    monkeypatch.setattr(samples, '_inputs_of', lambda bottom: None)
    single = trained(on_images(tree, 'Replay', tmp_path / 'single'))
    assert not batches
    assert_same_run(many, single)


def test_resumed_inside_an_experience(tree, tmp_path):
    whole = trained(on_images(tree, 'Replay', tmp_path / 'whole'))
    stopped(on_images(tree, 'Replay', tmp_path / 'parts'), 1, 3)
    assert_same_run(whole, trained(on_images(tree, 'Replay', tmp_path / 'parts'), resume=True))
