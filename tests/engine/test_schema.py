"""Top-level keys of a config: defaults, what decides the result, differences."""

import pytest
from mmengine.config import Config

from clear.core.errors import ConfigError
from clear.engine.schema import check_load_from, check_names, computed_config, differences, filled_in


def test_defaults_fill_only_what_is_left_out_and_are_not_shared():
    defaults = dict(a=[1], b=2)
    filled = filled_in(Config(dict(b=3, c=dict(d=4))), defaults)
    assert filled == dict(a=[1], b=3, c=dict(d=4))
    filled['a'].append(2)
    assert defaults == dict(a=[1], b=2)


def test_what_decides_leaves_execution_out_but_keeps_the_seed():
    cfg = dict(seed=1, device='cpu', model=dict(sizes=(1, 2)), helper=3)
    assert computed_config(cfg) == dict(seed=1, model=dict(sizes=[1, 2]), helper=3)
    assert computed_config(cfg, ('seed', 'model')) == dict(seed=1, device='cpu', helper=3)
    assert computed_config(cfg, known={'model'}) == dict(seed=1, model=dict(sizes=[1, 2]))


def test_differences_name_the_path():
    old, new = dict(a=dict(b=1, c=[2]), d=0), dict(a=dict(b=1, c=[3]), e=0)
    assert differences(old, new) == ['a.c: [2] -> [3]', 'd: 0 -> None', 'e: None -> 0']
    assert differences(old, old) == []


def test_only_names_like_known_ones_are_misspelt():
    check_names({'batch_size', 'model'}, {'model', 'schedule'})
    with pytest.raises(ConfigError, match="assigns 'schedul', which nobody reads. Did you mean 'schedule'"):
        check_names({'schedul'}, {'model', 'schedule'})


@pytest.mark.parametrize('value, says', [(3, 'load_from'), (dict(path='a', min_matched=2), 'load_from.min_matched'),
                                         (dict(path='a', sorce='moco'), "'source'")])
def test_load_from_is_checked(value, says):
    check_load_from(dict(path='a', min_matched=0.5))
    with pytest.raises(ConfigError, match=says):
        check_load_from(value)
