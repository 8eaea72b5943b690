"""Which class a bare name of a config means, and what of a config of mmpretrain this framework does itself."""

import copy

import pytest
from mmengine import hooks as mmengine_hooks
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from clear.core.config import load_config
from clear.core.errors import ConfigError
from clear.engine.scopes import settle
from clear.engine.training.keys import KNOWN, check_runner_config
from clear.engine.training.runner import Runner
from clear.registry import DATASETS, HOOKS, MODELS

mmpretrain = pytest.importorskip('mmpretrain')
SWAV = dict(type='SwAVHead', loss=dict(type='SwAVLoss', feat_dim=8, num_crops=[2]))
DATA = dict(batch_size=2, num_workers=0, dataset=dict(type='RepeatDataset', times=2, dataset=dict(
    type='ImageNet', data_root='data', pipeline=[dict(type='LoadImageFromFile')])))


def config(**changes):
    return Config(copy.deepcopy(dict(
        dict(model=dict(type='SwAV', head=SWAV), train_dataloader=DATA, train_cfg=dict(by_epoch=True, max_epochs=1),
             optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1))), **changes)))


@pytest.mark.parametrize('scope', [None, 'clear', 'mmengine'])
def test_a_bare_name_is_ours(scope):
    cfg = config(default_scope=scope)
    notes = settle(cfg)
    assert (cfg.model.type, cfg.model.head.loss.type) == ('SwAV', 'SwAVLoss')
    assert notes.ours == dict(SwAV='mmpretrain.SwAV', SwAVLoss='mmpretrain.SwAVLoss', ImageNet='mmpretrain.ImageNet')
    assert notes.lines() == ['names     SwAV, SwAVLoss, ImageNet: ours; the other: mmpretrain.SwAV, '
                             'mmpretrain.SwAVLoss, mmpretrain.ImageNet']
    with pytest.raises(ConfigError, match=r"Is 'mmpretrain\.SwAV' meant"):
        check_runner_config(cfg)


def test_with_the_scope_of_mmpretrain_it_is_theirs():
    cfg = config(default_scope='mmpretrain')
    notes = settle(cfg)
    assert (cfg.model.type, cfg.model.head.loss.type) == ('mmpretrain.SwAV', 'mmpretrain.SwAVLoss')
    assert cfg.train_dataloader.dataset.dataset.type == 'mmpretrain.ImageNet' and notes.ours == {}
    assert 'ours: clear.SwAV, clear.SwAVLoss, clear.ImageNet' in notes.lines()[0]
    assert MODELS.get('mmpretrain.SwAV') is mmpretrain.models.SwAV
    assert DATASETS.get('mmpretrain.ImageNet') is mmpretrain.datasets.ImageNet
    assert MODELS.build(cfg.model.head).loss_module.prototypes.in_features == 8
    assert settle(cfg).lines() == []  # full names mean the same in any scope


def test_full_names_mean_what_they_say():
    cfg = config(default_scope='mmpretrain')
    cfg.model = dict(type='clear.SwAV', head=SWAV)
    settle(cfg)
    assert cfg.model.type == 'clear.SwAV' and MODELS.get('clear.SwAV') is MODELS.get('SwAV')
    with pytest.raises(ConfigError, match=r"clear\.SwAV has no key 'head'.*Is 'mmpretrain\.SwAV' meant"):
        check_runner_config(cfg)
    cfg.model = dict(type='mmpretrain.SwAV', queue_size=8)
    with pytest.raises(ConfigError, match=r"mmpretrain\.SwAV has no key 'queue_size'.*Is 'clear\.SwAV' meant"):
        check_runner_config(cfg)


def test_ours_and_theirs_on_a_base_of_mmpretrain(tmp_path):
    """What ours alone has needs no prefix; what both have is theirs."""
    (tmp_path / 'a.py').write_text("""
_base_ = ['mmpretrain::swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py']
train_dataloader = dict(dataset=dict(_delete_=True, type='SelfSupervisedImages', data_root='data'))
val_dataloader = dict(batch_size=2, dataset=dict(type='ImageNet', data_root='data', split='val'))
val_evaluator, val_cfg = dict(type='Accuracy'), dict()
""")
    cfg = load_config(tmp_path / 'a.py')[0]
    assert cfg.model._scope_ == 'mmpretrain'
    lines = '\n'.join(settle(cfg).lines())
    assert cfg.train_dataloader.dataset.type == 'SelfSupervisedImages'
    assert cfg.val_dataloader.dataset.type == 'mmpretrain.ImageNet'
    assert (cfg.model.type, cfg.model.head.loss.type) == ('mmpretrain.SwAV', 'mmpretrain.SwAVLoss')
    read = {key: value for key, value in cfg.to_dict().items() if key in KNOWN and key != 'env_cfg'}
    assert '_scope_' not in str(read) and 'env_cfg.dist_cfg' in lines
    assert 'replaced  ParamSchedulerHook, CheckpointHook' in lines


def test_a_third_library_keeps_its_scope():
    cfg = config(model=dict(type='SwAV', _scope_='mmdet', head=dict(type='SwAVLoss')))
    settle(cfg)
    assert cfg.model == dict(type='SwAV', _scope_='mmdet', head=dict(type='SwAVLoss'))


def foreign_parts(kind):
    """Hooks, loop and wrapper of mmengine, as classes or by their full names."""
    name = (lambda each: each) if kind is type else (lambda each: f'mmengine.{each.__name__}')
    return config(
        default_hooks=dict(checkpoint=dict(type=name(mmengine_hooks.CheckpointHook), interval=2, save_last=True,
                                           max_keep_ckpts=3, published_keys=['meta']),
                           param_scheduler=dict(type=name(mmengine_hooks.ParamSchedulerHook))),
        custom_hooks=[dict(type=name(mmengine_hooks.SyncBuffersHook))],
        train_cfg=dict(type=name(EpochBasedTrainLoop), max_epochs=3),
        optim_wrapper=dict(type=name(AmpOptimWrapper), optimizer=dict(type='SGD', lr=0.1)))


@pytest.mark.parametrize('kind', [type, str])
def test_parts_of_the_runner_are_ours(kind):
    cfg = foreign_parts(kind)
    cfg.model, cfg.train_dataloader = dict(type='ImageClassifier'), dict(batch_size=1, dataset=dict(type='CIFAR10'))
    notes = settle(cfg)
    assert cfg.default_hooks.checkpoint == dict(type='CheckpointHook', interval=2, max_keep_ckpts=3)
    assert cfg.train_cfg.type == 'EpochBasedTrainLoop' and cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert set(notes.replaced) == {'CheckpointHook', 'ParamSchedulerHook', 'EpochBasedTrainLoop', 'AmpOptimWrapper'}
    assert list(notes.left_out) == ['CheckpointHook.save_last', 'CheckpointHook.published_keys']
    check_runner_config(cfg)


def test_misspelt_keys_of_ours_stay_errors():
    cfg = config(default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_last=True)))
    settle(cfg)
    assert 'save_last' in cfg.default_hooks.checkpoint
    with pytest.raises(ConfigError, match="no key 'save_last'"):
        check_runner_config(dict(cfg, model=dict(type='ImageClassifier'),
                                 train_dataloader=dict(batch_size=1, dataset=dict(type='CIFAR10'))))


def test_settings_that_are_left_out():
    cfg = config(randomness=dict(seed=5, diff_rank_seed=True, deterministic=True), seed=1, resume=True,
                 launcher='pytorch', env_cfg=dict(dist_cfg=dict(backend='nccl')), default_scope='mmpretrain')
    line = settle(cfg).lines()[-1]
    assert cfg.randomness == dict(seed=5, deterministic=True)
    for word in ('diff_rank_seed', 'randomness.seed 5 (seed is 1)', 'resume (--resume', 'launcher (--launcher)',
                 'env_cfg.dist_cfg'):
        assert word in line


@pytest.mark.parametrize(('changes', 'seed'), [
    (dict(), 0), (dict(seed=1), 1), (dict(randomness=dict(seed=5)), 5), (dict(randomness=dict(seed=5), seed=1), 1)])
def test_the_seed_of_the_command_line_wins(tmp_path, changes, seed):
    from torch import nn

    assert Runner.from_cfg(Config(dict(work_dir=str(tmp_path), model=nn.Linear(1, 1), **changes))).seed == seed


def test_hooks_of_theirs_stay():
    cfg = config(custom_hooks=[dict(type='EMAHook'), dict(type=HOOKS.get('mmpretrain.PreciseBNHook'))],
                 default_scope='mmpretrain')
    settle(cfg)
    assert HOOKS.get(cfg.custom_hooks[0].type) is HOOKS.get('mmpretrain.EMAHook')
    assert cfg.custom_hooks[1].type is HOOKS.get('mmpretrain.PreciseBNHook')
