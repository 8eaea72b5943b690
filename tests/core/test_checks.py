"""Checks of single values."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from clear.core.checks import check_choice, check_figure_path, check_flag, check_number, check_text, check_whole
from clear.core.errors import ConfigError


@pytest.mark.parametrize(('check', 'value'), [
    (lambda value: check_whole('key', value, 1), 1), (lambda value: check_whole('key', value, 0, 3), 3),
    (lambda value: check_whole('key', value), -5), (lambda value: check_number('key', value), -0.5),
    (lambda value: check_number('key', value, 0), 0), (lambda value: check_number('key', value, above=0), 1e-300),
    (lambda value: check_number('key', value, 0, below=1), 0.999), (lambda value: check_flag('key', value), False),
    (lambda value: check_text('key', value), 'a, b [c]'),
    (lambda value: check_choice('key', value, (None, 'a')), None)])
def test_a_good_value_comes_back(check, value):
    assert check(value) is value


@pytest.mark.parametrize('value', [0, -1, 600.0, math.nan, True, '3', None, [1]])
def test_no_whole_number_of_at_least_one(value):
    with pytest.raises(ConfigError, match=re.escape(f'key is {value!r}; expected a whole number of at least 1.')):
        check_whole('key', value, 1)


@pytest.mark.parametrize('value', [-1e-9, 1, math.nan, math.inf, True, '0.5', None, [0.5]])
def test_no_share_below_one(value):
    with pytest.raises(ConfigError, match=re.escape(f'key is {value!r}; expected a number of at least 0, below 1.')):
        check_number('key', value, 0, below=1)


def test_zero_is_not_above_zero():
    with pytest.raises(ConfigError, match='expected a number above 0, at most 2'):
        check_number('key', 0.0, above=0, most=2)


@pytest.mark.parametrize('value', [0, 1, 'False', None, np.True_])
def test_no_flag(value):
    with pytest.raises(ConfigError, match='expected True or False'):
        check_flag('key', value)


@pytest.mark.parametrize(('value', 'message'), [('', 'expected text'), (3, 'expected text'), (None, 'expected text'),
                                                ('a\0b', 'no file name'), ('a\udcffb', 'no file name')])
def test_no_text(value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_text('key', value)
    str(caught.value).encode()  # can be printed


@pytest.mark.parametrize('value', ['c', 1.0, True, ['a']])
def test_no_choice(value):
    with pytest.raises(ConfigError, match=re.escape(f"key is {value!r}; expected 'a' or 1.")):
        check_choice('key', value, ['a', 1])


def test_the_name_of_a_figure_says_that_it_is_a_png():
    check_figure_path(None)
    check_figure_path(Path('a.b/c.png'))
    for name in ('a.pdf', 'a', 'figures/'):
        with pytest.raises(ConfigError, match="ends with '.png'"):
            check_figure_path(Path(name))
