"""What a constructor refuses becomes one message."""

import pytest
import torch
from mmengine.registry import Registry

from clear.core.configs.building import building
from clear.core.errors import ConfigError


def test_the_stack_of_calls_inside_torch_is_left_out():
    with pytest.raises(ConfigError, match='^The layer cannot be built: ') as refused, building('The layer'):
        torch.empty(-1, 10 ** 40)
    assert 'Exception raised from' not in str(refused.value) and 'libc10' not in str(refused.value)


def test_a_message_of_several_lines_is_kept():
    with pytest.raises(ConfigError) as refused, building('It'):
        raise RuntimeError('first\nsecond\nException raised from place at file.cpp:1 (first call)\nframe #0')
    assert str(refused.value) == 'It cannot be built: first\nsecond'


PARTS = Registry('part')


@PARTS.register_module()
class Layer:
    def __init__(self, width: int = 1):
        self.width = width


@PARTS.register_module()
class Wide(Layer):
    def __init__(self, depth: int = 1, **layer):
        super().__init__(**layer)
        self.depth = depth


@PARTS.register_module()
class Block:
    def __init__(self, layers=(), own=None):
        self.layers, self.own = [PARTS.build(layer) for layer in layers], Layer(**(own or {}))


@PARTS.register_module()
class Careless:
    def __init__(self):
        Layer(widht=1)


@pytest.mark.parametrize('cfg, told', [
    (dict(type='Layer', widht=2), "Layer has no key 'widht'. Did you mean 'width'? Known: width."),
    (dict(type='Wide', widht=2), "Wide has no key 'widht'. Did you mean 'width'? Known: depth, width."),
    (dict(type='Block', own=dict(widht=2)), "part.own: Layer has no key 'widht'. Did you mean 'width'? Known: width."),
    (dict(type='Block', layers=[dict(type='Layer'), dict(type='Layer', widht=2)]),
     "part.layers[1]: Layer has no key 'widht'. Did you mean 'width'? Known: width."),
    # Two places, one of which is meant: none is named.
    (dict(type='Block', layers=[dict(type='Layer', widht=2)], own=dict(widht=2)),
     "Layer has no key 'widht'. Did you mean 'width'? Known: width."),
    # Nothing of the config.
    (dict(type='Careless'), "Careless: Layer.__init__() got an unexpected keyword argument 'widht'")],
    ids=['class', 'base', 'forwarded', 'list', 'twice', 'by itself'])
def test_an_argument_that_is_not_taken_gets_its_place_and_the_nearest(cfg, told):
    with pytest.raises(ConfigError) as refused, building('It'):
        PARTS.build(cfg)
    # Python 3.13 knows the nearest too.
    assert str(refused.value).removesuffix(". Did you mean 'width'?") == f'It cannot be built: {told}'


def test_another_type_error_is_told_as_it_is():
    with pytest.raises(ConfigError) as refused, building('It'):
        PARTS.build(dict(type='Block', layers=3))
    assert str(refused.value) == "It cannot be built: Block: 'int' object is not iterable"
