"""Reading configs: files with `_base_`, options from the command line, names of the earlier demo, hashes."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, overload

from clear.core.checks import check_flag
from clear.core.compat import patch_libraries
from clear.core.configs.bases import MARK, configs_folder, package_bases, resolve_base, tree_of
from clear.core.configs.signatures import check_keys
from clear.core.errors import ClearError, ConfigError, nearest
from clear.core.programs import signals

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options, Plain

# Keys that say where and how a run is executed, not what it computes: left out of the hash.
EXECUTION_KEYS = ('work_dir', 'device', 'num_workers', 'threads', 'loggers', 'seed', 'name', 'timestamp', 'launcher',
                  'checkpoint_config', 'report', 'workers', 'engine', 'ray_address', 'ray_gpus', 'tensorboard', 'lane')

# Where data and banks lie; what they hold has a fingerprint.
_PLACES = (('scenario', 'data_root'), ('scenario', 'feature', 'root'), ('banks', 'root'))

# Old name -> name. An old name beside the new one wins: our own bases never use it, so the user wrote it.
SCENARIO_ALIASES = {'dataset_type': 'type', 'dataset_root': 'data_root'}


SUFFIXES = ('.py', '.yaml', '.yml', '.json')

# What mmengine says of a chain in which one file imports a package.
_MIXED_CHAIN = 'configuration file type in the inheritance chain'


def find_config(path: str | Path) -> Path:
    """`path` itself, the shipped config of that name (`configs/` may be left out), or what `package::path` names.

    Raises:
        ConfigError: if there is none, naming the nearest shipped configs; or if it is no file of a config.
    """
    if MARK in str(path) and not Path(path).exists():
        return resolve_base(str(path))
    path = Path(path)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path} is no config; one ends with {', '.join(SUFFIXES)}.")
        return path
    if path.is_dir():
        raise ConfigError(f'{path} is a folder; expected the file of a config.')
    shipped = configs_folder()
    relative = Path(*path.parts[1:]) if path.parts[:1] == ('configs',) else path
    if not path.is_absolute() and (shipped / relative).is_file():
        return shipped / relative
    names = [file.relative_to(shipped).as_posix() for file in shipped.rglob('*.py') if '_base_' not in file.parts]
    close = nearest(relative.as_posix(), names) or nearest(path.name, names)
    raise ConfigError(f'Config {path} does not exist.' + (f' Nearest shipped configs: {close}.' if close else ''))


def load_config(path: str | Path, options: Options | None = None) -> tuple[Config, set[str]]:
    """Read a config with its bases and apply command-line options.

    What its `custom_imports` names is found in the folder of the config and in the current one too, behind everything
    that is installed. Where a config has that key, both folders stay on `sys.path`: modules may import others later,
    and processes that load data import them anew.

    Args:
        path: a `.py`, `.json` or `.yaml` config.
        options: flat `{'a.b': value}` as `clear.core.configs.options.parse_options` returns them.

    Returns:
        The `mmengine.Config`, and the top-level names that the file (or a base) assigns.

    Raises:
        ConfigError: if the file is missing or cannot be read as a config.
    """
    from clear.core.configs.plain import plain_readers

    path = find_config(path)
    try:
        with signals.stoppable(), plain_readers(), package_bases(), _own_modules(path) as keep:
            cfg = _from_file(path)
            _import_modules(cfg.get('custom_imports'), path)
            if cfg.get('custom_imports'):
                keep()
            list(cfg.items())  # makes what mmengine imports lazily, so that a failing import shows here
    except signals.Stopped:
        raise
    # A `.py` config is a program: running it can raise anything, SystemExit and KeyboardInterrupt among it.
    except BaseException as error:
        raise ConfigError(f'{path} cannot be read as a config: {_reason(error)}') from error
    assigned = set(cfg.keys())
    _rename_old_keys(cfg)  # before the options, so that they win under either name
    apply_options(cfg, options or {})
    _rename_old_keys(cfg)
    return cfg, assigned


def base_tree(path: str | Path) -> list[str]:
    """The names of a config and of all its bases, indented below the file that names them; of one that can be read."""
    from clear.core.configs.plain import plain_readers

    path = find_config(path)
    with plain_readers(), package_bases() as found, _own_modules(path):
        _from_file(path)
    return tree_of(path, found)


@contextmanager
def _own_modules(path: Path) -> Iterator[Callable[[], None]]:
    """Find modules beside a config and in the current folder; what is yielded, when called, leaves it so."""
    added = [folder for folder in dict.fromkeys(map(str, _own_folders(path)))
             if folder not in sys.path]
    sys.path += added  # behind all others: a file beside a config must not stand in for a package
    try:
        yield added.clear
    finally:
        for folder in added:
            sys.path.remove(folder)


def _reason(error: BaseException) -> str:
    """Why a config could not be read; of an error that is not ours, the kind as well, which is the config's to mend."""
    if isinstance(error, ClearError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename:
        return f'{error.filename}, which it names, does not exist.'
    if isinstance(error, UnicodeDecodeError):
        return f'it or one of its bases is not text in UTF-8 (byte {error.object[error.start]:#04x}).'
    return f'{type(error).__name__}: {error}'


def _own_folders(path: Path) -> tuple[Path, Path]:
    return path.resolve().parent, Path.cwd()


def _import_modules(given: object, path: Path) -> None:
    """Import what `custom_imports` names.

    Raises:
        ConfigError: naming the module that is not there, or where it breaks.
    """
    if not given:
        return
    if not isinstance(given, Mapping):
        raise ConfigError(f"custom_imports is {given!r}; expected dict(imports=['module']).")
    check_keys('custom_imports', given, {'imports', 'allow_failed_imports'}, 'it')
    names = given.get('imports') or []
    for name in [names] if isinstance(names, str) else names:
        if not isinstance(name, str) or not name or name.startswith('.'):
            raise ConfigError(f'custom_imports.imports has {name!r}; expected the name of a module.')
        try:
            importlib.import_module(name)
        except Exception as error:
            if isinstance(error, ClearError):
                raise
            if isinstance(error, ImportError) and given.get('allow_failed_imports'):
                warnings.warn(f'{name} failed to import and is ignored: {error}', stacklevel=2)
            elif isinstance(error, ModuleNotFoundError) and error.name == name.partition('.')[0]:
                raise ConfigError(f"custom_imports: '{name}' is neither beside the config ({path.resolve().parent}), "
                                  f'nor in the current folder ({Path.cwd()}), nor installed.') from error
            else:
                raise ConfigError(f"custom_imports: '{name}' breaks: {type(error).__name__}: {error}"
                                  f'{_place_of(error, path)}') from error


def _place_of(error: BaseException, path: Path) -> str:
    """' (FILE, line N)' of the innermost line of the user's own modules that an error went through; else empty."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if any(Path(frame.filename).is_relative_to(folder) for folder in _own_folders(path))
              and not {'site-packages', 'dist-packages'} & set(Path(frame.filename).parts)]
    return f' ({frames[-1].filename}, line {frames[-1].lineno})' if frames else ''


def _from_file(path: Path) -> Config:
    """The config of a file. One that computes a value with an imported package may stand in a chain of `_base_` files.

    mmengine takes every file with such an import for its other kind, whose bases are imported, and refuses the chain.
    """
    from mmengine.config import Config

    try:
        cfg = Config.fromfile(str(path), import_custom_modules=False)
    except Exception as error:
        if _MIXED_CHAIN not in str(error):
            raise
    else:
        imported = getattr(cfg, '_imported_names', ())
        if not imported:
            return cfg
        patch_libraries()  # the classes are imported when they are looked at
        # They are values of `type`; by their own names they are no keys.
        return Config({key: value for key, value in cfg.items() if key not in imported}, filename=cfg.filename)
    try:
        cfg = Config.fromfile(str(path), lazy_import=False, import_custom_modules=False)
    except KeyError as error:
        if '__name__' not in str(error):  # of a relative import, as a file with `read_base` has
            raise
        raise ConfigError('of a config and its bases, some name theirs by `_base_` and others import theirs with '
                          '`read_base()`; write all of them in one of the two ways.') from error
    return Config({key: value for key, value in cfg.items() if not inspect.ismodule(value)}, filename=cfg.filename)


def apply_options(cfg: Config, options: Options) -> None:
    """Put `{'a.b': value}` into a `mmengine.Config`.

    Raises:
        ConfigError: naming the options, if they do not fit into it.
    """
    _refuse_text_for_lists(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, AttributeError, AssertionError) as error:
        raise ConfigError(f'--cfg-options {_as_text(options)}: {error}') from error


def _refuse_text_for_lists(cfg, options: Options) -> None:
    """`metrics=a,b` is text; where the config has a list, a list was meant."""
    plain = dict(cfg.items())
    for key, value in options.items():
        looks_like_many = isinstance(value, str) and (',' in value or value.startswith(('[', '(')))
        if looks_like_many and isinstance(_value_at(plain, key.split('.')), (list, tuple)):
            raise ConfigError(f"--cfg-options {key}={value}: the config has a list there, and '{value}' is text. "
                              f'A list is written {key}=[a,b].')


def _value_at(value: object, keys: list[str]) -> object:
    """What the config holds below `keys`; None if it has no such place."""
    for key in keys:
        if isinstance(value, (list, tuple)) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        elif isinstance(value, Mapping) and key in value:
            value = value[key]
        else:
            return None
    return value


def _as_text(options: Options) -> str:
    return ' '.join(f'{key}={value}' for key, value in options.items())


def _rename_old_keys(cfg) -> None:
    strategy = cfg.get('cl_strategy')
    if isinstance(strategy, dict) and strategy.get('type') == 'Prototype' and 'cumulate' in strategy:
        is_plus = check_flag('cl_strategy.cumulate', strategy.pop('cumulate'))
        strategy['type'] = 'PrototypePlus' if is_plus else 'Prototype'
    scenario = cfg.get('scenario')
    if isinstance(scenario, dict):
        for old, new in SCENARIO_ALIASES.items():
            if old in scenario:
                scenario[new] = scenario.pop(old)


@overload
def to_plain(value: dict) -> dict[str, Plain]: ...


@overload
def to_plain(value: object) -> Plain: ...


def to_plain(value: object) -> Plain:
    """A config value as dicts, lists and plain values that JSON can hold."""
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return repr(value)


def config_hash(cfg: Config | dict) -> str:
    """First 16 hex digits of the SHA-256 of what a config computes: without `EXECUTION_KEYS` and places on the disk."""
    plain = {key: value for key, value in to_plain(dict(cfg)).items() if key not in EXECUTION_KEYS}
    for path in _PLACES:
        plain = _without(plain, path)
    return _digest(plain)


def is_hash_of(saved: str, cfg: Config | dict) -> bool:
    """Whether `saved` is the hash of a config, by the rule of now or by that of earlier versions.

    They counted where banks are kept.
    """
    plain = {key: value for key, value in to_plain(dict(cfg)).items() if key not in EXECUTION_KEYS}
    return saved in (config_hash(cfg), _digest(_without(plain, ('scenario', 'data_root'))))


def _without(value: dict[str, Plain], path: tuple[str, ...]) -> dict[str, Plain]:
    key, *rest = path
    if not rest:
        return {name: item for name, item in value.items() if name != key}
    return {**value, key: _without(value[key], tuple(rest))} if isinstance(value.get(key), dict) else value


def _digest(plain: Mapping[str, Plain]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
