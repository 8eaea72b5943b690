"""The values of mmpretrain's evaluators are those of mmengine's own Runner, on the same weights and data."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner as MMRunner
from PIL import Image

from clear.engine.scopes import settle
from clear.engine.training import program
from clear.registry import MODELS

pytest.importorskip('mmpretrain')
CLASSES = ('a', 'b', 'c')
PIPELINE = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
BACKBONE = dict(type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4)
POOL = dict(type='GlobalAveragePooling')
PREPROCESSOR = dict(type='ClsDataPreprocessor', mean=[120.] * 3, std=[60.] * 3, num_classes=3)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Eleven images of three classes, in folders; and which of the classes each one shows, for several labels."""
    folder, noise = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
    listed = []
    for index in range(11):
        place = folder / CLASSES[index % 3] / f'{index}.png'
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (16, 16, 3), np.uint8)).save(place)
        listed.append(dict(img_path=str(place), gt_label=sorted({index % 3, index % 2})))
    (folder / 'labels.json').write_text(json.dumps(dict(metainfo=dict(classes=CLASSES), data_list=listed)))
    return folder


def single(images):
    return dict(type='CustomDataset', data_root=str(images), extensions=('.png',), pipeline=PIPELINE)


def single_label(images):
    """A classifier, and every evaluator of single labels with the options that give other values."""
    model = dict(type='ImageClassifier', backbone=BACKBONE, neck=POOL, data_preprocessor=PREPROCESSOR,
                 head=dict(type='LinearClsHead', num_classes=3, in_channels=32))
    return single(images), model, [
        dict(type='Accuracy', topk=(1, 2)), dict(type='Accuracy', thrs=(0., 0.35), prefix='above'),
        dict(type='SingleLabelMetric', items=['precision', 'recall', 'f1-score', 'support']),
        dict(type='SingleLabelMetric', average=None, prefix='each'),
        dict(type='SingleLabelMetric', average='micro', prefix='micro'), dict(type='ConfusionMatrix')]


def multi_label(images):
    model = dict(type='ImageClassifier', backbone=BACKBONE, neck=POOL, data_preprocessor=PREPROCESSOR,
                 head=dict(type='MultiLabelLinearClsHead', num_classes=3, in_channels=32))
    data = dict(type='MultiLabelDataset', data_root=str(images), ann_file='labels.json', data_prefix='',
                pipeline=PIPELINE)
    return data, model, [
        dict(type='AveragePrecision'), dict(type='AveragePrecision', average=None, prefix='each'),
        dict(type='MultiLabelMetric'), dict(type='MultiLabelMetric', average='micro', topk=2, prefix='top2'),
        dict(type='MultiLabelMetric', average=None, thr=0.4, prefix='each')]


def retrieval(images):
    """Each image looks for those of its class among all of them."""
    model = dict(type='ImageToImageRetriever', image_encoder=[BACKBONE, POOL],
                 head=dict(type='LinearClsHead', num_classes=3, in_channels=32), data_preprocessor=PREPROCESSOR,
                 prototype=dict(batch_size=4, num_workers=0, dataset=single(images),
                                sampler=dict(type='DefaultSampler', shuffle=False)))
    return single(images), model, [dict(type='RetrievalRecall', topk=(1, 3)),
                                   dict(type='RetrievalAveragePrecision', topk=5)]


@pytest.mark.parametrize('kind', [single_label, multi_label, retrieval], ids=lambda kind: kind.__name__)
def test_all_evaluators_give_the_values_of_mmengine(kind, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data, model, evaluators = kind(images)
    cfg = Config(dict(
        model=model, default_scope='mmpretrain', work_dir='run', device='cpu', name='run', test_cfg=dict(),
        test_dataloader=dict(batch_size=4, num_workers=0, dataset=data,
                             sampler=dict(type='DefaultSampler', shuffle=False)), test_evaluator=evaluators))
    torch.manual_seed(1)
    torch.save(MODELS.build(copy.deepcopy(model)).state_dict(), 'weights.pth')
    program.TrainingProgram.check(cfg, 'test')
    settled = copy.deepcopy(cfg)
    settle(settled)
    program.test(settled, tmp_path / 'weights.pth', 'ours.json')
    ours = json.loads((tmp_path / 'ours.json').read_text())['metrics']
    theirs = MMRunner.from_cfg(Config(dict(cfg.to_dict(), load_from='weights.pth', work_dir='theirs', log_level='ERROR',
                                           default_hooks=dict(logger=None, checkpoint=None)))).test()
    assert len(theirs) >= len(evaluators) and set(ours) == set(theirs)
    for name, value in theirs.items():
        assert np.array_equal(np.asarray(ours[name]), np.asarray(value, dtype=float)), name
