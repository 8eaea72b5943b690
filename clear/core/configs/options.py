"""`--cfg-options`: text from the command line to values, and back into a config without losing a sign.

mmengine's `DictAction` drops every space and every outer quote, and makes a list of any text with a comma; here text
stays as it was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

from clear.core.errors import ConfigError

_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)', re.ASCII)
_WHOLE = re.compile(r'[+-]?\d{1,4000}', re.ASCII)
_NAMED = {'true': True, 'false': False}
# One quoted value: no other quote of its kind inside.
_QUOTED = re.compile(r'\'[^\']*\'|"[^"]*"')
# The same as an item: after a bracket or comma, and up to the next one.
_QUOTED_ITEM = re.compile(rf'\s*({_QUOTED.pattern})\s*(?=[,)\]]|$)')
_CLOSING = {'[': ']', '(': ')'}
_NOT_TEXT = re.compile('[\0\ud800-\udfff]')
# What the text of an option can stand for.
Value: TypeAlias = 'None | bool | int | float | str | list[Value] | tuple[Value, ...]'

MAX_DEPTH = 50


def parse_options(pairs: Iterable[str]) -> dict[str, Value]:
    """`['a.b=1', 'c=[x,y]']` to `{'a.b': 1, 'c': ['x', 'y']}`; see `parse_value` for what follows the first `=`.

    Raises:
        ConfigError: if a pair has no `=`, a key has an empty part, or either holds a NUL or half a surrogate pair.
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition('=')
        if not equals:
            raise ConfigError(f"--cfg-options takes key=value, got '{pair}'.")
        if _NOT_TEXT.search(pair):
            raise ConfigError(f'--cfg-options {key!r}: {value!r} holds a sign that no text can hold (NUL, or bytes '
                              'that are no UTF-8).')
        if not all(part.strip() for part in key.split('.')) or key.count('.') > MAX_DEPTH:
            raise ConfigError(f"--cfg-options '{pair}': '{key}' is no key such as model.head.num_classes.")
        options[key] = parse_value(value)
    return options


def parse_value(text: str) -> Value:
    """The value that a text stands for.

    - a number, `True` and `False` (in any case), `None`;
    - `[a,b]` a list and `(a,b)` a tuple, in one another too; blanks around an item do not count;
    - `1,2` a list if every part is a number, True, False or None;
    - `'...'` or `"..."` the text inside, whatever it looks like;
    - anything else, such as `a, b (c).pth` or brackets that do not match: text, every sign as typed.
    """
    parts = text.split(',')
    if len(parts) > 1 and not text.startswith(tuple(_CLOSING)):
        values = [_scalar(part) for part in parts]
        if not any(isinstance(value, str) for value in values):
            return values
    return _item(text, 0)


def _item(text: str, depth: int) -> Value:
    if _QUOTED.fullmatch(text):
        return text[1:-1]
    if len(text) > 1 and _CLOSING.get(text[0]) == text[-1]:
        pieces = _pieces(text[1:-1])
        if pieces is not None:
            if depth == MAX_DEPTH:
                raise ConfigError(f'--cfg-options: {text[:40]} ... is nested more than {MAX_DEPTH} deep.')
            if not pieces[-1].strip():
                pieces.pop()  # [] and (1,)
            values = [_item(piece.strip(), depth + 1) for piece in pieces]
            return values if text[0] == '[' else tuple(values)
    return _scalar(text)


def _scalar(text: str) -> Value:
    plain = text.strip()
    if _WHOLE.fullmatch(plain):
        return int(plain)
    if _NUMBER.fullmatch(plain):
        return float(plain)
    return None if plain == 'None' else _NAMED.get(plain.lower(), text)


def _pieces(text: str) -> list[str] | None:
    """What stands between the commas outside brackets and quotes; None if the brackets do not match."""
    pieces, start, at, open_brackets, begins = [], 0, 0, [], True
    while at < len(text):
        quoted = _QUOTED_ITEM.match(text, at) if begins else None
        if quoted:
            at, begins = quoted.end(), False
            continue
        sign = text[at]
        if sign in _CLOSING:
            open_brackets.append(_CLOSING[sign])
        elif sign in _CLOSING.values() and (not open_brackets or open_brackets.pop() != sign):
            return None
        elif sign == ',' and not open_brackets:
            pieces.append(text[start:at])
            start = at + 1
        begins = sign == ',' or sign in _CLOSING
        at += 1
    return None if open_brackets else [*pieces, text[start:]]
