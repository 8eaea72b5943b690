"""Which arguments a class or function accepts, to find misspelt keys in configs before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from clear.core.errors import ConfigError, nearest


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
            close = nearest(key, accepted)
            hint = f' Did you mean {close}?' if close else ''
            raise ConfigError(f"{where}: {owner} has no key '{key}'.{hint} Known: {', '.join(sorted(accepted))}.")
