import importlib.util
from pathlib import Path

import pytest

from clear.core.config import (
    EXECUTION_KEYS,
    config_hash,
    configs_folder,
    find_config,
    load_config,
    parse_options,
    to_plain,
)
from clear.core.errors import ConfigError

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


@pytest.mark.parametrize('pair, value', [
    ('a.b=1', 1), ('a.b=0.5', 0.5), ('a.b=1e-3', 1e-3), ('a.b=True', True), ('a.b=None', None), ('a.b=text', 'text'),
    ('a.b=[1,2]', [1, 2]), ('a.b=1,2', [1, 2]), ('a.b=[x,y]', ['x', 'y']), ('a.b=(1,2)', (1, 2)), ('a.b=x=y', 'x=y')])
def test_options_are_read_by_mmengines_rules(pair, value):
    assert parse_options([pair, 'c=3']) == {'a.b': value, 'c': 3}
    assert type(parse_options([pair])['a.b']) is type(value)


def test_an_option_without_a_value_is_a_user_error():
    assert parse_options([]) == {}
    with pytest.raises(ConfigError, match="--cfg-options takes key=value, got 'seed'"):
        parse_options(['a=1', 'seed'])


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
