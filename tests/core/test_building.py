"""What a constructor refuses becomes one message."""

import pytest
import torch

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
