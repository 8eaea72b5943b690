"""The top-level keys of a config: defaults, names that nobody reads, what decides the result, and differences.

Deeper keys are checked by the constructors that take them.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Collection, Iterable, Set
from typing import TYPE_CHECKING, Any

from clear.core.checks import check_number, check_text
from clear.core.config import EXECUTION_KEYS, to_plain
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options, Plain

# A name of a config file that nobody reads and that is this like a known one is a misspelling, not a helper.
MISSPELT = 0.85
LOAD_FROM_KEYS = {'path', 'source', 'prefix_map', 'min_matched', 'sha256'}


def filled_in(cfg: Config | dict, defaults: Options) -> dict[str, Any]:
    """A deep, plain copy of a config with the defaults of the keys that it leaves out."""
    given = cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg)
    return {**copy.deepcopy(defaults), **copy.deepcopy(given)}


def check_options(options: Iterable[str], assigned: set[str], known: Set[str]) -> None:
    """Refuse `--cfg-options` on a key that nobody reads.

    Args:
        options: keys as given, `a.b.c`.
        assigned: top-level names that the config file assigns.
        known: top-level names that the runner reads.

    Raises:
        ConfigError: with the nearest key; for a helper variable of the file, which was already used when the file
            was read, saying so.
    """
    for option in options:
        key = option.split('.')[0]
        if key in known:
            continue
        if key in assigned:
            raise ConfigError(f"--cfg-options {option}: '{key}' is a helper variable of the config file. Its value was "
                              'used when the file was read, so setting it now would change nothing; set the key that '
                              'it fills instead (tools/print_config.py shows them), e.g. cl_strategy.train_mb_size.')
        raise ConfigError(f"--cfg-options {option}: nobody reads '{key}'.{suggestion(key, known)}")


def check_names(assigned: Iterable[str], known: Set[str]) -> None:
    """Refuse a top-level name of a config file that nobody reads and that is this like one that is read.

    Others are helpers of the file, such as `batch_size`.

    Raises:
        ConfigError: with the nearest key.
    """
    for name in sorted(set(assigned) - known):
        if close := difflib.get_close_matches(name, known, 1, MISSPELT):
            raise ConfigError(f"The config assigns '{name}', which nobody reads. Did you mean '{close[0]}'?")


def check_load_from(value: object) -> None:
    """`load_from` of any run: None, a path or http(s) address, or a dict with one as `path`.

    Raises:
        ConfigError: naming the key.
    """
    from clear.models.weights import check_address  # with torch

    if isinstance(value, dict):
        check_keys('load_from', value, LOAD_FROM_KEYS, 'load_from')
        path = check_text('load_from.path', value.get('path'))
        check_address('load_from', path, value.get('sha256'))
        if value.get('min_matched') is not None:
            check_number('load_from.min_matched', value['min_matched'], 0, 1)
    elif value is not None:
        check_address('load_from', check_text('load_from', value))


def computed_config(cfg: dict, execution: Collection[str] = EXECUTION_KEYS, known: Set[str] | None = None
                    ) -> dict[str, Plain]:
    """The part of a config that decides the result, plain; checkpoints hold it, and a resumed run must have the same.

    Args:
        execution: keys that say where and how a run is executed; of them the seed alone is kept.
        known: keys that the runner reads, None = all. What nobody reads decides nothing.
    """
    return {key: value for key, value in to_plain(cfg).items()
            if key == 'seed' or key not in execution and (known is None or key in known)}


def differences(old: object, new: object, path: str = '') -> list[str]:
    """Where two nested configs differ, as `a.b: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [item for key in sorted({*old, *new}) for item in
                differences(old.get(key), new.get(key), f'{path}.{key}' if path else key)]
    return [] if old == new else [f'{path}: {old!r} -> {new!r}']
