"""Reading configs: files with `_base_`, options from the command line, names of the earlier demo, hashes."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clear.core.errors import ConfigError, nearest

# Keys that say where and how a run is executed, not what it computes: left out of the hash.
EXECUTION_KEYS = ('work_dir', 'device', 'num_workers', 'threads', 'loggers', 'seed', 'name', 'timestamp', 'launcher',
                  'checkpoint_config', 'report')

# Old name -> name. An old name beside the new one wins: our own bases never use it, so the user wrote it.
SCENARIO_ALIASES = {'dataset_type': 'type', 'dataset_root': 'data_root'}


def configs_folder() -> Path:
    """The shipped configs: beside the package in a clone, inside it after `pip install`."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / 'configs', package / '_bundled' / 'configs'):
        if (folder / '_base_').is_dir():
            return folder
    raise ConfigError(f'The shipped configs are neither beside nor inside {package}; reinstall clear-framework.')


def find_config(path: str | Path) -> Path:
    """`path` itself, or the shipped config of that name (`configs/` may be left out).

    Raises:
        ConfigError: if there is neither, naming the nearest shipped configs.
    """
    path = Path(path)
    if path.is_file():
        return path
    shipped = configs_folder()
    relative = Path(*path.parts[1:]) if path.parts[:1] == ('configs',) else path
    if not path.is_absolute() and (shipped / relative).is_file():
        return shipped / relative
    names = [file.relative_to(shipped).as_posix() for file in shipped.rglob('*.py') if '_base_' not in file.parts]
    close = nearest(relative.as_posix(), names) or nearest(path.name, names)
    raise ConfigError(f'Config {path} does not exist.' + (f' Nearest shipped configs: {close}.' if close else ''))


def load_config(path: str | Path, options: dict[str, Any] | None = None) -> tuple[Any, set[str]]:
    """Read a config with its bases and apply command-line options.

    Args:
        path: a `.py`, `.json` or `.yaml` config.
        options: flat `{'a.b': value}` as `parse_options` returns them.

    Returns:
        The `mmengine.Config`, and the top-level names that the file (or a base) assigns.

    Raises:
        ConfigError: if the file is missing or cannot be read as a config.
    """
    from mmengine.config import Config

    path = find_config(path)
    try:
        cfg = Config.fromfile(str(path))
        list(cfg.items())  # makes what mmengine imports lazily, so that a failing import shows here
    # A config is a program: running it can raise anything.
    except Exception as error:
        raise ConfigError(f'{path} cannot be read as a config: {type(error).__name__}: {error}') from error
    assigned = set(cfg.keys())
    _rename_old_keys(cfg)  # before the options, so that they win under either name
    if options:
        try:
            cfg.merge_from_dict(options)
        except (KeyError, TypeError, IndexError, AssertionError) as error:
            raise ConfigError(f'--cfg-options {_as_text(options)}: {error}') from error
    _rename_old_keys(cfg)
    return cfg, assigned


def _as_text(options: dict[str, Any]) -> str:
    return ' '.join(f'{key}={value}' for key, value in options.items())


def _rename_old_keys(cfg) -> None:
    scenario = cfg.get('scenario')
    if isinstance(scenario, dict):
        for old, new in SCENARIO_ALIASES.items():
            if old in scenario:
                scenario[new] = scenario.pop(old)


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """`['a.b=1', 'c=[x,y]']` to `{'a.b': 1, 'c': ['x', 'y']}` by the rules of mmengine's `DictAction`.

    Raises:
        ConfigError: if a pair has no `=`.
    """
    from mmengine.config import DictAction

    pairs = list(pairs)
    for pair in pairs:
        if '=' not in pair:
            raise ConfigError(f"--cfg-options takes key=value, got '{pair}'.")
    namespace = argparse.Namespace()
    DictAction(['--cfg-options'], 'cfg_options')(None, namespace, pairs)
    return namespace.cfg_options


def to_plain(value: Any) -> Any:
    """A config value as dicts, lists and plain values that JSON can hold."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


def config_hash(cfg: dict) -> str:
    """First 16 hex digits of the SHA-256 of what a config computes, without `EXECUTION_KEYS` and the data root."""
    plain = {key: value for key, value in to_plain(dict(cfg)).items() if key not in EXECUTION_KEYS}
    if isinstance(plain.get('scenario'), dict):
        plain['scenario'] = {key: value for key, value in plain['scenario'].items() if key != 'data_root'}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
