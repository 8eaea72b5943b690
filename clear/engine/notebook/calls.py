"""What every call in Python does around the programs' own work: configs, messages, signals, and leaving no trace."""

from __future__ import annotations

import argparse
import ast
import copy
import re
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config

from clear.core.config import find_config
from clear.core.errors import ConfigError
from clear.core.logs import setup_logging
from clear.core.programs import signals
from clear.core.programs.guest import as_guest
from clear.core.programs.program import told_as

if TYPE_CHECKING:
    from clear.core.types import Options

# What a message for the command line says -> what is written in Python.
_WORDS = [(r', --overwrite\)', ')'), (r'--cfg-options ', ''), (r'--no-resume\b', 'resume=False'),
          (r'--resume\b', 'resume=True'), (r'--overwrite\b', 'overwrite=True'), (r'--work-dir\b', 'work_dir=...'),
          (r'--branch\b', 'branch=...'), (r'--device (\w+)', r"device='\1'"), (r'--seed N\b', 'seed=N'),
          (r'--encoder is\b', 'encoder is'), (r'--(encoder|data) is not given', r'\1 is not given')]
# In place of a config: calls may give all of it as options.
NO_CONFIG: Mapping[str, object] = {}


@contextmanager
def called(wait_s: float = 0.0) -> Iterator[None]:
    """Around a call: signals end it in order, errors are told in the words of Python, all else is left as it was.

    Args:
        wait_s: how long to wait for a call of another thread, see `as_guest`.
    """
    number = None
    try:
        with as_guest(wait_s), signals.stoppable(is_guest=True):
            setup_logging(None)
            # tqdm's, where a library imports its automatic bar; ours needs no widgets.
            warnings.filterwarnings('ignore', 'IProgress not found')
            try:
                yield
            except BaseException as error:
                told = told_as(error)
                if told is None:
                    raise
                told.args = (_in_python(str(told)), *told.args[1:])
                raise told from (error.__cause__ if told is error else error)
            finally:
                number = signals.received()
    finally:
        if number == signal.SIGTERM:
            signal.raise_signal(number)  # all is saved: whoever sent it meant the whole process


def _in_python(message: str) -> str:
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def arguments(config: str | Path | Mapping, options: Options, **others: object) -> argparse.Namespace:
    """What the command line would give, with options as values."""
    options = {key: _without_paths(value) for key, value in options.items()}
    for key, value in options.items():
        _as_text(key, value)
    given = {**dict.fromkeys(('branch', 'amp', 'shard', 'collect')), 'dry_run': False, 'launcher': 'none',
             **{key: options.pop(key, None) for key in ('seed', 'device')},
             **{key: str(value) if isinstance(value, Path) else value for key, value in others.items()}}
    return argparse.Namespace(config=config, cfg_options=options, **given)


@contextmanager
def as_file(args: argparse.Namespace) -> Iterator[None]:
    """Configs are read from files, with bases and modules of their own: one that is an object becomes a file here."""
    config = args.config
    if isinstance(config, (str, Path)):
        yield
        return
    if not isinstance(config, Mapping):
        raise ConfigError(f'config is a {type(config).__name__}; expected a path, the name of a shipped config, a dict '
                          "or mmengine's Config.")
    if config is NO_CONFIG:
        config, args.cfg_options = dict(runner_type='ProbeRunner', **args.cfg_options), {}
    plain = config.to_dict() if isinstance(config, Config) else copy.deepcopy(dict(config))
    if (bases := plain.get('_base_')) is not None:
        bases = [bases] if isinstance(bases, (str, Path)) else bases
        if not isinstance(bases, (list, tuple)) or not all(isinstance(base, (str, Path)) for base in bases):
            raise ConfigError(f'_base_ is {bases!r}; expected the name of a config, or a list of them.')
        plain['_base_'] = [base if '::' in str(base) else str(find_config(base).resolve()) for base in bases]
    name = Path(config.filename).stem if isinstance(config, Config) and config.filename else plain.get('name')
    with tempfile.TemporaryDirectory() as scratch:
        args.config = Path(scratch) / f'{_file_name(name)}.py'
        args.config.write_text('\n'.join(f'{key} = {_as_text(key, value)}'
                                         for key, value in _without_paths(plain).items()) + '\n', 'utf-8')
        yield


def _without_paths(value: object) -> object:
    """A value of a config with paths as text."""
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_without_paths, value))
    return str(value) if isinstance(value, Path) else value


def _as_text(key: str, value: object) -> str:
    """A value as Python writes it.

    Raises:
        ConfigError: for one that only lives in this process: a run keeps its config.
    """
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f'{key} is {text[:200]}; a config holds numbers, texts, lists and dicts, which can be '
                          "written down. Name a class by its type, dict(type='...').") from error
    return text


def _file_name(name: object) -> str:
    """A name as that of a file, which names the run where nothing else does."""
    return re.sub(r'[^\w.-]', '_', str(name)) if name else 'run'
