"""Avalanche's loggers and metrics from a config, with the run folder filled in."""

from __future__ import annotations

import os
import time
from pathlib import Path

from clear.core.compat import patch_wandb
from clear.core.configs.signatures import accepted_arguments, check_keys, required_arguments
from clear.core.contracts import MeasuresMatrix
from clear.core.errors import ConfigError
from clear.core.storage.tracking import wandb_run_id
from clear.registry import CL_METRICS, LOGGERS

# Hooks of a metric that only an evaluation pass of Avalanche calls.
_EVAL_HOOKS = ('before_eval', 'before_eval_exp', 'after_eval_iteration', 'after_eval_exp', 'after_eval')
# Metrics of Avalanche that cannot work here, with the reason.
UNUSABLE = {'forward_transfer_metrics': 'needs an evaluation before training begins, which a run does not make. Every '
                                        "run reports CLEAR's forward_transfer, from the accuracy matrix."}


@LOGGERS.register_module(name='TextLogger')
def text_logger(file: str | None = None, work_dir: str | None = None):
    """Avalanche's `TextLogger` into a file; without one, into `<work_dir>/<time>.log`."""
    from avalanche.logging import TextLogger

    path = Path(file) if file else Path(work_dir or '.') / f'{time.strftime("%Y%m%d_%H%M%S")}.log'
    path.parent.mkdir(parents=True, exist_ok=True)
    return TextLogger(path.open('a', buffering=1))


@LOGGERS.register_module(name='CSVLogger')
def csv_logger(log_folder: str | None = None, work_dir: str | None = None):
    """Avalanche's `CSVLogger`; without a folder, into `<work_dir>/csv`. A resumed run goes on in its files."""
    from clear.continual.resumable_loggers import ResumableCSVLogger

    return ResumableCSVLogger(log_folder or str(Path(work_dir or '.') / 'csv'))


@LOGGERS.register_module(name='TensorboardLogger')
def tensorboard_logger(tb_log_dir: str | None = None, filename_suffix: str = '', work_dir: str | None = None):
    """Avalanche's `TensorboardLogger`; without a folder, into `<work_dir>/tensorboard`. No step comes twice."""
    from clear.continual.resumable_loggers import ResumableTensorboardLogger

    folder = tb_log_dir or str(Path(work_dir or '.') / 'tensorboard')
    return ResumableTensorboardLogger(folder, filename_suffix, is_shared=tb_log_dir is not None)


@LOGGERS.register_module(name='WandBLogger')
def wandb_logger(project_name: str = 'clear', run_name: str | None = None, params: dict | None = None,
                 dir: str | None = None, config: dict | None = None, log_artifacts: bool = False,  # noqa: A002
                 path: str = 'Checkpoints', uri: str | None = None, sync_tfboard: bool = False,
                 save_code: bool = False, work_dir: str | None = None):
    """Avalanche's `WandBLogger`. Without a key it runs offline into `<work_dir>/wandb`; `wandb sync` uploads later.

    A resumed run goes on in the same run of W&B, whose id stands in `<work_dir>/wandb_id.txt`, unless `params` or
    `WANDB_RUN_ID` give one.
    """
    from clear.continual.resumable_loggers import ResumableWandBLogger

    patch_wandb()
    folder = Path(dir or work_dir or '.')
    folder.mkdir(parents=True, exist_ok=True)
    params = dict(params or {})
    if 'mode' not in params and 'WANDB_MODE' not in os.environ and not _has_wandb_key():
        params['mode'] = 'offline'
    if work_dir and 'id' not in params and 'WANDB_RUN_ID' not in os.environ:
        params |= dict(id=wandb_run_id(work_dir), resume=params.get('resume', 'allow'))
    params.setdefault('reinit', 'finish_previous')  # of several seeds in one process, each has a run of its own
    return ResumableWandBLogger(project_name=project_name, run_name=run_name, params=params, dir=str(folder),
                                config=config, log_artifacts=log_artifacts, path=path, uri=uri,
                                sync_tfboard=sync_tfboard, save_code=save_code)


def _has_wandb_key() -> bool:
    if os.environ.get('WANDB_API_KEY'):
        return True
    netrc = Path(os.environ.get('NETRC', Path.home() / '.netrc'))
    return netrc.is_file() and 'wandb' in netrc.read_text(errors='ignore')


def check_loggers_and_metrics(loggers: list[dict], metrics: list[dict]) -> None:
    """Refuse unknown types and keys, before anything is built.

    Raises:
        ConfigError, RegistryError: with the nearest names.
    """
    for where, registry, configs in (('loggers', LOGGERS, loggers), ('metrics', CL_METRICS, metrics)):
        for position, cfg in enumerate(configs):
            if not isinstance(cfg, dict) or 'type' not in cfg:
                raise ConfigError(f'{where}[{position}] needs a dict with a type, got {cfg!r}.')
            owner = registry.require(cfg['type'])
            accepted = accepted_arguments(owner)
            if cfg['type'] in UNUSABLE:
                raise ConfigError(f"{where}[{position}]: {cfg['type']} {UNUSABLE[cfg['type']]}")
            check_keys(f'{where}[{position}]', set(cfg) - {'type'},
                       None if accepted is None else accepted - {'work_dir'}, cfg['type'])
            missing = sorted(required_arguments(owner) - set(cfg))
            if missing:
                raise ConfigError(f"{where}[{position}]: {cfg['type']} needs {', '.join(missing)}.")


def split_metrics(metrics: list[dict]) -> tuple[list[dict], list[MeasuresMatrix]]:
    """Configs of Avalanche's metrics, and, built, those that are functions of the accuracy matrix."""
    own = [cfg for cfg in metrics if _is_of_matrix(CL_METRICS.require(cfg['type']))]
    return [cfg for cfg in metrics if cfg not in own], [CL_METRICS.build(cfg) for cfg in own]


def _is_of_matrix(owner: object) -> bool:
    return isinstance(owner, type) and issubclass(owner, MeasuresMatrix)


def build_evaluator(loggers: list[dict], metrics: list[dict], work_dir: Path | None, config: dict | None = None):
    """Avalanche's evaluator with the configured metrics and loggers, deaf to hooks that none of them listens to."""
    from clear.continual.quiet_evaluator import QuietEvaluator

    built_metrics = []
    for cfg in metrics:
        metric = CL_METRICS.build(cfg)
        built_metrics += list(metric) if isinstance(metric, (list, tuple)) else [metric]
    built_loggers = []
    for cfg in loggers:
        accepted = accepted_arguments(LOGGERS.require(cfg['type'])) or ()
        filled = {'work_dir': str(work_dir or '.')} if 'work_dir' in accepted else {}
        if cfg['type'] == 'WandBLogger':
            filled['config'] = config
            filled['run_name'] = work_dir.name if work_dir else None
        built_loggers.append(LOGGERS.build(cfg, default_args=filled))
    return QuietEvaluator(*built_metrics, loggers=built_loggers, collect_all=False)


def needs_evaluation_pass(evaluator) -> bool:
    """True if a metric listens to Avalanche's own evaluation; our accuracy matrix does not need it."""
    from avalanche.evaluation.metric_definitions import GenericPluginMetric, PluginMetric

    for metric in evaluator.metrics:
        if isinstance(metric, GenericPluginMetric):
            if metric._mode == 'eval':
                return True
        elif any(getattr(type(metric), hook, None) is not getattr(PluginMetric, hook, None) for hook in _EVAL_HOOKS):
            return True
    return False
