"""Names in configs: which class they mean, what a wrong one says, and what importing the registries costs."""

import copy
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.registry import Registry as MMRegistry

from clear import registry as registries
from clear.core.errors import RegistryError
from clear.registry import (
    CL_METRICS,
    DATASETS,
    HOOKS,
    LOGGERS,
    MODELS,
    OPTIMIZERS,
    SCENARIOS,
    SHADOWED,
    STRATEGIES,
    TRANSFORMS,
    Registry,
)

ALL = {name: value for name, value in vars(registries).items() if isinstance(value, Registry)}


class Base:
    def __init__(self, size=1, parts=None):
        self.size, self.parts = size, parts


class Other(Base):
    pass


@pytest.fixture
def chain():
    """A registry of ours below two parents, and a library."""
    top = MMRegistry('thing', scope='top')
    middle = MMRegistry('thing', scope='middle', parent=top)
    library = {'InLibrary': Base, 'Everywhere': 'library', 'dotted.name': Base}
    own = Registry('thing', parent=middle, library=library.get, library_names=lambda: list(library),
                   library_title='lib')
    for registry, names in ((top, ('Everywhere', 'InTwo', 'InTop')), (middle, ('Everywhere', 'InTwo')),
                            (own, ('Everywhere',))):
        for name in names:
            registry.register_module(name=name, module=type(f'{registry.scope}_{name}', (Base,), {}))
    return own


# Resolution


@pytest.mark.parametrize('name, found', [('Everywhere', 'clear_Everywhere'), ('InTwo', 'middle_InTwo'),
                                         ('InTop', 'top_InTop'), ('InLibrary', 'Base')])
def test_a_bare_name_is_looked_up_from_the_nearest_outwards(name, found, chain):
    assert chain.get(name).__name__ == found
    assert type(chain.build(dict(type=name, size=3))).__name__ == found


def test_own_names_leave_parents_and_libraries_out(chain):
    assert chain.get_own('Everywhere').__name__ == 'clear_Everywhere'
    assert chain.get_own('InTwo') is None and chain.get_own('InLibrary') is None


def test_a_name_with_a_dot_never_reaches_the_library(chain):
    assert chain.get('dotted.name') is None


@pytest.mark.parametrize('registry, name, package', [
    (MODELS, 'ComposedClassifier', 'clear'), (MODELS, 'ResNet', 'mmpretrain'),
    (MODELS, 'BaseDataPreprocessor', 'mmengine'), (DATASETS, 'CIFAR10', 'mmpretrain'),
    (TRANSFORMS, 'PackInputs', 'mmpretrain'), (HOOKS, 'CheckpointHook', 'clear'), (HOOKS, 'LoggerHook', 'mmengine'),
    (HOOKS, 'ClassNumCheckHook', 'mmpretrain'), (OPTIMIZERS, 'Lamb', 'mmpretrain'), (OPTIMIZERS, 'AdamW', 'torch'),
    (STRATEGIES, 'Naive', 'avalanche'), (STRATEGIES, 'SynapticIntelligence', 'clear'), (SCENARIOS, 'CLEAR', 'clear'),
    (SCENARIOS, 'SplitMNIST', 'avalanche'), (LOGGERS, 'TextLogger', 'clear'),
    (LOGGERS, 'InteractiveLogger', 'avalanche'), (CL_METRICS, 'accuracy_metrics', 'avalanche')],
    ids=lambda value: value if isinstance(value, str) else value.name)
def test_shipped_names_come_from_the_expected_package(registry, name, package):
    assert registry.require(name).__module__.split('.')[0] == package


def test_a_torchvision_transform_is_asked_for_by_its_prefix():
    wrapped = TRANSFORMS.get('torchvision/RandomCrop').keywords['transform']  # mmpretrain wraps it
    assert wrapped.__module__.startswith('torchvision.')
    assert TRANSFORMS.get('RandomCrop').__module__.startswith('mmpretrain.')


@pytest.mark.parametrize('registry, name', [(STRATEGIES, 'cwr_star'), (CL_METRICS, 'Accuracy'), (LOGGERS, 'json'),
                                            (SCENARIOS, '__name__')])
def test_a_library_gives_only_what_fits_the_registry(registry, name):
    assert registry.get(name) is None


# Messages


def test_an_unknown_name_lists_the_three_nearest_with_their_origin(chain):
    with pytest.raises(RegistryError) as error:
        chain.build(dict(type='InTopp'))
    message = str(error.value)
    assert message.startswith("thing: no type 'InTopp' is registered. Nearest: 'InTop' (top), 'InTwo' (middle), ")
    assert message.count("' (") == 3


@pytest.mark.parametrize('registry, name, expected', [
    (MODELS, 'Resnet', "'ResNet' (mmpretrain)"), (STRATEGIES, 'Naiv', "'Naive' (avalanche.training.supervised)"),
    (SCENARIOS, 'Clear', "'CLEAR' (clear)"), (LOGGERS, 'TextLog', "'TextLogger' (clear)"),
    (CL_METRICS, 'forgeting_metrics', "'forgetting_metrics' (avalanche.evaluation.metrics)")])
def test_a_misspelt_name_is_found_again(registry, name, expected):
    with pytest.raises(RegistryError) as error:
        registry.require(name)
    assert expected in str(error.value)


def test_one_name_for_two_classes_shows_both_files(chain):
    chain.register_module(name='Mine', module=Base)
    with pytest.raises(RegistryError) as error:
        chain.register_module(name='Mine', module=Other)
    lines = [number for number, line in enumerate(Path(__file__).read_text().split('\n'), 1)
             if line.startswith(('class Base', 'class Other'))]
    assert "'Mine' is defined twice" in str(error.value)
    assert all(f'{__file__}:{line}' in str(error.value) for line in lines)
    assert chain.get('Mine') is Base
    chain.register_module(name='Mine', module=Other, force=True)
    assert chain.get('Mine') is Other


@pytest.mark.parametrize('cfg', [None, 'Base', ['Base'], 3])
def test_what_is_no_config_is_refused(cfg, chain):
    with pytest.raises(TypeError, match='expected a dict with a type'):
        chain.build(cfg)


def test_a_type_that_is_no_name_is_refused(chain):
    with pytest.raises(TypeError, match='a type is a name, not 3'):
        chain.get(3)


# Building


def test_building_changes_neither_the_config_nor_what_it_shares(chain):
    chain.register_module(name='Greedy', module=lambda parts: parts.append(parts.pop(0)['x'].pop('y')) or parts)
    cfg = dict(type='Greedy', parts=[dict(x=dict(y=1)), 2])
    before = copy.deepcopy(cfg)
    assert chain.build(cfg) == [2, 1]
    assert cfg == before
    shared = [1]
    built = chain.build(dict(type='Everywhere', parts=shared))
    assert built.parts == [1] and built.parts is not shared


def test_default_arguments_fill_but_do_not_override(chain):
    built = chain.build(dict(type='Everywhere', size=5), default_args=dict(size=1, parts='given'))
    assert (built.size, built.parts) == (5, 'given')


def test_what_a_config_builds_can_be_built_by_hand():
    by_config = MODELS.build(dict(type='LinearClsHead', num_classes=3, in_channels=4))
    by_hand = MODELS.get('LinearClsHead')(num_classes=3, in_channels=4)
    assert type(by_config) is type(by_hand)
    assert by_config.fc.weight.shape == by_hand.fc.weight.shape == torch.Size([3, 4])


# Every registry


def test_every_registry_is_a_child_of_mmpretrains_or_stands_alone():
    for name, registry in ALL.items():
        assert registry.scope == 'clear'
        if registry.parent is not None:
            assert registry.parent is getattr(mmpretrain.registry, name)
            assert registry.parent.parent is None or registry.parent.parent.scope == 'mmengine'


def hidden_names():
    """Own names that a parent or library knows too, with the registries they are in."""
    hidden = {}
    for title, registry in ALL.items():
        registry.import_from_location()
        outer = {name for parent in registry._import_parents() for name in parent.module_dict}
        outer |= set(registry._library_names())
        for name in set(registry.module_dict) & outer:
            hidden.setdefault(name, []).append(title)
    return hidden


def test_every_name_that_hides_another_is_listed_with_a_reason():
    hidden = hidden_names()
    assert set(hidden) == set(SHADOWED)
    assert all(len(reason) > 20 for reason in SHADOWED.values())
    assert all(len(titles) == 1 for titles in hidden.values())


def test_the_list_of_hidden_names_would_show_a_new_one(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'ResNet', Base)
    assert hidden_names()['ResNet'] == ['MODELS']


# Cost


def test_importing_is_quiet_and_leaves_heavy_packages_alone():
    code = '''if True:
        import sys, time
        start = time.perf_counter()
        import clear
        took = time.perf_counter() - start
        light = [name for name in ('torch', 'numpy', 'mmengine') if name in sys.modules]
        import logging
        import clear.registry
        heavy = [name for name in ('avalanche', 'torchvision.models', 'wandb', 'timm', 'matplotlib', 'sklearn',
                                   'mmpretrain.models', 'clear.models', 'clear.continual') if name in sys.modules]
        assert not light, light
        assert not heavy, heavy
        assert took < 1, took
        assert not logging.getLogger('clear').handlers and not logging.getLogger().handlers
        names = [name for name in ('STRATEGIES', 'LOGGERS') if getattr(clear.registry, name).module_dict]
        assert not names, names
        # Asked first, before anything else of ours is imported, a name still means our class.
        assert clear.registry.STRATEGIES.get('SynapticIntelligence').__module__.startswith('clear.')
    '''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout == '' and done.stderr == ''


# As in other registries


def test_an_unknown_name_is_a_key_error_with_a_plain_message(chain):
    with pytest.raises(KeyError) as error:
        chain.require('Bose')
    assert str(error.value).startswith("thing: no type 'Bose' is registered.")


def test_a_config_object_is_built_like_a_dict(chain):
    from mmengine.config import Config

    cfg = Config(dict(type='torch.nn.Linear', in_features=2, out_features=3))
    assert MODELS.build(cfg).weight.shape == (3, 2)
    assert cfg.type == 'torch.nn.Linear'


called = []


def marker(**options):
    """What no config may call by its path."""
    called.append(options)


def test_a_function_named_by_its_path_is_not_called():
    for registry in (MODELS, TRANSFORMS, SCENARIOS, STRATEGIES):
        with pytest.raises(RegistryError, match='neither registered under that name nor a class'):
            registry.build(dict(type=f'{__name__}.marker'))
        assert registry.get(f'{__name__}.marker') is None
    assert called == []


def test_what_only_we_have_is_found_in_any_scope():
    """`mmpretrain.get_model` leaves its scope behind in a notebook."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert MODELS.build(dict(type='CosineDistanceHead', num_classes=2, in_channels=4)).num_classes == 2
        assert type(MODELS.build(dict(type='LinearClsHead', num_classes=2, in_channels=4))).__name__ == 'LinearClsHead'
