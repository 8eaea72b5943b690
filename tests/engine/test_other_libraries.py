"""What hooks, data sets and metrics of mmengine and mmpretrain find in our Runner is what they find in mmengine's."""

import copy
import pickle

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from PIL import Image
from toy_runs import toy_config, toy_run, toy_runner

from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.engine.training.hooks.results import ResultsHook
from clear.engine.training.loading import SeededDataset
from clear.engine.training.runner import Runner
from clear.registry import METRICS, MODELS

pytest.importorskip('mmpretrain')


class Plain(torch.utils.data.Dataset):
    """A data set of another library."""

    classes, pipeline = ('a', 'b'), 'first'

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index, self.pipeline

    def __getitems__(self, indices):
        raise AssertionError('torch would ask this one for (epoch, index)')

    def get_gt_labels(self):
        return [0, 1, 1]


def test_a_wrapped_data_set_keeps_its_attributes():
    dataset = SeededDataset(Plain(), 0)
    assert dataset.classes == ('a', 'b') and dataset.get_gt_labels() == [0, 1, 1]
    assert not hasattr(dataset, '__getitems__') and not hasattr(dataset, 'metainfo')
    dataset.pipeline, dataset.seed = 'second', 5
    assert dataset.dataset.pipeline == 'second' and dataset[0, 1] == (1, 'second')
    assert (dataset.seed, hasattr(dataset.dataset, 'seed')) == (5, False)
    for twin in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert twin.classes == ('a', 'b') and twin.seed == 5 and len(twin) == 3


@pytest.fixture
def classifier(tmp_path):
    """Changes that turn the toy into mmpretrain's classifier on its CustomDataset."""
    for index in range(6):
        folder = tmp_path / 'data' / 'ab'[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 30 * index, np.uint8)).save(folder / f'{index}.png')
    return dict(
        model=dict(type='ImageClassifier', head=dict(type='LinearClsHead', num_classes=2, in_channels=4),
                   backbone=dict(type='torch.nn.Sequential'), neck=None, data_preprocessor=dict(num_classes=2)),
        train_dataloader=dict(batch_size=2, num_workers=0, collate_fn=dict(type='default_collate'), dataset=dict(
            type='CustomDataset', data_root=str(tmp_path / 'data'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])),
        train_cfg=dict(by_epoch=True, max_epochs=1), param_scheduler=None)


@MODELS.register_module()
class TinyBackbone(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)

    def forward(self, images):
        return (self.norm(self.conv(images)).mean((2, 3)),)


class Look(Hook):
    """Notes what the loader and the hub say before the first iteration."""

    priority = 'LOWEST'

    def before_train(self, runner):
        loader = runner.train_dataloader
        self.seen = dict(batch_size=loader.batch_size, drop_last=loader.drop_last, classes=loader.dataset.CLASSES,
                         hub=runner.message_hub.get_info('dataset_meta')['classes'],
                         visualizer=runner.visualizer.dataset_meta['classes'],
                         epoch=hasattr(loader.sampler, 'set_epoch'))


@pytest.mark.parametrize('by_epoch', [True, False])
def test_hooks_of_mmpretrain_train(tmp_path, classifier, by_epoch):
    classifier['model']['backbone'] = dict(type='TinyBackbone')
    hooks = [dict(type='ClassNumCheckHook'), dict(type='PreciseBNHook', num_samples=2)]
    if not by_epoch:
        classifier['train_cfg'] = dict(by_epoch=False, max_iters=3)
        hooks.pop()  # works by epochs
    look = Look()
    toy_run(tmp_path / 'run', hooks=[look], **classifier, custom_hooks=hooks)
    assert look.seen == dict(batch_size=2, drop_last=True, classes=('a', 'b'), hub=('a', 'b'), visualizer=('a', 'b'),
                             epoch=True)


def test_a_recipe_is_switched_in_the_data_set_itself(tmp_path, classifier):
    classifier['model']['backbone'] = dict(type='TinyBackbone')
    classifier['train_cfg'] = dict(by_epoch=True, max_epochs=2)
    shapes = []

    class Note(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            shapes.append(data_batch['inputs'][0].shape[-1])

    recipe = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=16), dict(type='PackInputs')]
    toy_run(tmp_path / 'run', hooks=[Note()], **classifier, custom_hooks=[
        dict(type='SwitchRecipeHook', schedule=[dict(action_epoch=2, train_pipeline=recipe)])])
    assert shapes == [8] * 3 + [16] * 3


def test_logged_numbers_are_not_rounded(tmp_path):
    runner = toy_runner(tmp_path)
    hook = next(hook for hook in runner.hooks if type(hook).__name__ == 'RuntimeInfoHook')
    values = dict(small=1.111, large=16777217.0, whole=2**24 + 1, array=np.float64(0.1), tensor=torch.tensor(0.5))
    hook.after_train_iter(runner, 0, outputs=values)
    hub = {name: runner.message_hub.get_scalar(f'train/{name}').current() for name in values}
    assert hub == {name: float(value) for name, value in values.items()}
    results = next(hook for hook in runner.hooks if type(hook).__name__ == 'ResultsHook')
    results.after_train_iter(runner, 0, outputs=values)
    assert {name: value.item() for name, value in results.sums.items()} == hub


@pytest.mark.parametrize(('name', 'expected'), [('RetrievalRecall', 50.0), ('RetrievalAveragePrecision', 50.0)])
def test_retrieval_metrics_of_mmpretrain_work(name, expected):
    metric = METRICS.get(name)
    # The right answer of the first query is ranked first, that of the second nowhere.
    value = metric.calculate(torch.tensor([[0.9, 0.1], [0.9, 0.1]]), [[0], [1]], pred_indices=False,
                             target_indices=True, topk=1)
    assert float(value[0] if isinstance(value, list) else value) == pytest.approx(expected)


def evaluated(classifier, evaluators):
    """Changes with a validation by several evaluators, on the training images."""
    classifier['model']['backbone'] = dict(type='TinyBackbone')
    loader = dict(classifier['train_dataloader'], sampler=dict(type='DefaultSampler', shuffle=False))
    return dict(classifier, val_dataloader=loader, val_cfg=dict(), val_evaluator=evaluators)


@pytest.mark.parametrize('kind', [list, tuple])
def test_every_evaluator_of_a_list_is_in_the_results(tmp_path, classifier, kind):
    changes = evaluated(classifier, kind([
        dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric', average=None), dict(type='ConfusionMatrix'),
        dict(type='Accuracy', topk=(1, 2), prefix='other')]))
    runner = toy_run(tmp_path / 'run', **changes)
    last = runner.train_log[-1]
    matrix = last['val_confusion_matrix/result']
    assert sum(map(sum, matrix)) == 6 and len(last['val_single-label/precision_classwise']) == 2
    assert last['val_accuracy/top1'] == last['val_other/top1'] == pytest.approx((matrix[0][0] + matrix[1][1]) / 0.06)
    assert runner.results().metrics['val_other/top2'] == 100.0
    assert 'val_confusion_matrix/result' not in runner.results().metrics  # one number each


def test_lists_of_numbers_are_resumed():
    """A checkpoint may come between a validation and the end of its epoch."""
    hook, resumed = ResultsHook(), ResultsHook()
    hook.add('val_matrix', torch.tensor([[1, 2], [3, 4]]))
    hook.add('val_top1', 50.0)
    resumed.load_state_dict(hook.state_dict())
    assert resumed.state_dict()['measured'] == {'val_matrix': [[1.0, 2.0], [3.0, 4.0]], 'val_top1': 50.0}


# The Runner by hand


def test_a_runner_without_training_says_so(tmp_path):
    cfg = Config({key: value for key, value in toy_config(tmp_path).items()
                  if key not in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler')})
    with pytest.raises(ConfigError, match='train_cfg is None.*train_dataloader'):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(auto_scale_lr=dict(enable=True)), 'auto_scale_lr.base_batch_size is None'),
    (dict(auto_scale_lr=dict(enable=True, base_batch_size='x')), "base_batch_size is 'x'"),
    (dict(default_scope='toy'), "default_scope is 'toy'.*'clear'"),
])
def test_values_that_the_runner_refuses(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        toy_runner(tmp_path, **changes)


def test_a_loop_that_is_no_dict(tmp_path):
    with pytest.raises(ConfigError, match="train_cfg is 'x'"):
        toy_runner(tmp_path).build_train_loop('x')


# Constructors


def test_a_refused_argument_names_the_class_and_the_one_it_hides():
    with pytest.raises(ConfigError, match="The head cannot be built: SwAVLoss.*feat_dim.*'mmpretrain.SwAVLoss'"), \
            building('The head'), DefaultScope.overwrite_default_scope('clear'):
        MODELS.build(dict(type='SwAVHead', loss=dict(type='SwAVLoss', feat_dim=8)))
    theirs = MODELS.build(dict(type='SwAVHead', loss=dict(type='mmpretrain.SwAVLoss', feat_dim=8, num_crops=[2])))
    assert theirs.loss_module.prototypes.in_features == 8


def test_errors_that_say_what_to_do_pass_as_they_are():
    error = ConfigError('lower k')
    with pytest.raises(ConfigError) as caught, building('x'):
        raise error
    assert caught.value is error


def test_a_bare_assertion_shows_its_line():
    with pytest.raises(ConfigError, match='x cannot be built: assert 1 > 2'), building('x'):
        assert 1 > 2  # noqa: PLR0133


def test_validated_images_are_drawn(tmp_path, classifier):
    """mmpretrain's visualizer and its hook, and the best by the second of two evaluators."""
    changes = evaluated(classifier, [dict(type='Accuracy'), dict(type='SingleLabelMetric')])
    runner = toy_run(
        tmp_path / 'run', **changes, default_scope='mmpretrain',
        visualizer=dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')]), default_hooks=dict(
            visualization=dict(type='VisualizationHook', enable=True, interval=2),
            checkpoint=dict(type='CheckpointHook', save_best='single-label/recall'),
            results=dict(type='ResultsHook', figures=False)))
    assert type(runner.visualizer).__name__ == 'UniversalVisualizer'
    assert len(list((tmp_path / 'run').rglob('*.png'))) == 3  # every second of six
    assert (tmp_path / 'run' / 'best.pth').is_file()


def test_margins_follow_the_data(tmp_path, classifier):
    classifier['model'].update(backbone=dict(type='TinyBackbone'),
                               head=dict(type='ArcFaceClsHead', num_classes=2, in_channels=4))
    (tmp_path / 'data' / 'a' / '0.png').unlink()
    runner = toy_run(tmp_path / 'run', **classifier, custom_hooks=[dict(type='SetAdaptiveMarginsHook')])
    margins = runner.bare_model.head.margins
    assert margins[0] > margins[1]  # two of the first class, three of the second
