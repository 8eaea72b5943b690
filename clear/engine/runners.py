"""Which runner a config belongs to. Runners are found in `RUNNERS`; only the last resort is known by name here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from clear.core.errors import ConfigError, suggestion
from clear.registry import RUNNERS

if TYPE_CHECKING:
    from mmengine.config import Config

# Of a config that names no runner and has no runner's mark.
LAST_RESORT = 'Runner'


def runners() -> dict[str, type]:
    """Name -> class of every registered runner that can be launched, most often a `clear.engine.base.RunnerProgram`."""
    RUNNERS.import_from_location()
    return {name: runner for name, runner in RUNNERS.module_dict.items() if not _lacks(runner)}


def _lacks(runner: Callable[..., object]) -> str:
    """What keeps a registered class from being launched; empty if nothing does."""
    for name, kind in (('KEYS', 'the set of top-level keys that it reads'),
                       ('FILES', 'the names and patterns of the files that it writes, which --overwrite removes')):
        value = getattr(runner, name, None)
        if not isinstance(value, (set, frozenset, tuple, list)) or not value or \
                not all(isinstance(item, str) for item in value):
            return f'{name}, {kind}'
    return next((f'{name}(), see clear.engine.base.RunnerProgram' for name in ('check', 'run')
                 if not callable(getattr(runner, name, None))), '')


def runner_type(cfg: Config | dict) -> str:
    """The name of the runner that a config asks for.

    That is `runner_type`, or a runner derived from it whose mark the config has; without it the one whose mark the
    config has, else `Runner`. A mark that a class inherits is its base's.

    Raises:
        ConfigError: if there is none of that name, it lacks what a runner must have, or the config has two marks.
    """
    known = runners()
    marks = {name: vars(runner).get('MARK') for name, runner in sorted(known.items())}
    marked = [name for name, mark in marks.items() if mark is not None and mark in cfg]
    name = cfg.get('runner_type')
    if not name and len(marked) > 1:
        raise ConfigError('The config has ' + ' and '.join(f"'{marks[each]}' of a {each}" for each in marked)
                          + '. Leave one out, or say which with runner_type.')
    if not name:
        return marked[0] if marked else LAST_RESORT
    found = RUNNERS.get_own(name) if isinstance(name, str) else None
    if found is None:
        raise ConfigError(f"runner_type '{name}' is unknown. Known: {', '.join(sorted(known))}."
                          f'{suggestion(name, known)}')
    if lacking := _lacks(found):
        place = inspect.getsourcefile(found) if inspect.isclass(found) else found
        raise ConfigError(f"runner_type '{name}' ({place}) lacks {lacking}.")
    return next((each for each in marked if issubclass(known[each], found)), name)
