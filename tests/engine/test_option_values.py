"""Every value of every option of the shipped bases, replaced by junk: one error that can be acted on, or a config that
means something. Nothing is trained; what a dry run builds is built.
"""

import copy
import math

import pytest
import torch
from mmengine.config import Config

from clear.core.config import configs_folder
from clear.core.configs.building import building
from clear.core.errors import ClearError, ConfigError, RegistryError
from clear.engine.continual.keys import check_continual_config, with_defaults
from clear.engine.probing.keys import check_probe_config
from clear.engine.probing.keys import with_defaults as probe_defaults
from clear.engine.training.keys import KNOWN, check_runner_config

pytest.importorskip('mmpretrain')
BASES = configs_folder() / '_base_'
JUNK = dict(zero=0, negative=-1, share=1.5, nan=math.nan, infinity=math.inf, text='junk', none=None, list=[1, 'junk'],
            flag=True, dict=dict(junk=1), huge=10**30, nul='a\0b', function='os.getcwd')
# A model of stored features, ten buckets of them, and a strategy: small enough to be built thousands of times.
DEMO = dict(
    scenario=dict(type='SplitDigits', n_experiences=5),
    model=dict(type='ComposedClassifier', head=dict(type='LinearClsHead', in_channels=64, num_classes=10)),
    cl_strategy=dict(type='Naive', train_mb_size=64, optimizer=dict(type='SGD', lr=0.1)), loggers=[], metrics=[])


def leaves(value, path=()):
    """The path of every key below a dict or list, inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield (*path, key)
        yield from leaves(item, (*path, key))


def replaced(config, path, value):
    """A copy of `config` with one value replaced."""
    config = copy.deepcopy(config)
    place = config
    for key in path[:-1]:
        place = place[key]
    if isinstance(place, tuple):
        return None  # of mean and std; a copy of them is what the config holds
    place[path[-1]] = value
    return config


def plain(config):
    """A config as dicts and lists."""
    if isinstance(config, dict):
        return {key: plain(item) for key, item in config.items()}
    return [plain(item) for item in config] if isinstance(config, (list, tuple)) else config


def survivors(config, build):
    """Where `build` of the config with junk in it ends in anything but an error that says what to do."""
    wrong = []
    for path in leaves(config):
        for name, value in JUNK.items():
            changed = replaced(config, path, value)
            if changed is None:
                continue
            try:
                build(changed)
            except ClearError as error:
                if not str(error):
                    wrong.append((path, name, repr(error)))
            except Exception as error:
                wrong.append((path, name, f'{type(error).__name__}: {error}'[:200]))
    return wrong


def bases(folder):
    return sorted(path for path in (BASES / folder).glob('*.py'))


def read(path):
    return plain(Config.fromfile(str(path)).to_dict())


# Continual


def build_continual(config):
    """Check the whole config, and build model and strategy; the data would be read anew each time."""
    from clear.continual.strategies import build_strategy
    from clear.models import build_classifier

    filled = with_defaults(config)
    check_continual_config(filled)
    with building('The config'):
        model = build_classifier(filled['model'])
        build_strategy(filled['cl_strategy'], model, device=torch.device('cpu'))


@pytest.mark.slow
@pytest.mark.parametrize('path', bases('strategies'), ids=lambda path: path.stem)
def test_strategies(path):
    strategy = read(path)['cl_strategy']
    common = {} if path.stem == 'naive' else {key: strategy.pop(key) for key in ('optimizer', 'scheduler', 'loss')
                                              if key in strategy}  # the same in all of them: once is enough
    assert survivors(strategy, lambda changed: build_continual(DEMO | {'cl_strategy': common | changed})) == []


def test_the_continual_keys():
    """What every continual run has, and the shipped runtime."""
    keys = dict(seed=0, threads=1, num_workers=0, device='cpu', work_dir='out', name='x', load_from='a.pth', frozen=[],
                freeze_bn=False, amp=False, report=True, max_iters_per_experience=3, max_time_per_experience=2.0,
                default_scope='clear') | read(BASES / 'default_runtime.py')
    build = lambda changed: check_continual_config(with_defaults({**DEMO, **changed}))  # noqa: E731
    assert survivors(plain(keys), build) == []
    assert survivors(dict(load_from=dict(path='a.pth', min_matched=0.9)), build) == []


@pytest.mark.slow
@pytest.mark.parametrize('path', bases('scenarios'), ids=lambda path: path.stem)
def test_scenarios(path):
    from clear.continual.scenarios import build_scenario

    config = DEMO | {'scenario': read(path)['scenario'] | dict(max_bad_fraction=0.01)}
    if 'data_root' in config['scenario']:
        config['scenario'] |= dict(data_root='nowhere', decoder='pil')

    def build(changed):
        check_continual_config(with_defaults(DEMO | changed))
        with building('The config'):
            if 'data_root' in config['scenario']:
                build_scenario(changed['scenario'])

    assert survivors({'scenario': config['scenario']}, build) == []


# Meaningless values that were once accepted


@pytest.mark.parametrize(('key', 'value'), [
    ('cl_strategy.scheduler', dict(type='StepLR', step_size=0)),
    ('cl_strategy.scheduler', dict(type='StepLR', step_size=-1)),
    ('cl_strategy.scheduler', dict(type='StepLR', step_size=2, by_epoch='False')),
    ('cl_strategy.scheduler', dict(type='StepLR', step_size=2, gamma=math.nan)),
    ('cl_strategy.optimizer', dict(type='SGD', lr=-1)), ('cl_strategy.optimizer', dict(type='SGD', lr='fast')),
    ('max_time_per_experience', math.nan), ('scenario.max_bad_fraction', math.nan), ('scenario.max_bad_fraction', -1),
    ('scenario.max_bad_fraction', 2), ('scenario.max_bad_fraction', '1 %'), ('scenario.decoder', 'junk'),
    ('seed', 10**30), ('threads', 10**30), ('num_workers', -1), ('device', 'meta'), ('device', ['cpu']),
    ('load_from', dict(min_matched=0.5)), ('load_from', dict(path='a', min_matched=math.nan)),
    ('checkpoint_config', 3), ('name', 3), ('name', ['a']), ('scenario.data_root', 3), ('scenario.data_root', None),
    ('default_scope', 'toy'), ('cl_strategy.type', 'os.getcwd'), ('scenario.type', 'os.getcwd'),
    ('model', dict(type='os.getcwd')), ('scenario.type', ['CLEAR']), ('model.head.type', ['x'])])
def test_values_of_continual_runs_that_are_refused(key, value):
    from clear.continual.strategies import build_strategy
    from clear.core.programs.startup import choose_device
    from clear.models import build_classifier

    config = Config(copy.deepcopy(DEMO))
    if key.startswith('scenario') and key != 'scenario.type':
        config.scenario = dict(type='CLEAR', data_root='x')
    config.merge_from_dict({key: value})
    filled = with_defaults(config)
    with pytest.raises((ConfigError, RegistryError)):
        check_continual_config(filled)
        choose_device(filled['device'])
        build_strategy(filled['cl_strategy'], build_classifier(filled['model']), device=torch.device('cpu'))


# The Runner


RUN = dict(
    model=dict(type='ToyPairs'),
    train_dataloader=dict(batch_size=4, num_workers=0, dataset=dict(type='ToyViews', size=24),
                          sampler=dict(type='DefaultSampler', shuffle=True)),
    train_cfg=dict(by_epoch=True, max_epochs=3), custom_hooks=[dict(type='EMAHook', momentum=0.1)],
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9), accumulative_counts=2,
                       clip_grad=dict(max_norm=1.0)),
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)], seed=3,
    auto_scale_lr=dict(base_batch_size=8, enable=True),
    default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep=2, milestones=[1], by_epoch=True),
                       logger=dict(type='LoggerHook', interval=2), results=dict(type='ResultsHook', figures=False)))


def build_run(config, folder):
    import toy_runs  # noqa: F401

    from clear.engine.training.program import build_runner

    with building('The config'):
        check_runner_config(config)
    # Without a back end: one would format the whole config for its file, which takes longer than all the rest.
    build_runner(dict(config, work_dir=str(folder), visualizer=dict(type='mmengine.Visualizer')))


@pytest.mark.slow
def test_the_runners_keys(tmp_path):
    assert survivors(RUN, lambda config: build_run(config, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize('path', bases('schedules'), ids=lambda path: path.stem)
def test_schedules(path, tmp_path):
    found = {key: value for key, value in read(path).items() if key in KNOWN}
    if 'cl_strategy' in read(path):
        config = DEMO['cl_strategy'] | read(path)['cl_strategy']
        assert survivors(dict(cl_strategy=config), lambda changed: build_continual(DEMO | changed)) == []
    else:
        assert survivors(found, lambda changed: build_run({**RUN, **changed}, tmp_path)) == []


@pytest.mark.slow
@pytest.mark.parametrize('path', bases('datasets'), ids=lambda path: path.stem)
def test_data_of_the_runner(path):
    found = {key: value for key, value in read(path).items() if key in KNOWN}
    base = {**RUN, 'model': dict(type='SimSiam')}
    assert survivors(found, lambda changed: check_run({**base, **changed})) == []


def check_run(config):
    import toy_runs  # noqa: F401

    with building('The config'):
        check_runner_config(config)


@pytest.mark.parametrize(('key', 'value'), [
    ('optim_wrapper.optimizer.lr', -1), ('optim_wrapper.optimizer.lr', 'fast'), ('train_dataloader.num_workers', -1),
    ('train_dataloader.batch_size', True), ('train_dataloader.prefetch_factor', 2), ('default_hooks', 'junk'),
    ('default_hooks', [1]), ('custom_hooks', 'junk'), ('custom_hooks', ['junk']),
    ('train_dataloader.sampler', dict(_delete_=True, shuffle=True)),
    ('param_scheduler', [dict(type='StepLR', step_size=-1)]), ('train_cfg.max_epochs', 1.5),
    ('default_hooks.checkpoint.by_epoch', 'no'), ('amp', 'fast'), ('seed', 10**30), ('default_scope', 'toy'),
    ('model', dict(type='os.getcwd')), ('train_dataloader.dataset.type', 'os.getcwd')])
def test_values_of_the_runner_that_are_refused(key, value, tmp_path):
    config = Config(copy.deepcopy(RUN))
    config.merge_from_dict({key: value}, allow_list_keys=False)
    with pytest.raises((ConfigError, RegistryError)):
        build_run(config, tmp_path)


# Probing


@pytest.mark.slow
@pytest.mark.parametrize('path', bases('tasks'), ids=lambda path: path.stem)
def test_tasks(path):
    found = read(path) | dict(seed=0, num_workers=0, banks=dict(root='x', dtype='float16', batch_size=4,
                                                                max_bad_fraction=0.1))
    base = dict(encoders=dict(a=dict(bank='banks')), data=dict(train='a', test='b'))

    def build(changed):
        with building('The config'):
            check_probe_config(probe_defaults({**base, **changed}))

    assert survivors(found, build) == []
