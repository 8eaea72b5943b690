"""Which arguments a class or function accepts, to find misspelt keys in configs before anything runs."""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

from clear.core.errors import ConfigError, suggestion

# Annotations of arguments whose values are looked at, what they take, and how a message calls that. Numbers are left to
# whoever reads them, who knows their range too.
_KINDS = {str: ((str, os.PathLike), 'text'), os.PathLike: (os.PathLike, 'a path'), bool: (bool, 'True or False'),
          Mapping: (Mapping, 'dict(type=...)'), Sequence: (Iterable, 'a list'),
          types.NoneType: (types.NoneType, 'None')}


def accepted_arguments(obj: Callable[..., object]) -> set[str] | None:
    """Names that can be passed by keyword: for a class, the union over its bases while they take `**kwargs`.

    Returns:
        The names, or None where any name may be accepted (`**kwargs` that no base closes).
    """
    if not inspect.isclass(obj):
        names, is_open = _keywords(obj)
        return None if is_open else names
    accepted: set[str] = set()
    is_closed = False
    for cls in obj.__mro__:
        if '__init__' not in vars(cls) or cls is object:
            continue
        if getattr(cls, '_is_protocol', False):
            # Its `__init__(*args, **kwargs)` is typing's and takes nothing: what reaches it, nobody wants.
            is_closed = True
            continue
        names, is_open = _keywords(vars(cls)['__init__'])
        accepted |= names
        if not is_open:
            return accepted - {'self'}
    return None if accepted and not is_closed else accepted - {'self'}


def _keywords(function: Callable[..., object]) -> tuple[set[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return ({parameter.name for parameter in parameters if parameter.kind in kinds},
            any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters))


def required_arguments(obj: Callable[..., object]) -> set[str]:
    """Names without a default in the constructor (or function) itself."""
    try:
        parameters = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError):
        return set()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {parameter.name for parameter in parameters
            if parameter.kind in kinds and parameter.default is inspect.Parameter.empty}


def joined_signature(*parts: Callable[..., object]) -> inspect.Signature:
    """The arguments of all by keyword, for a function that passes them on to these; `**kwargs` only as the first has.

    So misspelt keys are found before anything is built.
    """
    parameters = [list(inspect.signature(part).parameters.values()) for part in parts]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = {each.name: each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
             for part in parameters for each in part if each.kind in kinds}
    rest = [each for each in parameters[0] if each.kind is inspect.Parameter.VAR_KEYWORD]
    return inspect.Signature([*found.values(), *rest])


def check_keys(where: str, given: Iterable[str], accepted: set[str] | None, owner: str) -> None:
    """Refuse keys that `owner` does not accept.

    Raises:
        ConfigError: naming the first unknown key, the nearest known ones, and all known ones if there are few.
    """
    if accepted is None:
        return
    for key in given:
        if key not in accepted:
            raise ConfigError(unknown_key(where, key, accepted, owner))


def unknown_key(where: str, key: str, accepted: Iterable[str], owner: str) -> str:
    """The message about a key that `owner` does not accept; `where` may be empty."""
    known = ', '.join(sorted(accepted)) or 'none'
    place = f'{where}: ' if where else ''
    return f"{place}{owner} has no key '{key}'.{suggestion(key, accepted)} Known: {known}."


def check_kinds(where: str, given: Mapping[str, object], function: Callable[..., object]) -> None:
    """Refuse values of another type than their argument's annotation names, where that is text, a path, a flag, a
    mapping or a list (or several of these). Text is no list of its letters, nor is a mapping one of its keys.

    Raises:
        ConfigError: naming the key, its value and what is expected.
    """
    try:
        hints = typing.get_type_hints(function)
    except (TypeError, NameError):  # a name that only type checkers import
        return
    for key in given.keys() & hints.keys():
        hint = hints[key]
        kinds = [_kind(each) for each in typing.get_args(hint)] if _is_union(hint) else [_kind(hint)]
        if all(kind in _KINDS for kind in kinds) and not any(_is_of(given[key], kind) for kind in kinds):
            expected = dict.fromkeys(_KINDS[kind][1] for kind in kinds if kind is not types.NoneType)
            raise ConfigError(f'{where}.{key} is {given[key]!r}; expected {" or ".join(expected)}.')


def _is_union(hint: object) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _is_of(value: object, kind: object) -> bool:
    is_no_list = kind is Sequence and isinstance(value, (str, bytes, Mapping))
    return isinstance(value, _KINDS[kind][0]) and not is_no_list


def _kind(hint: object) -> object:
    kind = typing.get_origin(hint) or hint
    return os.PathLike if isinstance(kind, type) and issubclass(kind, os.PathLike) else kind
