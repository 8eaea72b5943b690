"""Configs of a representation over time: keys and checks, the checkpoints, the stream that is tested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.core.checks import check_shared_keys, check_text
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import read_json
from clear.engine.probing.keys import check_encodes_text
from clear.engine.probing.tasks import build_task, task_arguments, task_name, task_options
from clear.engine.schema import filled_in
from clear.engine.streams.finished import STREAM_FILE
from clear.evaluation.over_time import DEFAULT_TASKS, PROTOCOLS, check_needs, wanted_cells
from clear.evaluation.task import needs_of
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options

DEFAULTS: Options = dict(
    encoder=None, data=None, checkpoints=None, buckets=None, tasks=DEFAULT_TASKS, protocols=list(PROTOCOLS),
    banks={}, seed=0, device=None, threads=None, num_workers=0, name=None, work_dir=None)
KNOWN = {*DEFAULTS, 'runner_type', 'default_scope'}
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


def with_defaults(cfg: dict) -> dict[str, Any]:
    """A deep, plain copy of what is read of a config, with the defaults of the keys that it leaves out."""
    return {key: value for key, value in filled_in(cfg, DEFAULTS).items() if key in DEFAULTS or key == 'default_scope'}


def check_over_time_config(cfg: dict) -> None:
    """Refuse what can be seen without data: no encoder, no stream, no task, or a task that cannot be built or measured.

    Raises:
        ConfigError, RegistryError: naming the key, with the nearest names.
    """
    check_shared_keys(cfg)
    for key, example in (('encoder', "dict(type='TorchvisionEncoder', arch='resnet50')"),
                         ('data', "dict(type='CLEAR', data_root='data/clear10')")):
        if not isinstance(cfg[key], dict) or 'type' not in cfg[key]:
            raise ConfigError(f'{key} is {cfg[key]!r}; expected a dict such as {example}.')
    encoder = accepted_arguments(MODELS.require(cfg['encoder']['type']))
    check_keys('encoder', set(cfg['encoder']) - {'type'}, encoder, cfg['encoder']['type'])
    if not isinstance(cfg['tasks'], list) or not cfg['tasks']:
        raise ConfigError(f"tasks is {cfg['tasks']!r}; expected a list such as [dict(type='KNN', k=20)].")
    names = [_check_task(f'tasks[{index}]', task, cfg) for index, task in enumerate(cfg['tasks'])]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"Two tasks are called '{twice}'; give one of them name='...'.")
    wanted_cells(cfg['protocols'], None, 1)
    check_keys('banks', cfg['banks'], BANK_KEYS, 'banks')


def _check_task(where: str, task: object, cfg: dict) -> str:
    """The name of a task that can be built and measured on this encoder."""
    if not isinstance(task, dict) or 'type' not in task:
        raise ConfigError(f"{where} is {task!r}; expected dict(type='KNN', ...).")
    check_keys(where, task, {*task_arguments(task['type']), 'type', 'name'}, task['type'])
    built = build_task(task_options(task, cfg['seed']))
    check_needs(where, built)
    if 'text_encoder' in needs_of(built):
        check_encodes_text(where, task, 'encoder', cfg['encoder'])
    return str(task_name(task))


def find_checkpoints(value: object) -> list[Checkpoint]:
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


def _checkpoint(item: object) -> Checkpoint:
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
