"""Configs of a representation over time: keys and checks, the checkpoints, the stream that is tested."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clear.core.checks import check_shared_keys, check_text
from clear.core.config import find_config, load_config, to_plain
from clear.core.configs.options import parse_options
from clear.core.configs.signatures import check_keys
from clear.core.errors import CheckpointError, ConfigError, nearest
from clear.core.files import read_json
from clear.core.logs import logger
from clear.engine.probing.keys import task_arguments
from clear.engine.streams.pretraining import STREAM_FILE
from clear.evaluation.over_time import PROBES, PROTOCOLS, build_probe, wanted_cells

DEFAULTS: dict[str, Any] = dict(
    encoder=None, data=None, checkpoints=None, buckets=None, tasks=[dict(type='KNN')], protocols=list(PROTOCOLS),
    banks={}, seed=0, device=None, threads=None, num_workers=0, name=None, work_dir=None)
KNOWN = {*DEFAULTS, 'default_scope'}
BANK_KEYS = {'root', 'dtype', 'batch_size', 'max_bad_fraction'}
CHECKPOINT_KEYS = {'path', 'through', 'name'}
# The folder of one bucket in a run of pretraining that moves through the buckets.
BUCKET_FOLDER = re.compile(r'bucket_(.+)')
_EPOCH = re.compile(r'epoch_(\d+)\.pth')
_NAME = re.compile(r'[\w.+@ -]+')


@dataclass(frozen=True)
class Checkpoint:
    """A row of the matrix.

    Args:
        path: file of the weights; None = the encoder as its config makes it (random without weights).
        through: name of the last bucket that it was trained on, None = none of the stream's.
    """

    name: str
    path: Path | None
    through: str | None = None


def read_config(path: str | Path, pairs: Sequence[str]) -> dict[str, Any]:
    """The config of a file with the options of a command line, plain, with a name; what nobody reads is left out.

    Raises:
        ConfigError: for a missing file, a broken one, or an option on a key that nobody reads.
    """
    options = parse_options(pairs)
    check_keys('--cfg-options', {option.split('.')[0] for option in options}, KNOWN, 'this config')
    loaded, assigned = load_config(path, options)
    for name in sorted(assigned - KNOWN):
        if near := nearest(name, KNOWN, 1):
            logger.warning("The config assigns '%s', which nobody reads (read: %s).", name, near)
    cfg = {key: value for key, value in loaded.to_dict().items() if key in KNOWN}
    cfg['name'] = cfg.get('name') or find_config(path).stem
    return cfg


def with_defaults(cfg: dict) -> dict[str, Any]:
    """A plain copy of the config with every key filled in, checked as far as that needs no data.

    Raises:
        ConfigError: for an unknown key, no encoder, no stream, no task, or a task that cannot be built.
    """
    plain = to_plain(dict(cfg))
    check_keys('config', plain, KNOWN, 'this program')
    full = {**DEFAULTS, **plain}
    check_shared_keys(full)
    for key, example in (('encoder', "dict(type='TorchvisionEncoder', arch='resnet50')"),
                         ('data', "dict(type='CLEAR', data_root='data/clear10')")):
        if not isinstance(full[key], dict) or 'type' not in full[key]:
            raise ConfigError(f'{key} is {full[key]!r}; expected a dict such as {example}.')
    if not isinstance(full['tasks'], list) or not full['tasks']:
        raise ConfigError(f"tasks is {full['tasks']!r}; expected a list such as [dict(type='KNN', k=20)].")
    names = [task_name(task) for task in full['tasks']]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Two tasks are called '{twice}'; give one of them name='...'.")
    for task in full['tasks']:
        build_probe(task_options(task, full['seed']))
    wanted_cells(full['protocols'], None, 1)
    check_keys('banks', full['banks'], BANK_KEYS, 'banks')
    return full


def task_name(task: Any) -> str:
    if not isinstance(task, dict) or 'type' not in task:
        raise ConfigError(f"tasks holds {task!r}; expected dict(type='KNN', ...).")
    return str(task.get('name') or task['type'])


def task_options(task: dict, seed: int) -> dict[str, Any]:
    """Type and arguments of a task, without its name; the run's seed where it draws and has none of its own."""
    options = {key: value for key, value in task.items() if key != 'name'}
    if options['type'] in PROBES and 'seed' in task_arguments(options['type']):
        options.setdefault('seed', seed)
    return options


def find_checkpoints(value: Any) -> list[Checkpoint]:
    """The checkpoints of a config.

    Args:
        value: a list of files or `dict(path=..., through='3', name=...)`, in the order of the rows; or the work_dir of
            a run that moved through buckets: the newest checkpoint of every `bucket_<name>` in it.

    Raises:
        ConfigError: for anything else, or two of one name.
        CheckpointError: naming every file that does not exist.
    """
    if isinstance(value, str):
        found = _of_run(Path(value))
    elif isinstance(value, list) and value:
        found = [_checkpoint(item) for item in value]
    else:
        raise ConfigError(f"checkpoints is {value!r}; expected a list of dict(path='....pth', through='1'), or the "
                          'work_dir of a run over buckets.')
    names = [checkpoint.name for checkpoint in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Two checkpoints are called '{twice}'; give them name='...'.")
    missing = [str(each.path) for each in found if each.path is not None and not each.path.is_file()]
    if missing:
        raise CheckpointError(f"{len(missing)} of {len(found)} checkpoints do not exist: {', '.join(missing)}.")
    return found


def _checkpoint(item: Any) -> Checkpoint:
    if isinstance(item, str):
        item = dict(path=item)
    if not isinstance(item, dict) or 'path' not in item:
        raise ConfigError(f"checkpoints holds {item!r}; expected a file or dict(path='....pth', through='1').")
    check_keys('checkpoints', item, CHECKPOINT_KEYS, 'a checkpoint')
    path = None if item['path'] is None else Path(check_text('checkpoints: path', item['path']))
    through = None if item.get('through') is None else str(item['through'])
    name = item.get('name') or (f'bucket {through}' if through is not None else 'random' if path is None
                                else f'{path.parent.name} {path.stem}'.strip())
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f'checkpoints: {name!r} is no name; use letters, digits, blanks and _ . + @ -.')
    return Checkpoint(name, path, through)


def _of_run(work_dir: Path) -> list[Checkpoint]:
    folders = {match[1]: folder for folder in sorted(work_dir.glob('bucket_*'))
               if folder.is_dir() and (match := BUCKET_FOLDER.fullmatch(folder.name))}
    if not folders:
        raise CheckpointError(f'{work_dir} holds no folder bucket_<name>: it is no run of pretraining over buckets.')
    if (work_dir / STREAM_FILE).is_file():
        # The bucket at which the run was stopped has a latest.pth too.
        finished = {each['bucket'] for each in read_json(work_dir / STREAM_FILE)['buckets']}
        folders = {name: folder for name, folder in folders.items() if name in finished}
    names = sorted(folders, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))
    return [Checkpoint(f'bucket {name}', newest(folders[name]), name) for name in names]


def newest(folder: Path) -> Path:
    """The `latest.pth` of a run's folder, else its `epoch_<n>.pth` of the largest n; the first may not exist."""
    epochs = [(int(match[1]), path) for path in folder.glob('epoch_*.pth') if (match := _EPOCH.fullmatch(path.name))]
    latest = folder / 'latest.pth'
    return max(epochs)[1] if epochs and not latest.is_file() else latest
