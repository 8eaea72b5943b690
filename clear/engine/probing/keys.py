"""The keys of a probing config: defaults, and every check that needs no data."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from clear.core.checks import check_choice, check_flag, check_number, check_shared_keys, check_text, check_whole
from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.core.programs.startup import choose_device
from clear.engine.probing.encoder_suites import expanded_encoders
from clear.engine.probing.suites import expanded
from clear.engine.probing.tasks import (
    FEATURES,
    build_task,
    engine_keys,
    job_seeds,
    reads_grid,
    task_arguments,
    task_data,
    task_name,
    task_options,
)
from clear.engine.schema import filled_in
from clear.engine.stages.keys import check_workers
from clear.evaluation.task import EncodesText, needs_of, reads_text_alone
from clear.features.build import PAIR_KEYS, RUN_KEY, typed
from clear.registry import MODELS, TASKS

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Options

DEFAULTS: Options = dict(seed=0, threads=None, device=None, num_workers=0, work_dir=None, name=None, data=None,
                                grid={}, banks={}, workers=0, engine='processes', ray_address=None, ray_gpus=0,
                                tensorboard=False)
REQUIRED = ('encoders', 'tasks')
KNOWN = {*DEFAULTS, *REQUIRED, 'runner_type', 'default_scope'}
ENGINES = ('processes', 'ray')
INFO_KEYS = {'method', 'pretrain_dataset', 'epochs'}
BANK_KEYS = {'root', 'dtype', 'batch_size', 'max_bad_fraction'}
SPLITS = ('train', 'val', 'test')
# The panel of a task, see `clear.visualization.suites`.
CLASSES_OF_TASKS = dict(level=('image', 'pixel'), kind=('semantic', 'structural'))
# Names become file names and parts of metric names.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.+-]*')


def with_defaults(cfg: Config | dict) -> dict[str, Any]:
    """A deep, plain copy of a config with the defaults of the keys that it leaves out, and what its suites hold."""
    filled = filled_in(cfg, DEFAULTS)
    if isinstance(filled.get('encoders'), dict):
        filled['encoders'] = expanded_encoders(filled['encoders'])
    if isinstance(filled.get('tasks'), (list, tuple)):
        filled['tasks'] = expanded(filled['tasks'])
    return filled


def check_probe_config(cfg: dict) -> None:
    """Refuse missing parts, unknown types and misspelt keys, values that a task refuses, and names used twice.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    if not isinstance(cfg.get('encoders'), dict) or not cfg['encoders']:
        raise ConfigError("A probing config needs 'encoders', a dict of name -> dict(type=...) or dict(bank=...); got "
                          f"{cfg.get('encoders')!r}.")
    if not isinstance(cfg.get('tasks'), (list, tuple)) or not cfg['tasks']:
        raise ConfigError("A probing config needs 'tasks', a list of dict(type=..., data=...); got "
                          f"{cfg.get('tasks')!r}.")
    check_shared_keys(cfg)
    check_workers(cfg, ENGINES, 'workers')
    check_flag('tensorboard', cfg['tensorboard'])
    for key in ('grid', 'banks'):
        if not isinstance(cfg[key], dict):
            raise ConfigError(f'{key} is {cfg[key]!r}; expected a dict.')
    check_keys('banks', cfg['banks'], BANK_KEYS, 'banks')
    check_number('banks.max_bad_fraction', cfg['banks'].get('max_bad_fraction', 0), 0, 1)
    check_whole('banks.batch_size', cfg['banks'].get('batch_size', 1), 1)
    check_text('banks.root', cfg['banks'].get('root', '.'))
    check_choice('banks.dtype', cfg['banks'].get('dtype', 'float16'), ('float16', 'float32'))
    with_grid = sorted(filter(reads_grid, TASKS.known_names()))
    check_keys('grid', cfg['grid'], set().union(*map(task_arguments, with_grid)) - {'device'}, ' and '.join(with_grid))
    for name, encoder in cfg['encoders'].items():
        _check_encoder(name, encoder)
    names = []
    for index, task in enumerate(cfg['tasks']):
        where = f'tasks[{index}]'
        needs = _check_task(where, task, cfg)
        names.append(task_name(task))
        _check_given(where, task, needs, task_data(cfg, task, needs))
        for name, encoder in cfg['encoders'].items():
            _check_data(f'{where}.data', task_data(cfg, task, needs), name, encoder)
            _check_sides(where, task, needs, f'encoders.{name}', encoder)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"Two tasks are called '{min(twice)}'; give each a name of its own (name=...).")


def _check_encoder(name: str, encoder: object) -> None:
    check_name('encoders', name)
    kinds = [key for key in ('type', 'bank', RUN_KEY) if isinstance(encoder, dict) and key in encoder]
    if not isinstance(encoder, dict) or len(kinds) > 1 or not (kinds or any(key in encoder for key in PAIR_KEYS)):
        both = f' It has both {" and ".join(kinds)}.' if len(kinds) > 1 else ''
        raise ConfigError(f'encoders.{name} is {encoder!r}; expected one of dict(type=...), dict(bank=<folder of '
                          "banks>), dict(image_encoder=..., text_encoder=...) and dict(run='work_dirs/x')." + both)
    info = encoder.get('info') or {}
    check_keys(f'encoders.{name}.info', info, INFO_KEYS, 'info')
    kind = typed(encoder).get('type')
    arguments = {'bank'} if kind is None else accepted_arguments(MODELS.require(kind))
    check_keys(f'encoders.{name}', set(encoder) - {'type', 'info'}, arguments, kind or 'a folder of banks')
    if RUN_KEY in kinds:
        from clear.models.alignment.encoder import run_checkpoint

        run_checkpoint(encoder[RUN_KEY], encoder.get('checkpoint', 'latest'))


def _check_task(where: str, task: object, cfg: dict) -> tuple[str, ...]:
    """What a task needs, whose entry is as it should be."""
    if not isinstance(task, dict) or 'type' not in task:
        raise ConfigError(f"{where} is {task!r}; expected dict(type=...), with arguments and data.")
    accepted = task_arguments(task['type'])
    check_keys(where, task, {*accepted, *engine_keys(task['type'])}, task['type'])
    with building(where):
        job_seeds(task, cfg['seed'])
    if task.get('device') is not None:
        choose_device(task['device'])
    check_name(f'{where}.name', task_name(task))
    check_choice(f'{where}.features', task.get('features', FEATURES[0]), FEATURES)
    for key, choices in CLASSES_OF_TASKS.items():
        if key in task:
            check_choice(f'{where}.{key}', task[key], choices)
    needs = needs_of(build_task(task_options(task, cfg['seed'], cfg['grid'])))
    if reads_text_alone(needs):
        if task.get('data') is not None:
            raise ConfigError(f"{where}: {task['type']} reads texts of its own and no data; leave the key out.")
        return needs
    data = task_data(cfg, task, needs)
    if not isinstance(data, dict) or 'test' not in data:
        raise ConfigError(f"{where}.data is {data!r}; expected dict(train=..., test=...), and val=... if there is one, "
                          "here or as 'data' of the whole config.")
    check_keys(f'{where}.data', data, set(SPLITS), 'data')
    return needs


def _check_data(where: str, data: dict, name: str, encoder: dict) -> None:
    """Each split must be something that the encoder can be asked for."""
    for split, source in data.items():
        if source is None and split == 'val':
            continue
        if isinstance(source, dict) and ('bank' in source) != ('type' in source):
            if 'bank' in source:
                check_keys(f'{where}.{split}', source, {'bank', 'bucket'}, 'a bank')
            elif 'bank' in encoder:
                raise ConfigError(f"{where}.{split} is a data source, but encoder '{name}' is a folder of banks: it "
                                  'cannot encode. Name one of its banks.')
        elif isinstance(source, str):
            if 'bank' not in encoder:
                raise ConfigError(f"{where}.{split} is {source!r}, the name of a bank, but encoder '{name}' is no "
                                  "folder of banks. Give a data source, e.g. dict(type='ImageFolder', root=...), or "
                                  'dict(bank=...).')
        else:
            raise ConfigError(f'{where}.{split} is {source!r}; expected a data source (dict with type), '
                              'dict(bank=...), or the name of a bank.')


def _check_given(where: str, task: dict, needs: tuple[str, ...], data: dict) -> None:
    """Banks hold no images and no text, and only features are given of a single bucket."""
    for split, source in data.items():
        for need in needs:
            if source is None or need in ('bank', 'text_encoder'):
                continue
            if need != 'maps' and not (isinstance(source, dict) and 'type' in source):
                raise ConfigError(f"{where}: {task['type']} needs {need}, but data.{split} is a bank, which has none. "
                                  "Give a data source, e.g. dict(type='ImageFolder', root=...).")
            if isinstance(source, dict) and source.get('bucket') is not None:
                raise ConfigError(f"{where}: {task['type']} needs {need}, which a whole data source gives and no "
                                  f'single bucket of it (data.{split}). List the images of the bucket.')


def _check_sides(where: str, task: dict, needs: tuple[str, ...], name: str, encoder: dict) -> None:
    """Refuse a task that asks an encoder for something that it has not got."""
    if 'bank' in encoder and task.get('features') == 'backbone':
        raise ConfigError(f"{where}: features='backbone' asks for an encoder without its heads; {name} is a folder of "
                          'banks, which hold what they hold.')
    if _is_pair(encoder) and not encoder.get('image_encoder') and not reads_text_alone(needs):
        raise ConfigError(f"{where}: {task['type']} needs an encoder of images; {name} names no image_encoder.")
    if 'text_encoder' in needs:
        check_encodes_text(where, task, name, encoder)


def _is_pair(encoder: dict) -> bool:
    return 'type' not in encoder and any(key in encoder for key in PAIR_KEYS)


def check_encodes_text(where: str, task: dict, name: str, encoder: dict) -> None:
    """Refuse a task that reads text for an encoder of images alone.

    Raises:
        ConfigError: naming both; `name` is the key of the encoder.
    """
    kind = None if 'bank' in encoder else MODELS.require(typed(encoder)['type'])
    if not (isinstance(kind, type) and issubclass(kind, EncodesText)):
        found = 'is a folder of banks' if kind is None else f'is a {typed(encoder)["type"]}'
    elif _is_pair(encoder) and not encoder.get('text_encoder'):
        found = 'names no text_encoder'
    else:
        return
    raise ConfigError(f"{where}: {task['type']} needs an encoder of text; {name} {found}, "
                      'which encodes no text.')


def check_name(where: str, name: object) -> None:
    """Refuse what cannot be a name of an encoder or a task, since files and folders are called so.

    Raises:
        ConfigError: saying what may be in one.
    """
    # Two hyphens separate encoder and task in the key of a job.
    if not isinstance(name, str) or not _NAME.fullmatch(name) or '--' in name:
        raise ConfigError(f'{where}: {name!r} is no name; use letters, digits, and after the first _ . + and single -.')
