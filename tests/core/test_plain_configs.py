"""YAML and JSON configs are data: nothing that they name is built or called, and a short one stays short."""

import json
import sys
import time
import types

import pytest

from clear.core.config import load_config
from clear.core.configs import plain as plain_configs
from clear.core.errors import ConfigError

# One of each kind of tag that builds something, naming what would leave a mark in `called`.
TAGS = ['!!python/object/apply:marker.leave []', '!!python/object/new:marker.Mark []', '!!python/object:marker.Mark {}',
        '!!python/name:marker.leave', '!!python/module:marker', '!!python/tuple [1, 2]', '!mine 1', '!!set {a}',
        '!!binary aGk=', '!!omap [a: 1]']


@pytest.fixture
def called(monkeypatch):
    module = types.ModuleType('marker')
    module.calls = []
    module.leave = lambda *args: module.calls.append(args)
    module.Mark = type('Mark', (), {'__init__': lambda self: module.calls.append(self),
                                    '__new__': lambda cls: module.calls.append(cls) or object.__new__(cls)})
    monkeypatch.setitem(sys.modules, 'marker', module)
    return module.calls


@pytest.mark.parametrize('tag', TAGS)
@pytest.mark.parametrize('place', ['config', 'base', 'base of a program'])
def test_an_unknown_tag_is_refused_and_nothing_runs(tag, place, called, tmp_path):
    (tmp_path / 'tagged.yaml').write_text(f'x: 1\ny:\n  - {tag}\n')
    (tmp_path / 'child.yml').write_text('_base_: tagged.yaml\nz: 2\n')
    (tmp_path / 'child.py').write_text("_base_ = 'tagged.yaml'\n")
    config = {'config': 'tagged.yaml', 'base': 'child.yml', 'base of a program': 'child.py'}[place]
    with pytest.raises(ConfigError, match=f'{config} cannot be read as a config: line 3: the tag .* is no plain value'):
        load_config(tmp_path / config)
    assert called == []


def test_plain_values_are_read(tmp_path):
    (tmp_path / 'c.yaml').write_text('a: {b: [1, 2.5, true, null, text]}\nsame: &x {c: 1}\nother: *x\n'
                                     'merged: {<<: *x, d: 2}\nday: 2011-05-01\n')
    cfg, assigned = load_config(tmp_path / 'c.yaml')
    assert cfg.to_dict() == dict(a=dict(b=[1, 2.5, True, None, 'text']), same=dict(c=1), other=dict(c=1),
                                 merged=dict(c=1, d=2), day='2011-05-01')
    assert assigned == {'a', 'same', 'other', 'merged', 'day'}


@pytest.mark.parametrize('text', ['seed: 1\nlr: 2\nseed: 3\n', 'a: {x: 1}\nb: {seed: 1, y: 2,\n seed: 3}\n'])
def test_a_key_that_is_there_twice_is_refused(text, tmp_path):
    (tmp_path / 'c.yaml').write_text(text)
    with pytest.raises(ConfigError, match="line 3: the key 'seed' is there twice"):
        load_config(tmp_path / 'c.yaml')


@pytest.mark.parametrize('suffix', ['yaml', 'yml', 'json'])
def test_bases_imports_and_variables_go_on_working(suffix, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'wanted_module.py').write_text('loaded = True\n')
    (tmp_path / f'base.{suffix}').write_text(json.dumps(dict(keep=1, optimizer=dict(lr=1, momentum=0.9))))
    (tmp_path / 'other.py').write_text('seed = 7\n')
    (tmp_path / f'c.{suffix}').write_text(json.dumps(dict(
        _base_=[f'base.{suffix}', 'other.py'], optimizer=dict(lr=2), name='{{ fileBasenameNoExtension }}',
        custom_imports=dict(imports=['wanted_module'], allow_failed_imports=False))))
    cfg, _ = load_config(tmp_path / f'c.{suffix}')
    assert (cfg.keep, cfg.optimizer, cfg.seed, cfg.name) == (1, dict(lr=2, momentum=0.9), 7, 'c')
    assert sys.modules.pop('wanted_module').loaded


def test_other_readers_of_mmengine_are_left_as_they_were(tmp_path):
    from mmengine.fileio.handlers import file_handlers

    before = dict(file_handlers)
    (tmp_path / 'c.yaml').write_text('a: !mine 1')
    with pytest.raises(ConfigError):
        load_config(tmp_path / 'c.yaml')
    assert file_handlers == before


# Six values, each list twice that before it: 6 + 13 + 27 = 46 values and two of the outer dict's keys and so on.
ALIASES = 'a: &a [1, 2, 3, 4, 5]\nb: &b [*a, *a]\nc: [*b, *b]\n'


def test_what_aliases_stand_for_is_counted(monkeypatch):
    values = {'a': [1, 2, 3, 4, 5], 'b': [[1, 2, 3, 4, 5]] * 2, 'c': [[[1, 2, 3, 4, 5]] * 2] * 2}

    def count(value):
        if isinstance(value, dict):
            return 1 + sum(1 + count(item) for item in value.values())
        return 1 + sum(map(count, value)) if isinstance(value, list) else 1

    monkeypatch.setattr(plain_configs, 'MAX_VALUES', count(values))
    assert plain_configs.parse_yaml_config(ALIASES) == values
    monkeypatch.setattr(plain_configs, 'MAX_VALUES', count(values) - 1)
    with pytest.raises(ConfigError, match='stands for more than'):
        plain_configs.parse_yaml_config(ALIASES)


def test_aliases_that_multiply_are_refused_before_they_do(monkeypatch, tmp_path):
    monkeypatch.setattr(plain_configs, 'MAX_VALUES', 1000)
    levels = [f'l{level}: &l{level} [{", ".join([f"*l{level - 1}"] * 4)}]' for level in range(1, 8)]
    (tmp_path / 'c.yaml').write_text('\n'.join(['l0: &l0 [1, 2]', *levels]))
    start = time.monotonic()
    with pytest.raises(ConfigError, match='stands for more than 1,000 values'):
        load_config(tmp_path / 'c.yaml')
    assert time.monotonic() - start < 1


@pytest.mark.parametrize('text, says', [
    ('a: &a [*a]', 'line 1: \\*a holds itself'), ('a: &a\n  b: *a', 'line 2: \\*a holds itself'), ('a: *b', 'b'),
    ('a: ' + '[' * 150 + ']' * 150, 'nested more than 100 deep'), ('a: [1', 'ParserError'),
    ('a: ' + '9' * 5000, '4300'), ('- 1\n- 2', 'it holds a list; expected keys'), ('3', 'it holds the single value 3'),
    ('', 'it holds nothing'), ('1: a', 'the key 1 is no text'), ('a: [{b: 1}, {true: 2}]', 'the key True is no text'),
    ('_base_: 3', '_base_ is 3; expected the path'), ('_base_: [a.py, 3]', 'expected the path')])
def test_other_faulty_yaml_is_a_user_error(text, says, tmp_path):
    (tmp_path / 'c.yaml').write_text(text)
    with pytest.raises(ConfigError, match='c.yaml cannot be read as a config') as error:
        load_config(tmp_path / 'c.yaml')
    assert says.replace('\\', '') in str(error.value)


@pytest.mark.parametrize('text, says', [
    ('{"a": ' + '[' * 3000 + ']' * 3000 + '}', 'nested too deep'), ('{"a": ' + '9' * 5000 + '}', '4300'),
    ('[1]', 'it holds a list; expected keys'), ('null', 'it holds nothing'), ('"a"', "the single value 'a'"),
    ('{"_base_": {"a": 1}}', '_base_ is'), ('{"a"', 'no valid JSON'),
    ('{"a": ' + '[' * 150 + ']' * 150 + '}', 'nested more than 100 deep')])
def test_faulty_json_is_a_user_error(text, says, tmp_path):
    (tmp_path / 'c.json').write_text(text)
    with pytest.raises(ConfigError, match='c.json cannot be read as a config') as error:
        load_config(tmp_path / 'c.json')
    assert says in str(error.value)


@pytest.mark.parametrize('suffix', ['yaml', 'json'])
def test_a_text_above_the_bound_is_not_parsed(suffix, monkeypatch, tmp_path):
    monkeypatch.setattr(plain_configs, 'MAX_CHARACTERS', 10)
    (tmp_path / f'c.{suffix}').write_text('{"a": 1234567}')
    with pytest.raises(ConfigError, match='14 characters; a config has at most 10'):
        load_config(tmp_path / f'c.{suffix}')


@pytest.mark.parametrize('suffix', ['yaml', 'json'])
def test_a_mark_at_the_beginning_does_not_count(suffix, tmp_path):
    (tmp_path / f'c.{suffix}').write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_config(tmp_path / f'c.{suffix}')[0].a == 1
