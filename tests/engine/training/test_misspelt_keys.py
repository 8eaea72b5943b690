"""A key that nobody reads is an error wherever it stands in an ordinary config, with the nearest known one."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from short_runs import CONFIGS
from torch import nn
from toy_runs import toy_runner

from clear.core.config import load_config
from clear.core.configs.building import building
from clear.core.errors import ConfigError
from clear.engine.training.keys import check_runner_config, computed_config
from clear.engine.training.optimisation import unmatched_patterns
from clear.evaluation.online_tasks import TaskHook
from clear.models.towers.open_clip import open_clip_config
from clear.registry import MODELS

# A config in which every part that mmengine knows is written out.
PARTS = dict(
    env_cfg=dict(cudnn_benchmark=False, mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='gloo')),
    log_processor=dict(by_epoch=True, window_size=10), randomness=dict(deterministic=False),
    visualizer=dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
    auto_scale_lr=dict(enable=False, base_batch_size=64), val_cfg=dict(fp16=False), compile=dict(backend='eager'),
    model_wrapper_cfg=dict(broadcast_buffers=False), data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.0]),
    val_dataloader=dict(batch_size=2, dataset=dict(type='CustomDataset', data_root='x'),
                        collate_fn=dict(type='default_collate')),
    val_evaluator=[dict(type='Accuracy', topk=(1,)), dict(type='SingleLabelMetric', items=['precision'])],
    default_hooks=dict(logger=dict(type='LoggerHook', interval=5), timer=dict(type='IterTimerHook'),
                       checkpoint=dict(type='CheckpointHook', interval=1)))


@pytest.fixture(scope='module')
def parts():
    cfg, _ = load_config(CONFIGS / 'selfsup' / 'mocov2_resnet18_1xb64-cos-4e_demo.py')
    cfg = {**cfg.to_dict(), **PARTS}
    cfg['optim_wrapper'].update(clip_grad=dict(max_norm=1.0), paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={'bias': dict(lr_mult=0.5, fix_lr=True)}))
    check_runner_config(Config(copy.deepcopy(cfg)))
    return cfg


def test_a_second_seed_that_is_not_read_does_not_count():
    def of(**keys):
        return computed_config(dict(model=dict(type='x'), **keys), 1).get('randomness')

    assert of(seed=0, randomness=dict(seed=5, deterministic=True)) == dict(deterministic=True)
    for randomness in (dict(seed=0), dict(seed=None), dict(deterministic=True)):
        assert of(seed=0, randomness=randomness) == randomness
    assert of(randomness=dict(seed=5)) == dict(seed=5)


@pytest.mark.parametrize('place, key, near', [
    (('env_cfg',), 'cudnn_benchmrk', 'cudnn_benchmark'),
    (('env_cfg', 'dist_cfg'), 'backnd', 'backend'),
    (('env_cfg', 'mp_cfg'), 'mp_start', 'mp_start_method'),
    (('randomness',), 'sed', 'seed'),
    (('log_processor',), 'window_siz', 'window_size'),
    (('visualizer',), 'vis_backend', 'vis_backends'),
    (('visualizer', 'vis_backends', 0), 'img_save_dr', 'img_save_dir'),
    (('auto_scale_lr',), 'enabl', 'enable'),
    (('val_cfg',), 'fp61', 'fp16'),
    (('val_dataloader',), 'batchsize', 'batch_size'),
    (('val_dataloader', 'collate_fn'), 'data_bach', 'data_batch'),
    (('val_evaluator', 0), 'topkk', 'topk'),
    (('val_evaluator', 1), 'item', 'items'),
    (('default_hooks', 'logger'), 'intervall', 'interval'),
    (('optim_wrapper',), 'clip_grd', 'clip_grad'),
    (('optim_wrapper', 'clip_grad'), 'maxnorm', 'max_norm'),
    (('optim_wrapper', 'optimizer'), 'momentun', 'momentum'),
    (('optim_wrapper', 'paramwise_cfg'), 'norm_decay_mul', 'norm_decay_mult'),
    (('optim_wrapper', 'paramwise_cfg', 'custom_keys', 'bias'), 'lr_mul', 'lr_mult'),
    (('param_scheduler', 0), 'T_maxx', 'T_max'),
    (('model',), 'queue_sice', 'queue_size'),
    (('model', 'neck'), 'in_channel', 'in_channels'),
    (('train_cfg',), 'max_epoch', 'max_epochs'),
    (('train_dataloader', 'dataset'), 'data_rot', 'data_root'),
    (('default_hooks', 'checkpoint'), 'intervall', 'interval'),
    (('data_preprocessor',), 'meen', 'mean'),
    (('model', 'data_preprocessor'), 'viws', 'views'),
    (('model', 'data_preprocessor', 'views'), 'recip', 'recipe'),
    (('compile',), 'bakend', 'backend'),
    (('model_wrapper_cfg',), 'broadcast_bufers', 'broadcast_buffers')],
    ids=lambda value: None if isinstance(value, tuple) else value)
def test_key_of_a_part(parts, place, key, near):
    cfg = copy.deepcopy(parts)
    node = cfg
    for step in place:
        node = node[step]
    node[key] = 1
    path = ''.join(f'[{step!r}]' if step == 'bias' else f'[{step}]' if isinstance(step, int) else f'.{step}'
                   for step in place).removeprefix('.')
    with pytest.raises(ConfigError, match=f"no key '{key}'.*Did you mean '{near}'") as refused:
        check_runner_config(Config(cfg))
    assert str(refused.value).startswith(f'{path}: ')


def classifier(**changes):
    return dict(dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18),
                     head=dict(type='LinearClsHead', num_classes=2, in_channels=512)), **changes)


# What no check knows of beforehand: the model completes a type, a layer takes its own arguments.
@pytest.mark.parametrize('changes, told', [
    (dict(data_preprocessor=dict(meen=[1.0])), "model.data_preprocessor: ClsDataPreprocessor has no key 'meen'. Did "
                                               "you mean 'mean'"),
    (dict(train_cfg=dict(augments=[dict(type='Mixup', alphaa=1.0)])), "model.train_cfg.augments[0]: Mixup has no key "
                                                                      "'alphaa'. Did you mean 'alpha'"),
    (dict(train_cfg=dict(augmentss=[])), "model.train_cfg: RandomBatchAugment has no key 'augmentss'. Did you mean "
                                         "'augments'"),
    (dict(backbone=dict(type='ResNet', depth=18, norm_cfg=dict(type='BN', momentun=0.1))),
     "model.backbone.norm_cfg: BatchNorm2d has no key 'momentun'. Did you mean 'momentum'")],
    ids=['preprocessor', 'augment', 'augments', 'layer'])
def test_key_that_only_the_constructor_knows(changes, told):
    with pytest.raises(ConfigError) as refused, building('The config'):
        MODELS.build(classifier(**changes))
    assert str(refused.value).startswith(f'The config cannot be built: {told}?')


def test_key_that_a_hook_passes_on(tmp_path):
    """The average that a hook builds when the run begins; mmengine says the error again for the hook."""
    with pytest.raises(ConfigError) as refused, building('The config'):
        toy_runner(tmp_path, hooks=[EMAHook(momentumm=0.1)])
    assert str(refused.value).startswith("The config cannot be built: ExponentialMovingAverage has no key 'momentumm'. "
                                         "Did you mean 'momentum'?")


@pytest.mark.parametrize('name, near', [('checkpoin', 'checkpoint'), ('time', 'timer'), ('loger', 'logger')])
def test_name_of_a_default_hook(parts, name, near):
    cfg = copy.deepcopy(parts)
    cfg['default_hooks'][name] = None
    with pytest.raises(ConfigError, match=f"'{name}', which would be a hook beside the default '{near}'"):
        check_runner_config(Config(cfg))
    cfg = copy.deepcopy(parts)
    cfg['default_hooks']['my_own'] = dict(type='EMAHook')  # a name of another hook may be free
    check_runner_config(Config(cfg))


def test_patterns_that_match_no_parameter():
    model = nn.ModuleDict(dict(fc=nn.Linear(2, 2), norm=nn.LayerNorm(2)))
    wrapper = dict(paramwise_cfg=dict(custom_keys={'fc.bias': {}, 'nrm': {}, '.norm': {}, 'weight': {}}))
    assert unmatched_patterns(wrapper, model) == ['nrm']
    assert unmatched_patterns(dict(type='OptimWrapper'), model) == []
    assert unmatched_patterns(torch.optim.SGD(model.parameters(), 0.1), model) == []


@pytest.mark.parametrize('args, near', [
    (dict(embed_dimm=8), 'embed_dim'), (dict(text_cfg=dict(widht=8)), 'width'),
    (dict(vision_cfg=dict(layer=1)), 'layers')], ids=['model', 'text', 'vision'])
def test_values_of_open_clip(args, near):
    with pytest.raises(ConfigError, match=f"Did you mean .*'{near}'"):
        open_clip_config('ViT-B-32', args)


def test_split_of_a_task_hook():
    with pytest.raises(ConfigError, match="no key 'tset'. Did you mean 'test'"):
        TaskHook([dict(type='ZeroShot')], data=dict(tset=dict(type='BucketImages', data_root='x')))
