"""The ordinary Runner: mmengine's, with exact resume, results, and folders as everywhere in this framework."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, is_model_wrapper, revert_sync_batchnorm
from mmengine.runner import Runner as MMRunner
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from clear.core import dist
from clear.core.checks import check_number, check_shared_keys
from clear.core.configs.building import building
from clear.core.contracts import Closes, GivesFeatures, ReportsBadSamples
from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.core.programs.signals import on_stop
from clear.core.programs.startup import choose_device
from clear.core.results import Results, software
from clear.core.seeding import RngState, set_rng_state
from clear.datasets import BadSamples, ImageTextPairs, SelfSupervisedImages
from clear.engine.checkpoint import find_checkpoint
from clear.engine.prediction.class_names import is_classifier, of_the_data_set
from clear.engine.progress import Progress
from clear.engine.scopes import settle
from clear.engine.training.backends import prepare_wandb
from clear.engine.training.banks import find_tower_banks, read_banks
from clear.engine.training.hooks.progress import ProgressHook
from clear.engine.training.hooks.results import ResultsHook
from clear.engine.training.keys import NORM_PER_PARAMETER, computed_config, runner_config_hash
from clear.engine.training.loading import build_train_dataloader, data_fingerprint
from clear.engine.training.loops import EpochBasedTrainLoop, IterBasedTrainLoop
from clear.engine.training.optimisation import (
    check_rates,
    clip_each_parameter,
    hold_fixed_values,
    leave_held_parameters,
    unmatched_patterns,
    wrappers_of,
)
from clear.engine.training.smallest_batch import check_training_batch, smallest_of_epoch
from clear.engine.training.state import resume_run, rng_of_rank
from clear.engine.training.weights import load_start_weights
from clear.models.checked import CheckedModel
from clear.models.sync_batch_norm import convert_sync_batch_norm
from clear.registry import LOOPS

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.optim import OptimWrapper, OptimWrapperDict
    from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
    from mmengine.visualization import Visualizer
    from torch.optim import Optimizer

    from clear.core.types import LogEntry
    from clear.features.towers import TowerBank

_serial = itertools.count()


class Runner(MMRunner):
    """Trains and tests what a config in mmengine's keys says.

    Beyond mmengine's: a run that is killed continues with `train(resume=True)` as if it had not been; checkpoints
    hold tensors and plain values; `results.json` after every epoch; SIGTERM and Ctrl-C save; one seed for everything;
    CPU processes over gloo; SyncBN on CPUs. Files go into the work_dir itself.

    Build it with `Runner.from_cfg(cfg)`. Further keys of the config: `seed`, `device`, `amp`, `name`, `sync_bn`.

    Raises:
        ConfigError: for parts that do not fit together.
    """

    def __init__(self, *args, cfg: Config | dict | None = None, **kwargs):
        cfg = cfg if cfg is not None else {}
        self.device = choose_device(cfg.get('device'))
        self.run_name = cfg.get('name') or 'run'
        # mmengine keeps loggers and message hubs by this name, for the whole process.
        kwargs['experiment_name'] = f'{self.run_name}_{os.getpid()}_{next(_serial)}'
        check_shared_keys(dict(default_scope=kwargs.get('default_scope')))
        kwargs['default_scope'] = 'clear'  # in theirs, our names would not resolve
        randomness = dict(kwargs.get('randomness') or {})
        # diff_rank_seed would also give every process another order of the data.
        randomness.pop('diff_rank_seed', None)
        if cfg.get('seed') is not None or randomness.get('seed') is None:
            randomness['seed'] = cfg.get('seed') or 0
        kwargs['randomness'] = randomness
        for key in ('val_evaluator', 'test_evaluator'):
            if isinstance(kwargs.get(key), tuple):
                kwargs[key] = list(kwargs[key])  # mmengine's loops take a list
        kwargs['launcher'] = 'pytorch' if dist.world_size() > 1 else 'none'
        if kwargs.get('visualizer') is not None:
            kwargs['visualizer'] = {**kwargs['visualizer'], 'name': kwargs['experiment_name']}
        self.stop_requested = False
        self.has_cpu_sync_bn = False
        self.waiting_rng: RngState | None = None
        self.measured_at_start: dict[str, float] = {}
        self.known_events: set[str] = set()  # TensorBoard's files of this run before it was resumed
        self.train_log: list[LogEntry] = []
        self.timing: dict[str, float] = {}
        self.tower_banks: dict[str, TowerBank | str] = {}
        super().__init__(*args, cfg=cfg, **kwargs)

    @classmethod
    def from_cfg(cls, cfg: Config | dict) -> Runner:
        """The Runner of a config in mmengine's keys; `cfg` is not changed."""
        cfg = copy.deepcopy(cfg)
        settle(cfg)
        return super().from_cfg(cfg)

    # What mmengine's constructor calls

    def setup_env(self, env_cfg: dict) -> None:
        # mmengine asks the clock for the name of a subfolder; results go into the work_dir itself.
        super().setup_env({**env_cfg, 'dist_cfg': {}})
        self._timestamp = ''

    def build_logger(self, log_level: int | str = 'INFO', log_file: str | None = None, **kwargs) -> MMLogger:
        """mmengine's logger, writing into `run.log`; only warnings also reach the console."""
        instance = MMLogger.get_instance(self._experiment_name, log_level=log_level)
        instance.handlers.clear()
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                instance.addHandler(handler)
        console = logging.StreamHandler()
        console.setLevel(logging.WARNING)
        console.setFormatter(logging.Formatter('%(message)s'))
        instance.addHandler(console)
        instance.setLevel(log_level if dist.is_main() else logging.ERROR)
        return instance

    def _log_env(self, env_cfg: dict) -> None:
        """Nothing: `env.txt` and `config.py` say it."""

    def dump_config(self) -> None:
        """Nothing: `config.py` was written when the work_dir was claimed."""

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """As mmengine's; W&B goes on after a resume, and gets no code unless `log_code_name` asks for it."""
        return prepare_wandb(super().build_visualizer(visualizer), self.work_dir)

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """mmengine's defaults and ours; None in the config takes one out."""
        defaults: dict[str, dict | None] = dict(
            runtime_info=dict(type='RuntimeInfoHook'), nan_guard=dict(type='NaNGuardHook'),
            progress=dict(type='ProgressHook'), timer=dict(type='IterTimerHook'),
            sampler_seed=dict(type='DistSamplerSeedHook'), results=dict(type='ResultsHook'),
            logger=dict(type='LoggerHook'), param_scheduler=dict(type='ParamSchedulerHook'),
            checkpoint=dict(type='CheckpointHook'))
        defaults.update(hooks or {})
        for hook in defaults.values():
            if hook is not None:
                self.register_hook(hook)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to the device; with several processes average gradients over them."""
        if is_model_wrapper(model):
            return model
        model = model.to(self.device)
        sync_bn = self.cfg.get('sync_bn')
        if dist.world_size() == 1 or self.device.type == 'cpu':
            has_sync_bn = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
            with self._quiet():
                model = revert_sync_batchnorm(model)
            if dist.world_size() == 1:
                return model
            if sync_bn or has_sync_bn:
                self.has_cpu_sync_bn = convert_sync_batch_norm(model) > 0
        elif sync_bn:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        return MMDistributedDataParallel(
            module=model, device_ids=[self.device.index] if self.device.type == 'cuda' else None,
            broadcast_buffers=False, find_unused_parameters=self.cfg.get('find_unused_parameters', False))

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """The loop of `train_cfg`, with a loader that can begin at any batch.

        Raises:
            ConfigError: for no training config, or a loop that is not ours: its runs could not be saved or resumed.
        """
        if isinstance(loop, BaseLoop):
            return loop
        if not isinstance(loop, dict):
            raise ConfigError(f'train_cfg is {loop!r}; expected a dict. Training needs train_dataloader, train_cfg and '
                              'optim_wrapper.')
        cfg = dict(loop)
        by_epoch = cfg.pop('by_epoch', True)
        cfg.setdefault('type', 'EpochBasedTrainLoop' if by_epoch else 'IterBasedTrainLoop')
        with self._quiet():
            built = LOOPS.build(cfg, default_args=dict(
                runner=self, dataloader=build_train_dataloader(self._train_dataloader, self.seed)))
        if not isinstance(built, (EpochBasedTrainLoop, IterBasedTrainLoop)):
            raise ConfigError(f"train_cfg.type '{cfg['type']}' is no loop of this framework; derive yours from its "
                              'EpochBasedTrainLoop or IterBasedTrainLoop.')
        return built

    @building('optim_wrapper')
    def build_optim_wrapper(self, optim_wrapper: Optimizer | OptimWrapper | dict) -> OptimWrapper | OptimWrapperDict:
        """As mmengine's, and with `clip_grad=dict(type='norm_per_parameter', ...)`, which its wrappers refuse.

        Raises:
            ConfigError: for a learning rate below 0, or another value that the optimiser refuses.
        """
        if isinstance(optim_wrapper, dict):
            check_rates('optim_wrapper', optim_wrapper)
        clip = optim_wrapper.get('clip_grad') if isinstance(optim_wrapper, dict) else None
        if not clip or clip.get('type') != NORM_PER_PARAMETER:
            return super().build_optim_wrapper(optim_wrapper)
        built = super().build_optim_wrapper({key: value for key, value in optim_wrapper.items() if key != 'clip_grad'})
        for wrapper in wrappers_of(built):
            clip_each_parameter(wrapper, clip['max_norm'])
        return built

    # Properties

    @property
    def bare_model(self) -> nn.Module:
        """The model itself, without what makes it distributed."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    @property
    def is_epoch_based(self) -> bool:
        return isinstance(self.train_loop, EpochBasedTrainLoop)

    @property
    def is_training(self) -> bool:
        return isinstance(self._train_loop, BaseLoop)

    def all_schedulers(self) -> list[_ParamScheduler]:
        """Every parameter scheduler, also of several optimisers."""
        if not self.param_schedulers:
            return []
        if isinstance(self.param_schedulers, dict):
            return [item for group in self.param_schedulers.values() for item in group]
        return list(self.param_schedulers)

    def add_measurements(self, values: dict[str, float]) -> None:
        """Put numbers into the log entry of the current epoch, and tell the hooks (`after_measurement`)."""
        for hook in self.hooks:
            if isinstance(hook, ResultsHook):
                for name, value in values.items():
                    hook.add(name, value)
        self.call_hook('after_measurement', metrics=values)

    def eta(self) -> str:
        """Time left, as h:mm:ss."""
        bar = self._progress()
        return bar.eta() if bar else 'unknown'

    def clear_progress(self) -> None:
        """Take the bar off the screen, so that a line can be printed."""
        if bar := self._progress():
            bar.clear()

    def _progress(self) -> Progress | None:
        return next((hook.bar for hook in self.hooks if isinstance(hook, ProgressHook)), None)

    # Training

    def build(self) -> None:
        """Read the data and build everything that training needs.

        Raises:
            ConfigError, DataError, CheckpointError: for parts that do not fit together.
        """
        self._train_loop = self.build_train_loop(self._train_loop)
        dataset = self.train_dataloader.dataset
        self.data_fingerprint = data_fingerprint(dataset)
        if isinstance(dataset, ReportsBadSamples):
            dataset.report_to(Path(self.work_dir) / 'bad_samples.jsonl')
        with self._quiet():
            self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
            self.scale_lr(self.optim_wrapper, self.auto_scale_lr)
            for pattern in unmatched_patterns(self.cfg.get('optim_wrapper'), self.bare_model):
                logger.warning("optim_wrapper.paramwise_cfg.custom_keys: no parameter has '%s' in its name.", pattern)
            leave_held_parameters(self.optim_wrapper, self.bare_model)
            if self.param_schedulers is not None:
                self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
                hold_fixed_values(self.optim_wrapper)
        if self._val_loop is not None:
            self._val_loop = self.build_val_loop(self._val_loop)
        self.call_hook('before_run')
        self._init_model_weights()
        if self._load_from:
            load_start_weights(self.bare_model, self._load_from)
        self._try_batch()
        check_training_batch(self)
        self.tower_banks = find_tower_banks(self)

    def _try_batch(self) -> None:
        """Show the model a blank sample and how large batches are: what does not fit is found before training."""
        dataset, model = self.train_dataloader.dataset, self.bare_model
        if isinstance(dataset, (SelfSupervisedImages, ImageTextPairs)) and isinstance(model, CheckedModel):
            shown = model.data_preprocessor(default_collate(dataset.blank_samples()), training=True)
            for size in {self.train_dataloader.batch_sampler.batch_size, smallest_of_epoch(self.train_dataloader)}:
                model.check_batch(shown, size)

    def scale_lr(self, optim_wrapper: OptimWrapper | OptimWrapperDict, auto_scale_lr: dict | None = None) -> None:
        """Scale rates with the batch of an optimiser step: of all processes, and of all parts that are accumulated."""
        if auto_scale_lr and auto_scale_lr.get('enable'):
            parts = wrappers_of(optim_wrapper)[0]._accumulative_counts
            base = check_number('auto_scale_lr.base_batch_size', auto_scale_lr.get('base_batch_size'), above=0)
            auto_scale_lr = {**auto_scale_lr, 'base_batch_size': base / parts}
        super().scale_lr(optim_wrapper, auto_scale_lr)

    def train(self, resume: str | bool | None = None) -> Results:
        """Train to the end, from where the run was left if `resume` says so.

        Args:
            resume: True for `latest.pth` of the work_dir, or the path of a checkpoint.

        Raises:
            Interrupted: after SIGTERM or Ctrl-C; what was done is saved.
            TrainingError: if the loss left the finite numbers.
        """
        if not self.is_training:
            self.build()
        # mmengine's and mmpretrain's hooks ask for it, when a checkpoint is read and before training.
        self._resume = bool(resume)
        if resume:
            resume_run(self, find_checkpoint(resume, Path(self.work_dir)))
            self.tower_banks = find_tower_banks(self)  # of the weights that it has now
        else:
            # What was drawn to build the model and the data is the same everywhere; dropout must not be.
            self.waiting_rng = rng_of_rank(self.seed)
        read_banks(self)
        if modules := self.cfg.get('activation_checkpointing'):
            turn_on_activation_checkpointing(self.bare_model, modules)
        self._maybe_compile('train_step')
        started = time.monotonic()
        try:
            with on_stop(self._request_stop):
                self.train_loop.run()
            self.call_hook('after_run')
        finally:
            for hook in self.hooks:
                if isinstance(hook, Closes):
                    hook.close()
        logger.info('trained in %.0f s', time.monotonic() - started)
        return self.results()

    def restore_random_numbers(self) -> None:
        """Put the generators where the checkpoint left them, or where this process begins, once, just before training
        goes on.
        """
        if self.waiting_rng is not None:
            set_rng_state(self.waiting_rng)
            self.waiting_rng = None

    def _request_stop(self) -> None:
        self.stop_requested = True

    @contextmanager
    def _quiet(self) -> Iterator[None]:
        """Without mmengine's line per parameter, and its advice that does not apply here."""
        level = self.logger.level if hasattr(self, 'logger') else logging.INFO  # from mmengine's constructor on
        instance = MMLogger.get_current_instance()
        instance.setLevel(logging.ERROR)
        try:
            yield
        finally:
            instance.setLevel(level)

    # Results

    def results(self) -> Results:
        """What was measured so far; metrics are those of the last epoch."""
        config = computed_config(self.cfg, dist.world_size())
        last = self.train_log[-1] if self.train_log else {}
        metrics = {name: value for name, value in last.items()
                   if name not in ('epoch', 'iteration', 'lr') and not isinstance(value, list)}
        extras = dict(model=type(self.bare_model).__name__, config=config, data_fingerprint=self.data_fingerprint,
                      train_log=self.train_log)
        if self.measured_at_start:
            extras['before_training'] = self.measured_at_start
        dataset = self.train_dataloader.dataset
        if is_classifier(self.bare_model) and (names := of_the_data_set(dataset)):
            extras['class_names'] = names
        if isinstance(dataset, ReportsBadSamples) and isinstance(dataset.bad_samples, BadSamples):
            extras['bad_samples'] = dataset.bad_samples.counts()
        protocol = 'pretraining' if isinstance(self.bare_model, GivesFeatures) else 'training'
        return Results(name=self.run_name, runner=type(self).__name__, protocol=f'{protocol}/v1', metrics=metrics,
                       config_hash=runner_config_hash(config), seeds=dict(train=self.seed),
                       **software(), world_size=dist.world_size(), timing=self.timing, extras=extras)
