"""The keys of an ordinary Runner's config: what is known, what is misspelt, and what decides the result."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from clear.core.checks import (
    check_choice,
    check_flag,
    check_number,
    check_scheduler,
    check_shared_keys,
    check_text,
    check_whole,
)
from clear.core.config import EXECUTION_KEYS
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError
from clear.engine import schema
from clear.engine.schema import check_load_from, check_names
from clear.engine.scopes import THEIRS
from clear.engine.training.loading import is_read_by_workers
from clear.engine.training.timm_optimizers import PREFIX

if TYPE_CHECKING:
    from mmengine.config import Config

    from clear.core.types import Plain
    from clear.registry import Registry

REQUIRED = ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
OURS = {'seed', 'device', 'threads', 'amp', 'name', 'runner_type', 'sync_bn', 'stream', 'use_banks', 'banks'}
KNOWN = {'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg',
         'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator',
         'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg',
         'log_processor', 'log_level', 'visualizer', 'default_scope', 'randomness', 'experiment_name',
         'model_wrapper_cfg', 'find_unused_parameters', 'compile', 'activation_checkpointing',
         'efficient_conv_bn_eval', 'custom_imports', 'vis_backends', *OURS}
LOADER_EXTRAS = {'dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn', 'num_batch_per_epoch',
                 'disable_subprocess_warning', 'shuffle', 'drop_last'}
# Parts of a model that are built with exactly the keys of their dict; layers (norm_cfg ...) take more.
MODEL_PARTS = ('backbone', 'neck', 'head', 'predictor', 'projector', 'prototypes', 'data_preprocessor', 'loss',
               'target')
# The gradient of each parameter by itself; the other two are mmengine's.
NORM_PER_PARAMETER = 'norm_per_parameter'
# Arguments of clip_grad by its type, the bound first.
CLIP_KEYS = {'norm': ('max_norm', 'norm_type', 'error_if_nonfinite', 'foreach'), 'value': ('clip_value', 'foreach'),
             NORM_PER_PARAMETER: ('max_norm',)}
DEFAULT_HOOKS = ('runtime_info', 'nan_guard', 'progress', 'timer', 'sampler_seed', 'results', 'logger',
                 'param_scheduler', 'checkpoint', 'visualization')
DEFAULT_CONSTRUCTOR = 'DefaultOptimWrapperConstructor'
PARAMWISE_KEYS = {'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult',
                  'dwconv_decay_mult', 'dcn_offset_lr_mult', 'bypass_duplicate'}
# Of a group of parameters, beside the settings of its optimiser.
GROUP_KEYS = {'lr_mult', 'decay_mult', 'fix_lr', 'fix_weight_decay', 'lars_exclude'}
# How a run is executed and shown, not what it computes.
_EXECUTION = {*EXECUTION_KEYS, 'default_hooks', 'visualizer', 'vis_backends', 'log_processor', 'log_level', 'env_cfg',
              'experiment_name', 'resume', 'default_scope', 'model_wrapper_cfg', 'runner_type', 'compile',
              'activation_checkpointing', 'find_unused_parameters', 'custom_imports', 'banks'}
_PLACES = ('data_root', 'shards', 'index_dir')
_LOADER_EXECUTION = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'timeout',
                     'disable_subprocess_warning')


def check_runner_config(cfg: Config | dict, assigned: Iterable[str] = (), is_training: bool = True) -> None:
    """Refuse missing parts, misspelt keys and unknown types, before anything is built.

    Args:
        assigned: top-level names of the config file. What nobody reads may be a helper of the file, unless it looks
            like a known name.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    check_names(assigned, KNOWN)
    required = REQUIRED if is_training else ('model',)
    missing = [key for key in required if key not in cfg]
    if missing:
        raise ConfigError("The config has neither 'cl_strategy' (continual learning) nor "
                          f"{', '.join(map(repr, missing))}, which a Runner needs.")
    for key in required:
        _check_dict(key, cfg[key])
    for key in ('val_cfg', 'test_cfg', 'env_cfg', 'visualizer', 'log_processor', 'randomness', 'data_preprocessor',
                'default_hooks', *(f'{kind}_dataloader' for kind in ('train', 'val', 'test'))):
        if cfg.get(key) is not None:
            _check_dict(key, cfg[key])
    for key in ('custom_hooks', 'param_scheduler', 'vis_backends'):
        if cfg.get(key) is not None and not isinstance(cfg[key], (list, tuple, dict) if key == 'param_scheduler'
                                                       else (list, tuple)):
            raise ConfigError(f'{key} is {cfg[key]!r}; expected a list of dicts.')
    for kind in ('val', 'test'):
        given = [key for key in (f'{kind}_dataloader', f'{kind}_cfg', f'{kind}_evaluator') if cfg.get(key) is not None]
        if len(given) not in (0, 3):
            raise ConfigError(f'Of {kind}_dataloader, {kind}_cfg and {kind}_evaluator the config sets '
                              f'{" and ".join(given)}; give all three or none.')
    _check_model(cfg['model'])
    if 'type' in (cfg.get('data_preprocessor') or {}):
        _check_model(cfg['data_preprocessor'], 'data_preprocessor')
    for kind in ('train', 'val', 'test'):
        if cfg.get(f'{kind}_dataloader') is not None:
            _check_dataloader(f'{kind}_dataloader', cfg[f'{kind}_dataloader'])
    if cfg.get('train_cfg') is not None:
        _check_train_cfg(cfg['train_cfg'])
    if cfg.get('optim_wrapper') is not None:
        _check_optimisation(cfg)
    _check_hooks(cfg)
    _check_surroundings(cfg)
    if cfg.get('auto_scale_lr') is not None:
        _check_dict('auto_scale_lr', cfg['auto_scale_lr'])
        check_keys('auto_scale_lr', cfg['auto_scale_lr'], {'enable', 'base_batch_size'}, 'auto_scale_lr')
        if 'base_batch_size' not in cfg['auto_scale_lr']:
            raise ConfigError('auto_scale_lr lacks base_batch_size, the batch that the learning rate is meant for.')
        check_number('auto_scale_lr.base_batch_size', cfg['auto_scale_lr']['base_batch_size'], above=0)
        check_flag('auto_scale_lr.enable', cfg['auto_scale_lr'].get('enable', False))
    _check_values(cfg)


def _check_values(cfg: Config | dict) -> None:
    check_shared_keys(cfg)
    check_choice('amp', cfg.get('amp'), (False, True, None, 'bf16', 'fp16'))
    check_choice('sync_bn', cfg.get('sync_bn'), (None, False, True, 'torch'))
    check_load_from(cfg.get('load_from'))
    if cfg.get('find_unused_parameters') is not None:
        check_flag('find_unused_parameters', cfg['find_unused_parameters'])
    check_flag('use_banks', cfg.get('use_banks', True))
    if cfg.get('banks') is not None:
        _check_dict('banks', cfg['banks'])
        check_keys('banks', cfg['banks'], {'root'}, 'banks of an ordinary run')
        if 'root' in cfg['banks']:
            check_text('banks.root', cfg['banks']['root'])


def _check_dict(where: str, value: object) -> None:
    if not isinstance(value, dict):
        raise ConfigError(f'{where} is {value!r}; expected a dict.')


def _check_model(model: dict, where: str = 'model', scope: str | None = None) -> None:
    from clear.registry import MODELS, TRANSFORMS

    if 'type' not in model:
        raise ConfigError(f'{where} has no type.')
    scope = model.get('_scope_', scope)
    _check_type(where, model, MODELS, scope=scope)
    for part in MODEL_PARTS:
        # A data_preprocessor without a type is one that the model completes itself.
        if isinstance(model.get(part), dict) and 'type' in model[part]:
            _check_model(model[part], f'{where}.{part}', scope)
    if isinstance(model.get('views'), dict) and 'type' in model['views']:  # of a ViewPreprocessor
        _check_type(f'{where}.views', model['views'], TRANSFORMS)


def _check_type(where: str, cfg: dict, registry: Registry, extra: Iterable[str] = (), given_by_us: Iterable[str] = (),
                scope: str | None = None) -> None:
    if callable(cfg['type']):  # a class itself, as mmengine's pure Python configs have
        owner, other = cfg['type'], None
        name = owner.__name__ if inspect.isclass(owner) else str(owner)
    else:
        check_text(f'{where}.type', cfg['type'])
        name, scope = cfg['type'], cfg.get('_scope_', scope)
        library, _, bare = name.rpartition('.')
        if library not in ('', 'clear', *THEIRS) or '/' in name and not name.startswith(PREFIX):
            return
        owner = registry.require(name if scope in (None, 'clear') or library else f'{scope}.{name}')
        other = registry.hidden_by(bare)
        if other == name:
            other = f'clear.{bare}'
    accepted = accepted_arguments(owner)
    if accepted is not None:
        accepted = (accepted | set(extra)) - set(given_by_us)
    try:
        check_keys(where, set(cfg) - {'type', '_scope_'}, accepted, name)
    except ConfigError as error:
        raise ConfigError(f"{error} Is '{other}' meant?") if other else error from None


def _check_dataloader(where: str, cfg: dict) -> None:
    from mmengine.registry import FUNCTIONS
    from torch.utils.data import DataLoader

    from clear.registry import DATA_SAMPLERS, DATASETS

    check_keys(where, cfg, set(inspect.signature(DataLoader.__init__).parameters) - {'self'} | LOADER_EXTRAS,
               'a loader')
    if not isinstance(cfg.get('dataset'), dict) or 'type' not in cfg['dataset']:
        raise ConfigError(f"{where} needs dataset=dict(type=...); got {cfg.get('dataset')!r}.")
    if cfg.get('batch_sampler') is None:
        check_whole(f'{where}.batch_size (per process)', cfg.get('batch_size'), 1)
    workers = check_whole(f'{where}.num_workers', cfg.get('num_workers', 0), 0)
    for key in ('persistent_workers', 'pin_memory', 'drop_last', 'shuffle'):
        if cfg.get(key) is not None:
            check_flag(f'{where}.{key}', cfg[key])
    check_number(f'{where}.timeout', cfg.get('timeout', 0), 0)
    if cfg.get('prefetch_factor') is not None:
        check_whole(f'{where}.prefetch_factor', cfg['prefetch_factor'], 1)
    for key in ('prefetch_factor', 'persistent_workers', 'timeout'):
        if cfg.get(key) and not workers:
            raise ConfigError(f'{where}.{key} is {cfg[key]!r}, but there are no workers to have it: num_workers is 0.')
    dataset, path, scope = cfg['dataset'], f'{where}.dataset', None
    while isinstance(dataset, dict) and 'type' in dataset:
        scope = dataset.get('_scope_', scope)
        _check_type(path, dataset, DATASETS, scope=scope)
        _check_pipeline(f'{path}.pipeline', dataset.get('pipeline'), scope)
        dataset, path = dataset.get('dataset'), f'{path}.dataset'
    for key in ('sampler', 'batch_sampler'):
        if isinstance(cfg.get(key), dict):
            if 'type' not in cfg[key]:
                raise ConfigError(f'{where}.{key} has no type.')
            _check_type(f'{where}.{key}', cfg[key], DATA_SAMPLERS, given_by_us=('dataset',) if key == 'sampler' else ())
    collate = cfg.get('collate_fn')
    if isinstance(collate, dict):
        if 'type' not in collate:
            raise ConfigError(f'{where}.collate_fn has no type.')
        function = FUNCTIONS.get(collate['type']) if isinstance(collate['type'], str) else collate['type']
        if function is not None:
            check_keys(f'{where}.collate_fn', set(collate) - {'type', '_scope_'}, accepted_arguments(function),
                       str(collate['type']))


def _check_pipeline(where: str, pipeline: Iterable[object] | None, scope: str | None) -> None:
    from clear.registry import TRANSFORMS

    for index, step in enumerate(pipeline or ()):
        if isinstance(step, dict) and 'type' in step:
            _check_type(f'{where}[{index}]', step, TRANSFORMS, scope=scope)


def _check_train_cfg(cfg: Config | dict) -> None:
    from clear.registry import LOOPS

    cfg = dict(cfg)
    name = cfg.pop('type', None)
    by_epoch = cfg.pop('by_epoch', True)
    name = name or ('EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
    _check_type('train_cfg', dict(cfg, type=name), LOOPS, given_by_us=('runner', 'dataloader'))
    if name in ('EpochBasedTrainLoop', 'IterBasedTrainLoop'):
        key = 'max_epochs' if name.startswith('Epoch') else 'max_iters'
        if key not in cfg:
            raise ConfigError(f'train_cfg lacks {key}.')


def _check_optimisation(cfg: Config | dict) -> None:
    from clear.registry import OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS

    wrapper = dict(cfg['optim_wrapper'])
    optimizer = wrapper.get('optimizer')
    if 'constructor' not in wrapper and not (isinstance(optimizer, dict) and 'type' in optimizer):
        raise ConfigError(f"optim_wrapper.optimizer is {optimizer!r}; expected a dict with a type, e.g. "
                          "dict(type='SGD', lr=0.03, momentum=0.9, weight_decay=1e-4).")
    wrapper.setdefault('type', 'OptimWrapper')
    _check_type('optim_wrapper', wrapper, OPTIM_WRAPPERS, extra=('constructor', 'paramwise_cfg'))
    if isinstance(optimizer, dict):
        _check_type('optim_wrapper.optimizer', optimizer, OPTIMIZERS, given_by_us=('params',))
    check_whole('optim_wrapper.accumulative_counts', wrapper.get('accumulative_counts', 1), 1)
    if wrapper.get('clip_grad') is not None:
        _check_clip_grad(wrapper['clip_grad'])
    if wrapper.get('paramwise_cfg') is not None and \
            wrapper.get('constructor', DEFAULT_CONSTRUCTOR) == DEFAULT_CONSTRUCTOR:
        _check_paramwise(wrapper['paramwise_cfg'], optimizer)
    schedulers = cfg.get('param_scheduler') or []
    if isinstance(schedulers, dict):
        if 'type' not in schedulers:
            return  # several optimisers, by name
        schedulers = [schedulers]
    for index, scheduler in enumerate(schedulers):
        where = f'param_scheduler[{index}]'
        if not isinstance(scheduler, dict) or 'type' not in scheduler:
            raise ConfigError(f'{where} is {scheduler!r}; expected a dict with a type.')
        check_scheduler(where, scheduler)
        _check_type(where, scheduler, PARAM_SCHEDULERS, extra=('convert_to_iter_based',), given_by_us=('optimizer',))


def _check_clip_grad(clip: object) -> None:
    if not isinstance(clip, dict) or clip.get('type', 'norm') not in CLIP_KEYS:
        raise ConfigError(f"optim_wrapper.clip_grad is {clip!r}; expected a dict such as dict(max_norm=3.0), its type "
                          f"one of {', '.join(map(repr, CLIP_KEYS))}.")
    kind = clip.get('type', 'norm')
    check_keys('optim_wrapper.clip_grad', set(clip) - {'type'}, set(CLIP_KEYS[kind]), f"clipping of type '{kind}'")
    bound = CLIP_KEYS[kind][0]
    check_number(f'optim_wrapper.clip_grad.{bound}', clip.get(bound), above=0)


def _check_paramwise(paramwise: object, optimizer: object) -> None:
    """What mmengine's default constructor reads; it looks keys up, so that it would pass others over in silence."""
    from clear.registry import OPTIMIZERS

    where = 'optim_wrapper.paramwise_cfg'
    _check_dict(where, paramwise)
    check_keys(where, paramwise, PARAMWISE_KEYS, 'it')
    patterns = paramwise.get('custom_keys') or {}
    _check_dict(f'{where}.custom_keys', patterns)
    kind = optimizer.get('type') if isinstance(optimizer, Mapping) else None
    settings = accepted_arguments(OPTIMIZERS.require(kind)) if isinstance(kind, str) else None
    for pattern, values in patterns.items():
        _check_dict(f"{where}.custom_keys['{pattern}']", values)
        check_keys(f"{where}.custom_keys['{pattern}']", values,
                   None if settings is None else settings - {'params'} | GROUP_KEYS, 'a group of parameters')


def _check_surroundings(cfg: Config | dict) -> None:
    """Keys of the parts around training, of which mmengine reads some and passes over the others."""
    import torch

    from clear.registry import EVALUATORS, LOG_PROCESSORS, LOOPS, METRICS, MODEL_WRAPPERS, VISBACKENDS, VISUALIZERS

    if isinstance(cfg.get('compile'), Mapping):
        check_keys('compile', cfg['compile'], accepted_arguments(torch.compile) - {'model'}, 'torch.compile')
    if cfg.get('model_wrapper_cfg') is not None:
        _check_dict('model_wrapper_cfg', cfg['model_wrapper_cfg'])
        _check_type('model_wrapper_cfg', {'type': 'MMDistributedDataParallel', **cfg['model_wrapper_cfg']},
                    MODEL_WRAPPERS, given_by_us=('module',))
    env = cfg.get('env_cfg') or {}
    check_keys('env_cfg', env, {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'}, 'it')
    check_keys('env_cfg.dist_cfg', env.get('dist_cfg') or {}, {'backend', 'init_backend', 'timeout', 'port'}, 'it')
    check_keys('env_cfg.mp_cfg', env.get('mp_cfg') or {}, {'mp_start_method', 'opencv_num_threads'}, 'it')
    check_keys('randomness', cfg.get('randomness') or {}, {'seed', 'diff_rank_seed', 'deterministic'}, 'it')
    for kind, loop in (('val', 'ValLoop'), ('test', 'TestLoop')):
        if cfg.get(f'{kind}_cfg') is not None:
            _check_type(f'{kind}_cfg', {'type': loop, **cfg[f'{kind}_cfg']}, LOOPS,
                        given_by_us=('runner', 'dataloader', 'evaluator'))
        evaluators = cfg.get(f'{kind}_evaluator') or ()
        for index, each in enumerate(evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]):
            if isinstance(each, Mapping) and 'type' in each:
                where = f'{kind}_evaluator' + (f'[{index}]' if isinstance(evaluators, (list, tuple)) else '')
                is_evaluator = each['type'] in ('Evaluator', 'mmengine.Evaluator')
                _check_type(where, each, EVALUATORS if is_evaluator else METRICS)
    for key, registry, default in (('log_processor', LOG_PROCESSORS, 'LogProcessor'),
                                   ('visualizer', VISUALIZERS, 'Visualizer')):
        if cfg.get(key) is not None:
            _check_type(key, {'type': default, **cfg[key]}, registry)
    backends = (cfg.get('visualizer') or {}).get('vis_backends') or ()
    for index, backend in enumerate(backends if isinstance(backends, (list, tuple)) else [backends]):
        if isinstance(backend, Mapping) and 'type' in backend:
            _check_type(f'visualizer.vis_backends[{index}]', backend, VISBACKENDS, extra=('save_dir',))


def _check_hooks(cfg: Config | dict) -> None:
    from clear.registry import HOOKS

    for name in cfg.get('default_hooks') or {}:
        if name not in DEFAULT_HOOKS and (close := difflib.get_close_matches(name, DEFAULT_HOOKS, 1, 0.75)):
            raise ConfigError(f"default_hooks has '{name}', which would be a hook beside the default "
                              f"'{close[0]}'. Did you mean that?")
    hooks = [(f'default_hooks.{name}', hook) for name, hook in (cfg.get('default_hooks') or {}).items()]
    hooks += [(f'custom_hooks[{index}]', hook) for index, hook in enumerate(cfg.get('custom_hooks') or [])]
    for where, hook in hooks:
        if isinstance(hook, (dict, str, list, int, float)):
            if not isinstance(hook, dict) or 'type' not in hook:
                raise ConfigError(f'{where} is {hook!r}; expected a dict with a type.')
            _check_type(where, hook, HOOKS, extra=('priority',))


def computed_config(cfg: Config | dict, world_size: int) -> dict[str, Plain]:
    """The part of a config that decides the result, with the batch of all processes in place of one's."""
    kept = schema.computed_config(cfg.to_dict() if hasattr(cfg, 'to_dict') else dict(cfg), _EXECUTION, KNOWN)
    # Where the files lie does not matter; what they hold is in the weights that a resumed run reads.
    kept['load_from'] = bool(kept.get('load_from'))
    randomness, seed = kept.get('randomness'), kept.get('seed')
    if isinstance(randomness, dict) and seed is not None and randomness.get('seed') not in (None, seed):
        # Not read beside `seed`. Earlier versions read it: their runs must not go on with other draws.
        kept['randomness'] = {key: value for key, value in randomness.items() if key != 'seed'}
    if kept.get('use_banks') is True:
        del kept['use_banks']  # as it is without the key
    if isinstance(kept.get('model'), dict) and 'previous' in kept['model']:
        kept['model']['previous'] = True
    for kind in ('train', 'val', 'test'):
        loader = kept.get(f'{kind}_dataloader')
        if not isinstance(loader, dict):
            continue
        if kind == 'train' and is_read_by_workers(loader):
            loader['dealt_to'] = f"{world_size} process(es) with {max(loader.get('num_workers', 0), 1)} worker(s)"
        for key in _LOADER_EXECUTION:
            loader.pop(key, None)
        if isinstance(loader.get('dataset'), dict):
            for key in _PLACES:
                loader['dataset'].pop(key, None)  # the fingerprint says whether the data are the same
        if kind == 'train' and isinstance(loader.get('batch_size'), int):
            loader['global_batch_size'] = loader.pop('batch_size') * world_size
    return kept


def runner_config_hash(config: Mapping[str, Plain]) -> str:
    """First 16 hex digits of the SHA-256 of what `computed_config` kept, without the seed."""
    plain = {key: value for key, value in config.items() if key != 'seed'}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
