import copy

import pytest
from mmengine.config import Config

from clear.core.errors import ConfigError, RegistryError
from clear.engine.continual.keys import (
    DEFAULTS,
    KNOWN,
    check_continual_config,
    with_defaults,
)
from clear.engine.schema import check_names, check_options

GOOD = dict(
    scenario=dict(type='CLEAR', data_root='data/x'),
    model=dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=8)),
    cl_strategy=dict(type='Naive', train_mb_size=8, train_epochs=2, optimizer=dict(type='SGD', lr=0.1)))


def changed(**changes):
    """GOOD with values at dotted paths (`a__b` is a.b) replaced; None removes the key."""
    config = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, last = path.split('__')
        place = config
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            del place[last]
        else:
            place[last] = value
    return config


def check(config):
    check_continual_config(with_defaults(config))


def test_good_config_passes():
    check(GOOD)
    check(Config(GOOD))


def test_a_strategy_that_is_left_out_says_why():
    with pytest.raises(RegistryError, match="'ObjectDetectionTemplate' is left out. It detects objects: its batches "):
        check(changed(cl_strategy__type='ObjectDetectionTemplate'))


def test_defaults_fill_what_is_left_out_and_nothing_else():
    filled = with_defaults(changed(seed=7, loggers=[]))
    assert (filled['seed'], filled['loggers'], filled['num_workers']) == (7, [], 0)
    assert filled['cl_strategy']['eval_mb_size'] == 8  # as the training batch
    assert {key: filled[key] for key in GOOD if key != 'cl_strategy'} == {
        key: GOOD[key] for key in GOOD if key != 'cl_strategy'}
    assert with_defaults({'cl_strategy': {}})['cl_strategy'] == dict(train_mb_size=1, train_epochs=1, eval_mb_size=1)


def test_defaults_and_config_are_copied():
    before = copy.deepcopy((DEFAULTS, GOOD))
    filled = with_defaults(GOOD)
    filled['metrics'].append('x')
    filled['model']['head']['num_classes'] = 9
    assert before == (DEFAULTS, GOOD)
    assert type(with_defaults(Config(GOOD))['model']['head']) is dict


@pytest.mark.parametrize('changes, error, words', [
    (dict(model=None), ConfigError, "needs 'model'"),
    (dict(scenario__type=None), ConfigError, 'scenario needs a type'),
    (dict(cl_strategy__type=None), ConfigError, 'cl_strategy needs a type'),
    (dict(cl_strategy__optimizer=None), ConfigError, 'cl_strategy.optimizer needs a dict with a type'),
    (dict(cl_strategy__optimizer__learning_rate=1), ConfigError, r"SGD has no key 'learning_rate'"),
    (dict(cl_strategy__optimizer__params=[]), ConfigError, "has no key 'params'"),
    (dict(cl_strategy__model='x'), ConfigError, "Naive has no key 'model'"),
    (dict(cl_strategy__plugins=dict(type='LwFPlugin')), ConfigError, r'cl_strategy.plugins is .* expected a list of'),
    (dict(cl_strategy__plugins=['LwFPlugin']), ConfigError, r'cl_strategy.plugins\[0\] needs a dict with a type'),
    (dict(cl_strategy__plugins=[dict(type='LwFPlugin', alfa=1)]), ConfigError, r"'alfa'. Did you mean 'alpha'"),
    (dict(cl_strategy__mem_size=3), ConfigError, "Naive has no key 'mem_size'"),
    (dict(cl_strategy__train_mb_size=0), ConfigError, 'train_mb_size is 0'),
    (dict(cl_strategy__train_mb_size=2.5), ConfigError, 'train_mb_size is 2.5'),
    (dict(cl_strategy__train_epochs=True), ConfigError, 'train_epochs is True'),
    (dict(cl_strategy__scheduler=dict(type='StepLR', optimizer=1)), ConfigError, "has no key 'optimizer'"),
    (dict(cl_strategy__scheduler=dict(type='Adam')), RegistryError, "no type 'Adam'"),
    (dict(cl_strategy__type='default_evaluator'), RegistryError, 'default_evaluator'),
    (dict(scenario__work_dir='x'), ConfigError, "CLEAR has no key 'work_dir'"),
    (dict(model__head__num_class=3), ConfigError, "Did you mean 'num_classes'"),
    (dict(model__neck=dict(type='GlobalAveragePoling')), RegistryError, "'GlobalAveragePooling' .mmpretrain."),
    (dict(seed='0'), ConfigError, "seed is '0'"),
    (dict(seed=True), ConfigError, 'seed is True'),
    (dict(freeze_bn='False'), ConfigError, "freeze_bn is 'False'"),
    (dict(frozen='backbone'), ConfigError, "frozen is 'backbone'; expected a list"),
    (dict(loggers=['TextLogger']), ConfigError, r'loggers\[0\] needs a dict with a type'),
    (dict(loggers=[dict(type='TextLogger', work_dir='x')]), ConfigError, "TextLogger has no key 'work_dir'"),
    (dict(metrics=[dict(epoch=True)]), ConfigError, r'metrics\[0\] needs a dict with a type'),
    (dict(checkpoint_config=dict(max_keep=0)), ConfigError, 'checkpoint_config.max_keep is 0'),
    (dict(load_from=['x']), ConfigError, r"load_from is \['x'\]"),
])
def test_what_cannot_be_run_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        check(changed(**changes))


@pytest.mark.parametrize('changes', [
    dict(cl_strategy__scheduler=dict(type='StepLR', step_size=1, by_epoch=False)),
    dict(cl_strategy__optimizer_policy='continue', cl_strategy__scheduler_policy='reset'),
    dict(cl_strategy__loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1)),
    dict(cl_strategy__type='Replay', cl_strategy__mem_size=3),
    dict(cl_strategy__plugins=[]),
    dict(cl_strategy__plugins=[dict(type='LwFPlugin', alpha=1), dict(type='RWalkPlugin')]),
    dict(amp='bf16', max_iters_per_experience=3, max_time_per_experience=0.5),
    dict(cl_strategy__type='SynapticIntelligence', cl_strategy__si_lambda=1.0, cl_strategy__legacy=True),
    dict(checkpoint_config=dict(interval=2, max_keep=1)),
    dict(load_from=dict(path='x.pth', source='moco', min_matched=0.5)),
    dict(metrics=[dict(type='forgetting_metrics', experience=True)], loggers=[dict(type='CSVLogger')]),
    dict(runner_type='ContinualRunner', default_scope='clear'),
])
def test_what_can_be_run_is_not_refused(changes):
    check(changed(**changes))


def test_options_must_be_read_by_somebody():
    assigned = {'scenario', 'model', 'cl_strategy', 'batch_size'}
    check_options(['seed', 'model.head.num_classes', 'scenario.data_root'], assigned, KNOWN)
    with pytest.raises(ConfigError, match="'batch_size' is a helper variable"):
        check_options(['seed', 'batch_size'], assigned, KNOWN)
    with pytest.raises(ConfigError, match="nobody reads 'scenaro'. Did you mean 'scenario'"):
        check_options(['scenaro.seed'], assigned, KNOWN)
    with pytest.raises(ConfigError, match=r"nobody reads 'zzz'\.$"):
        check_options(['zzz'], assigned, KNOWN)


@pytest.mark.parametrize('name, near', [
    ('lggers', 'loggers'), ('scenaro', 'scenario'), ('checkpoint_confg', 'checkpoint_config'),
    ('num_worker', 'num_workers'), ('cl_stategy', 'cl_strategy'), ('metric', 'metrics')])
def test_a_misspelt_name_is_an_error(name, near):
    with pytest.raises(ConfigError, match=f"assigns '{name}', which nobody reads. Did you mean '{near}'"):
        check_names({*GOOD, name, 'batch_size'}, KNOWN)


@pytest.mark.parametrize('name', ['batch_size', 'epochs', 'mean', 'crop', 'lr', 'data_root', 'num_classes', 'logs'])
def test_helpers_of_a_file_are_allowed(name):
    check_names({*GOOD, name}, KNOWN)
