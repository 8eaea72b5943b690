"""Checks of single values: each gives the value back, or says what it is and what was expected."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from clear.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from mmengine.config import Config

Choice = TypeVar('Choice')

# What torch and NumPy take as a seed, and more processes or threads than a machine has.
_MOST_SEED, _MOST_PROCESSES = 2**63 - 1, 4096
# mmpretrain's and mmengine's names resolve in our scope as well.
_SCOPES = ('clear', 'mmpretrain', 'mmengine')


def check_whole(where: str, value: object, least: int | None = None, most: int | None = None) -> int:
    """A whole number in `least ... most`; True and False are none, nor is 600.0.

    Args:
        where: what to call the value in a message: the key, as in `cl_strategy.mem_size`.

    Raises:
        ConfigError: if `value` is anything else.
    """
    if not _is_whole(value) or least is not None and value < least or most is not None and value > most:
        raise ConfigError(f'{where} is {value!r}; expected a whole number{_range(least, most)}.')
    return value


def check_number(where: str, value: object, least: float | None = None, most: float | None = None, *,
                 above: float | None = None, below: float | None = None) -> float:
    """A finite number in `least ... most`, above `above` and below `below`.

    Raises:
        ConfigError: if `value` is text, a bool, NaN, infinite or out of the range.
    """
    if (not _is_number(value) or least is not None and value < least or most is not None and value > most
            or above is not None and value <= above or below is not None and value >= below):
        raise ConfigError(f'{where} is {value!r}; expected a number{_range(least, most, above, below)}.')
    return value


def check_flag(where: str, value: object) -> bool:
    """True or False; 0, 1 and 'False' are neither.

    Raises:
        ConfigError: if `value` is anything else.
    """
    if not isinstance(value, bool):
        raise ConfigError(f'{where} is {value!r}; expected True or False.')
    return value


def check_figure_path(path: Path | None) -> None:
    """The `--out` of a program that writes a figure ends with .png, which is what is written.

    Raises:
        ConfigError: if it has another suffix, or none.
    """
    if path is not None and path.suffix != '.png':
        raise ConfigError(f"--out is {path}; expected a file that ends with '.png'.")


def check_text(where: str, value: object) -> str:
    """Text that is not empty and can be a name or a path.

    Raises:
        ConfigError: if `value` is no text, is empty, or holds a NUL or half a surrogate pair.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f'{where} is {value!r}; expected text.')
    if '\0' in value or any('\ud800' <= sign <= '\udfff' for sign in value):
        raise ConfigError(f'{where} is {value!r}; it holds a sign that no file name can hold.')
    return value


def check_choice(where: str, value: object, choices: Iterable[Choice]) -> Choice:
    """One of `choices`.

    Raises:
        ConfigError: if `value` is none of them; True is not taken for 1.
    """
    choices = list(choices)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
    *others, last = map(repr, choices)
    raise ConfigError(f'{where} is {value!r}; expected {", ".join(others)}{" or " if others else ""}{last}.')


def check_shared_keys(cfg: Config | dict) -> None:
    """The keys that all configs share: seed, threads, num_workers, name, work_dir, device, default_scope.

    Raises:
        ConfigError: naming the key.
    """
    check_whole('seed', cfg.get('seed', 0), 0, _MOST_SEED)
    check_whole('num_workers', cfg.get('num_workers', 0), 0, _MOST_PROCESSES)
    if cfg.get('threads') is not None:
        check_whole('threads', cfg['threads'], 1, _MOST_PROCESSES)
    for key in ('name', 'work_dir', 'device'):
        if cfg.get(key) is not None:
            check_text(key, cfg[key])
    scope = cfg.get('default_scope')
    if scope is not None and scope not in _SCOPES:
        raise ConfigError(f"default_scope is {scope!r}; expected {', '.join(map(repr, _SCOPES))}, which all find the "
                          "same names. A class of another library is named in full: type='library.Name'.")


# Of torch's, mmengine's and our schedulers: what counts steps, and what is a share or a rate.
_COUNTS = ('step_size', 'T_max', 'T_0', 'T_mult', 'total_iters', 'total_steps', 'epochs', 'steps_per_epoch')
_AT_LEAST_0 = ('gamma', 'eta_min', 'eta_min_ratio', 'power', 'start_factor', 'end_factor', 'factor', 'min_lr',
               'threshold')


def check_scheduler(where: str, cfg: dict) -> None:
    """The arguments that schedulers share; most of torch's take a `step_size` of -1 without a word.

    Raises:
        ConfigError: naming the key.
    """
    for key in _COUNTS:
        if cfg.get(key) is not None:
            check_whole(f'{where}.{key}', cfg[key], 1)
    for key in _AT_LEAST_0:
        if cfg.get(key) is not None and not isinstance(cfg[key], (list, tuple)):
            check_number(f'{where}.{key}', cfg[key], 0)
    for key in ('by_epoch', 'convert_to_iter_based'):
        if key in cfg:
            check_flag(f'{where}.{key}', cfg[key])
    milestones = cfg.get('milestones', [])
    if not isinstance(milestones, (list, tuple)):
        raise ConfigError(f'{where}.milestones is {milestones!r}; expected a list of whole numbers.')
    for item in milestones:
        check_whole(f'{where}.milestones', item, 0)


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _range(least: float | None = None, most: float | None = None, above: float | None = None,
           below: float | None = None) -> str:
    parts = [f'{words} {bound}' for words, bound in (('of at least', least), ('above', above), ('at most', most),
                                                     ('below', below)) if bound is not None]
    return f' {", ".join(parts)}' if parts else ''
