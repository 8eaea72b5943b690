"""`--cfg-options`: what each text becomes, written down by hand."""

import math
import time

import pytest

from clear.core.configs.options import MAX_DEPTH, parse_options, parse_value
from clear.core.errors import ConfigError

TEXTS = ['out/my run', 'my weights/a, b.pth', 'a,b', 'two  blanks', ' around ', "it's", 'say "hi"',
         "it's, 'so' to say", 'a=b', 'a==b=', 'photos [2019]', '[draft] b.pth', '[a][b]', '(a) b (c)', 'a(b', 'a)b',
         '[a', 'a]', '[a,(b]', '[a,b)', 'a,(b', ')(', '][', '', ',', 'a,', ',a', '1,a', '1,2,', '1_000', '0x10', '1e',
         '1.2.3', '2024-01-02', '{a: 1}', 'null', 'Nothing', 'none', 'Köln 日本',
         'a\\nb', '$HOME/*', "'a' and 'b'", '"', "'",
         "[it's", 'nano', '１２']


@pytest.mark.parametrize('text', TEXTS)
def test_text_stays_as_it_was_typed(text):
    assert parse_options([f'name={text}']) == {'name': text}


@pytest.mark.parametrize('text', [*TEXTS, '5', '-1e3', 'True', 'None', '1,2', '[a,b]', '(1,)', '[]'])
def test_quotes_make_anything_text(text):
    for quote in ('"', "'"):
        if quote not in text:
            assert parse_options([f'a={quote}{text}{quote}', 'b=1']) == {'a': text, 'b': 1}
            assert parse_options([f'a=[x, {quote}{text}{quote} ]']) == {'a': ['x', text]}


@pytest.mark.parametrize('text, value', [
    ('1', 1), ('-3', -3), ('+3', 3), ('007', 7), ('0.5', 0.5), ('.5', 0.5), ('5.', 5.0), ('1e-3', 1e-3),
    ('1E3', 1000.0), ('600.0', 600.0), ('inf', math.inf), ('-inf', -math.inf), ('True', True), ('true', True),
    ('FALSE', False), ('None', None), ('1,2', [1, 2]), ('1, 2.5,None,True', [1, 2.5, None, True]),
    ('[]', []), ('()', ()), ('[1]', [1]), ('[a,b]', ['a', 'b']), ('[a, b c ,d]', ['a', 'b c', 'd']),
    ('(1,2)', (1, 2)), ('(1,)', (1,)), ('[1,2,]', [1, 2]), ('[(1,2),[a,b],c]', [(1, 2), ['a', 'b'], 'c']),
    ('[[1,[2]],[]]', [[1, [2]], []]),
    ('[True,None,x=y]', [True, None, 'x=y']), ('[a(b),c]', ['a(b)', 'c']), ("['a, b', c]", ['a, b', 'c']),
    ("['a]', b]", ['a]', 'b']), ("[it's, b]", ["it's", 'b']), ('[backbone.*]', ['backbone.*']), ('[,a]', ['', 'a'])])
def test_values_are_read(text, value):
    found = parse_value(text)
    assert found == value and type(found) is type(value)
    assert str(found) == str(value)  # 1, 1.0 and True are equal, but not the same


def test_not_a_number_is_a_number():
    assert math.isnan(parse_value('nan')) and math.isnan(parse_value('[nan]')[0])


@pytest.mark.parametrize('pair, says', [
    ('seed', "takes key=value, got 'seed'"), ('=1', 'is no key'), ('a..b=1', 'is no key'), ('.a=1', 'is no key'),
    ('a =b.=1', None), ('.'.join('a' * 200) + '=1', 'is no key'), ('a=b\0c', 'NUL'), ('a\0=1', 'NUL'),
    ('a=[x,\udcff]', 'no UTF-8'), ('a=' + '[' * (MAX_DEPTH + 2) + ']' * (MAX_DEPTH + 2), 'nested more than')])
def test_what_cannot_be_an_option_is_a_user_error(pair, says):
    if says is None:
        assert parse_options([pair]) == {'a ': 'b.=1'}
        return
    with pytest.raises(ConfigError, match='--cfg-options') as error:
        parse_options(['a=1', pair])
    assert says in str(error.value)


@pytest.mark.parametrize('text', ['[' * 50_000, '[' * 50_000 + ']' * 49_999, '["' * 25_000,
                                  "'," * 25_000, ',' * 100_000, '9' * 100_000])
def test_long_values_are_read_at_once(text):
    start = time.monotonic()
    parse_value(text)
    assert time.monotonic() - start < 1


def test_the_last_of_two_values_counts():
    assert parse_options(['a=1', 'b=x', 'a=2']) == {'a': 2, 'b': 'x'}
