import importlib.util
import signal
import sys
from pathlib import Path

import pytest

from clear.core.config import (
    EXECUTION_KEYS,
    config_hash,
    configs_folder,
    find_config,
    load_config,
    to_plain,
)
from clear.core.configs.options import parse_options
from clear.core.errors import ConfigError
from clear.core.programs.signals import Stopped

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py'))


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Finding


def test_a_path_is_used_as_it_is(tmp_path):
    path = write(tmp_path / 'my.py', 'x = 1')
    assert find_config(path) == path and find_config(str(path)) == path


@pytest.mark.parametrize('name', ['configs/demo/naive_lenet5_demo.py', 'demo/naive_lenet5_demo.py'])
def test_shipped_configs_are_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == configs_folder() / 'demo' / 'naive_lenet5_demo.py'


@pytest.mark.parametrize('name, expected', [
    ('configs/demo/naiv_lenet5_demo.py', "'demo/naive_lenet5_demo.py'"), ('naive_lenet5_demo.py', 'naive_lenet5_demo'),
    ('/absolute/demo/naive_lenet5_demo.py', 'does not exist'), ('configs/demo', 'does not exist')])
def test_a_missing_config_names_the_nearest(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match='does not exist') as error:
        find_config(name)
    assert expected in str(error.value)


def test_a_local_file_comes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'demo' / 'naive_lenet5_demo.py', 'mine = 1')
    assert load_config('demo/naive_lenet5_demo.py')[0].mine == 1


# Reading


def test_bases_are_merged_and_deleted(tmp_path):
    write(tmp_path / 'a.py', "keep = 1\ncl_strategy = dict(type='Naive', optimizer=dict(type='SGD', lr=1.0))")
    write(tmp_path / 'b.py', 'seed = 7')
    path = write(tmp_path / 'c.py', "_base_ = ['a.py', 'b.py']\nrate = 0.5\n"
                 "cl_strategy = dict(optimizer=dict(_delete_=True, type='Adam', lr=rate), epochs={{_base_.seed}})")
    cfg, assigned = load_config(path)
    assert cfg.cl_strategy == dict(type='Naive', optimizer=dict(type='Adam', lr=0.5), epochs=7)
    assert assigned == {'cl_strategy', 'keep', 'seed', 'rate'}


def test_options_override_after_the_file_was_read(tmp_path):
    path = write(tmp_path / 'c.py', 'a = dict(b=[1, 2], c=dict(d=1))\nx = 1')
    cfg, assigned = load_config(path, {'a.b': [3], 'a.c.e': 'new', 'y': 2})
    assert cfg.a == dict(b=[3], c=dict(d=1, e='new')) and (cfg.x, cfg.y) == (1, 2)
    assert assigned == {'a', 'x'}


@pytest.mark.parametrize('text', [
    'a = (', 'a = undefined', 'import no_such_module', "_base_ = ['missing.py']", 'a = 1 / 0', 'raise SystemError',
    'a = {}["key"]', "_base_ = ['fine.py']\na = {{_base_.nothing}}"])
def test_a_config_that_cannot_be_read_is_a_user_error(text, tmp_path):
    write(tmp_path / 'fine.py', 'x = 1')
    path = write(tmp_path / 'broken.py', text)
    with pytest.raises(ConfigError, match='broken.py cannot be read as a config: '):
        load_config(path)


def test_a_base_that_cannot_be_read_is_named_in_words(tmp_path):
    path = write(tmp_path / 'child.py', "_base_ = ['base.py']")
    with pytest.raises(ConfigError, match='base.py, which it names, does not exist'):
        load_config(path)
    (tmp_path / 'base.py').write_bytes(b'# caf\xe9')
    with pytest.raises(ConfigError, match='one of its bases is not text in UTF-8 .byte 0xe9'):
        load_config(path)
    (tmp_path / 'list.yaml').write_text('- 1')
    with pytest.raises(ConfigError, match='it holds a list'):
        load_config(write(tmp_path / 'other.py', "_base_ = 'list.yaml'"))


@pytest.fixture
def own_path(monkeypatch, tmp_path):
    """A path of modules that a test may change, without the current folder, which is empty."""
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, 'path', [folder for folder in sys.path if folder])
    yield sys.path
    sys.modules.pop('beside_a_config', None)


@pytest.mark.parametrize('place', ['configs', 'here'])
def test_custom_imports_finds_modules_beside_the_config_and_in_the_current_folder(place, own_path, tmp_path):
    before = [*own_path]
    write(tmp_path / place / 'beside_a_config.py', 'found = True')
    path = write(tmp_path / 'configs' / 'c.py', "custom_imports = dict(imports=['beside_a_config'])")
    load_config(path)
    assert sys.modules['beside_a_config'].found
    added = [str(tmp_path / 'configs'), str(tmp_path / 'here')]
    assert own_path == before + added, 'last, so that nothing installed is hidden'
    load_config(path)
    assert own_path == before + added, 'once'


@pytest.mark.parametrize(('imports', 'message'), [
    ("dict(imports=['absent_module'])", "'absent_module' is neither beside the config"),
    ("dict(imports=['breaks'])", r"'breaks' breaks: ZeroDivisionError: division by zero \(.*breaks.py, line 2\)"),
    ("dict(imports=['circle_a'])", "'circle_a' breaks: ImportError: cannot import name 'x'.*circle_b.py, line 1"),
    ("dict(imports=['wants'])", "'wants' breaks: ModuleNotFoundError: No module named 'absent_module'.*wants.py"),
    ("'breaks'", r"expected dict\(imports="),
    ("dict(import_=['breaks'])", "no key 'import_'. Did you mean 'imports'"),
    ("dict(imports=[3])", 'expected the name of a module'),
])
def test_modules_that_cannot_be_imported(imports, message, own_path, tmp_path):
    for name, text in (('breaks', 'a = 1\nb = 1 / 0'), ('circle_a', 'import circle_b\nx = 1'),
                       ('circle_b', 'from circle_a import x'), ('wants', 'import absent_module')):
        write(tmp_path / 'configs' / f'{name}.py', text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(tmp_path / 'configs' / 'c.py', f'custom_imports = {imports}'))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('top', 'base'), [
    ('from mmengine.config import read_base\nwith read_base():\n    from .b import *', "_base_ = 'c.py'"),
    ("_base_ = 'b.py'", 'from mmengine.config import read_base\nwith read_base():\n    from .c import *')])
def test_bases_of_both_kinds(top, base, tmp_path):
    for name, text in (('a', top), ('b', base), ('c', 'x = 1')):
        write(tmp_path / f'{name}.py', text)
    with pytest.raises(ConfigError, match=r'some name theirs by `_base_` and others import'):
        load_config(tmp_path / 'a.py')


def test_bases_that_name_each_other(tmp_path):
    write(tmp_path / 'a.py', "_base_ = 'b.py'")
    write(tmp_path / 'b.py', "_base_ = ['c.py']")
    write(tmp_path / 'c.py', "_base_ = './a.py'")
    write(tmp_path / 'd.py', "_base_ = 'd.py'")
    for name in 'ad':
        with pytest.raises(ConfigError, match='_base_ goes round in a circle: .* names .*[ad].py'):
            load_config(tmp_path / f'{name}.py')


def test_without_custom_imports_the_path_of_modules_stays(own_path, tmp_path):
    before = [*own_path]
    load_config(write(tmp_path / 'configs' / 'c.py', 'x = 1'))
    with pytest.raises(ConfigError, match='no_such_module'):
        load_config(write(tmp_path / 'configs' / 'd.py', "custom_imports = dict(imports=['no_such_module'])"))
    assert own_path == before


def test_a_file_of_another_kind_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match=r'c.txt is no config; one ends with .py, .yaml'):
        load_config(write(tmp_path / 'c.txt', 'a = 1'))


@pytest.mark.parametrize('text', ['raise SystemExit', 'raise SystemExit(0)', '__import__("sys").exit(3)',
                                  'raise KeyboardInterrupt', 'raise GeneratorExit', 'raise BaseException("x")'])
@pytest.mark.parametrize('place', ['config', 'base'])
def test_a_config_cannot_end_the_program(text, place, tmp_path):
    write(tmp_path / 'ends.py', text)
    write(tmp_path / 'child.py', "_base_ = 'ends.py'")
    with pytest.raises(ConfigError, match='cannot be read as a config: '):
        load_config(tmp_path / ('ends.py' if place == 'config' else 'child.py'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_a_config_is_read_stops_the_program(number, tmp_path):
    path = write(tmp_path / 'c.py', f"""os = __import__('os')\nos.kill(os.getpid(), {int(number)})
for _ in range(10**6):
    pass
""")
    before = signal.getsignal(number)
    with pytest.raises(Stopped):
        load_config(path)
    assert signal.getsignal(number) is before


def test_a_config_that_overrides_a_plain_value_by_a_dict_is_a_user_error(tmp_path):
    write(tmp_path / 'a.py', 'model = 3')
    path = write(tmp_path / 'b.py', "_base_ = ['a.py']\nmodel = dict(head=1)")
    with pytest.raises(ConfigError, match='b.py cannot be read'):
        load_config(path)


def test_an_option_into_a_plain_value_is_a_user_error(tmp_path):
    path = write(tmp_path / 'c.py', 'a = [1, 2]')
    with pytest.raises(ConfigError, match=r'--cfg-options a.7=1'):
        load_config(path, {'a.7': 1})


@pytest.mark.parametrize('old, new', [('dataset_type', 'type'), ('dataset_root', 'data_root')])
def test_names_of_the_earlier_demo_are_understood(old, new, tmp_path):
    path = write(tmp_path / 'c.py', f"scenario = dict({old}='old name', {new}='base', other=1)")
    assert load_config(path)[0].scenario == {new: 'old name', 'other': 1}
    assert load_config(path, {f'scenario.{new}': 'option'})[0].scenario[new] == 'option'
    assert load_config(path, {f'scenario.{old}': 'option'})[0].scenario == {new: 'option', 'other': 1}


# Options


@pytest.mark.parametrize('option', ['a.b=x,y', 'a.b=[x,(y]', 'a.b=1,two', 'a.c.0=x,y'])
def test_text_with_commas_in_place_of_a_list_says_how_lists_are_written(option, tmp_path):
    path = write(tmp_path / 'c.py', "a = dict(b=['x'], c=[(1, 2)], d='text')")
    with pytest.raises(ConfigError, match=r'the config has a list there.*A list is written a\.[bc](\.0)?=\[a,b\]'):
        load_config(path, parse_options([option]))


@pytest.mark.parametrize('option, a', [
    ('a.b=[x,y]', dict(b=['x', 'y'], c=[dict(e=1)], d='text')), ('a.b=1,2', dict(b=[1, 2], c=[dict(e=1)], d='text')),
    ('a.b=x', dict(b='x', c=[dict(e=1)], d='text')), ('a.d=x, y', dict(b=['x'], c=[dict(e=1)], d='x, y')),
    ('a.c.0.e=x,y', dict(b=['x'], c=[dict(e='x,y')], d='text')),
    ('a.new=x,y', dict(b=['x'], c=[dict(e=1)], d='text', new='x,y')),
    ('a.c.0.f=[1,b]', dict(b=['x'], c=[dict(e=1, f=[1, 'b'])], d='text'))])
def test_options_reach_places_in_lists_and_keep_text(option, a, tmp_path):
    path = write(tmp_path / 'c.py', "a = dict(b=['x'], c=[dict(e=1)], d='text')")
    assert load_config(path, parse_options([option]))[0].a == a


def test_delete_replaces_a_dict_as_in_a_file(tmp_path):
    path = write(tmp_path / 'c.py', 'optimizer = dict(lr=1, momentum=0.9)')
    options = parse_options(['optimizer._delete_=True', 'optimizer.lr=2'])
    assert load_config(path, options)[0].optimizer == dict(lr=2)


@pytest.mark.parametrize('options', [['a=1', 'a.b=2'], ['a=1', 'a.b.c=2'], ['a=[1]', 'a.0=2'], ['x.0.y=1']])
def test_options_that_contradict_each_other_are_a_user_error(options, tmp_path):
    with pytest.raises(ConfigError, match='--cfg-options'):
        load_config(write(tmp_path / 'c.py', 'a = dict(b=1)\nx = [3]'), parse_options(options))


# Hashes


def example(**changes):
    cfg = dict(seed=0, scenario=dict(type='CLEAR', data_root='data/a', seed=0), cl_strategy=dict(type='Naive', lr=0.1),
               work_dir='x')
    return {**cfg, **changes}


@pytest.mark.parametrize('key', EXECUTION_KEYS)
def test_where_and_how_a_run_is_executed_does_not_change_its_hash(key):
    assert config_hash(example(**{key: 'other'})) == config_hash(example())


@pytest.mark.parametrize('changes', [
    dict(cl_strategy=dict(type='Naive', lr=0.2)), dict(cl_strategy=dict(type='Naive')), dict(model={}),
    dict(scenario=dict(type='CLEAR', data_root='data/a', seed=1)), dict(frozen=['backbone'])])
def test_what_a_run_computes_changes_its_hash(changes):
    assert config_hash(example(**changes)) != config_hash(example())


def test_the_hash_ignores_order_kind_of_list_and_the_place_of_the_data():
    moved = example(scenario=dict(seed=0, data_root='/elsewhere', type='CLEAR'))
    assert config_hash(dict(reversed(moved.items()))) == config_hash(example())
    assert config_hash(dict(x=(1, 2))) == config_hash(dict(x=[1, 2])) != config_hash(dict(x=[2, 1]))
    assert len(config_hash({})) == 16 and int(config_hash({}), 16) >= 0


def test_plain_values_can_be_written_as_json():
    assert to_plain({1: (2, {3}), 'a': [None, True, 0.5], 'p': Path('x')}) == \
        {'1': [2, [3]], 'a': [None, True, 0.5], 'p': "PosixPath('x')"}


# What is shipped


@pytest.mark.parametrize('name', SHIPPED)
def test_every_shipped_config_can_be_read(name):
    cfg, assigned = load_config(ROOT / name)
    assert assigned and to_plain(cfg.to_dict())
    text = (ROOT / name).read_text()
    assert not any(word in text for word in ('/home', '/data/', 'environ', 'import '))  # plain values only


def test_the_package_finds_the_configs_of_this_clone():
    assert configs_folder() == ROOT / 'configs'
    assert Path(importlib.util.find_spec('clear').origin).parents[1] == ROOT


# Configs of the earlier demo


@pytest.mark.parametrize('where', ['base', 'child'])
def test_a_file_of_a_chain_may_compute_with_a_package(tmp_path, where):
    computed = 'import numpy as np\n{base}alpha = np.linspace(0, 2, 3).tolist()\n'
    files = dict(base=computed.format(base='') if where == 'base' else 'alpha = None\nother = 1\n',
                 child=computed.format(base="_base_ = ['base.py']\n") if where == 'child' else "_base_ = ['base.py']\n")
    for name, text in files.items():
        (tmp_path / f'{name}.py').write_text(text)
    cfg, assigned = load_config(tmp_path / 'child.py')
    assert cfg.alpha == [0.0, 1.0, 2.0] and 'np' not in assigned
    assert 'alpha' in cfg.pretty_text


def test_a_config_that_imports_its_bases_is_read_as_ever(tmp_path):
    (tmp_path / 'base.py').write_text('alpha = 1\n')
    (tmp_path / 'child.py').write_text('from mmengine.config import read_base\nwith read_base():\n'
                                       '    from .base import *\nbeta = 2\n')
    cfg, _ = load_config(tmp_path / 'child.py')
    assert (cfg.alpha, cfg.beta) == (1, 2)


@pytest.mark.parametrize(('cumulate', 'expected'), [(True, 'PrototypePlus'), (False, 'Prototype')])
def test_cumulated_prototypes_have_a_name_of_their_own(tmp_path, cumulate, expected):
    (tmp_path / 'a.py').write_text(f"cl_strategy = dict(type='Prototype', shot=1, cumulate={cumulate})\n")
    strategy = load_config(tmp_path / 'a.py')[0].cl_strategy
    assert strategy.to_dict() == dict(type=expected, shot=1)


def test_names_of_the_earlier_demo_keep_its_methods():
    si, ewc = (load_config(f'configs/_base_/{name}.py')[0].cl_strategy for name in ('si', 'ewc'))
    assert (si.type, si.si_lambda, si.legacy) == ('SynapticIntelligence', 1e-4, True)
    assert (ewc.type, ewc.ewc_lambda, ewc.fisher) == ('EWC', 0.4, 'batch')


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(ConfigError, match='is a folder'):
        load_config(tmp_path)
