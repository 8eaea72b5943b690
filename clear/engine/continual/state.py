"""What a checkpoint of a continual run holds, and when one is written: after an experience and inside one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clear.continual.journal import append_entry, write_entries
from clear.continual.training.iteration import iteration_state
from clear.continual.training.versions import method_versions
from clear.core import dist
from clear.core.config import config_hash
from clear.core.errors import CheckpointError, TrainingError
from clear.core.files import save_tensors
from clear.core.logs import logger
from clear.core.seeding import get_rng_state
from clear.engine.checkpoint import (
    FORMAT,
    ITERATION,
    LATEST,
    ContinualCheckpoint,
    cpu_copy,
    keep_latest,
    save_checkpoint,
)
from clear.engine.schema import computed_config

if TYPE_CHECKING:
    from clear.continual.resumable_loggers import ResumableLogger
    from clear.continual.state import StrategyState
    from clear.continual.training.mixin import EngineMixin
    from clear.core.types import State
    from clear.engine.continual.runner import ContinualRunner

# Without `checkpoint_config.iter_interval`: seconds between two files, and how often the time of writing one must fit
# in between.
SECONDS_BETWEEN = 60.0
WRITING_SHARE = 20.0
# Parts of a strategy's state that hold settings; the schedule is forgotten, and metrics are compared by name.
SETTINGS = ('plugins', 'fields', 'model_extras')


class RunState:
    """Writes the checkpoints of one `ContinualRunner`; `resume` and `branch` read them.

    Args:
        runner: built; its strategy, model, record and logs are what is saved.
    """

    def __init__(self, runner: ContinualRunner):
        self.runner = runner
        self._can_save_iterations = True
        self._is_tried = False
        self._next_save = time.monotonic() + SECONDS_BETWEEN
        self._settings: dict[str, State] = {}

    def note_settings(self) -> None:
        """Keep what the strategy holds before it sees anything; every checkpoint will say it.

        Raises:
            CheckpointError: if it holds what cannot be saved.
        """
        from clear.continual.state import settings_of, strategy_state

        if self.runner.work_dir is not None:
            state = strategy_state(self.runner.strategy, self.runner.sample_index())
            self._settings = settings_of({part: state[part] for part in SETTINGS})

    def save_experience(self, experience: int) -> None:
        """Write `latest.pth`, and `exp_<experience>.pth` where the config asks for it; drop `iteration.pth`."""
        runner = self.runner
        append_entry(runner.work_dir, runner.record.entry(experience))  # first: the checkpoint may lean on it
        save_checkpoint(runner.work_dir, self._common(experience + 1), experience,
                        keep_as_experience=self._keeps(experience), max_keep=self._options.get('max_keep'))
        (runner.work_dir / ITERATION).unlink(missing_ok=True)

    @property
    def _options(self) -> dict[str, Any]:
        return self.runner.cfg['checkpoint_config'] or {}

    def _keeps(self, experience: int) -> bool:
        interval = self._options.get('interval')
        return bool(interval) and (experience + 1) % interval == 0

    def save_iteration(self) -> None:
        """Write `iteration.pth` if it is time to, or if the run is about to stop."""
        if self.runner.work_dir is None or not dist.is_main():
            return
        if not self._is_tried:
            self._is_tried = True
            self._try_users_state()
        if self._can_save_iterations and self._is_due():
            self.write_iteration()

    def write_iteration(self) -> None:
        """Write `iteration.pth`; a strategy that cannot be saved inside an experience is warned of once."""
        runner, strategy = self.runner, self.runner.strategy
        try:
            started = time.monotonic()
            state = dict(self._common(strategy.clock.train_exp_counter), inside=iteration_state(strategy))
            save_tensors(runner.work_dir / ITERATION, state)
            now = time.monotonic()
            self._next_save = now + max(SECONDS_BETWEEN, WRITING_SHARE * (now - started))
        except (CheckpointError, TrainingError) as error:
            self._can_save_iterations = False
            logger.warning('Nothing is saved inside experiences: %s', error)

    def _try_users_state(self) -> None:
        """At the first iteration: whether what a user's plugins and strategy hold by now can be saved and put back.

        Raises:
            CheckpointError: for an open file, and for objects that no checkpoint can make.
        """
        from clear.continual.encoding import OpenFileError
        from clear.continual.state import strategy_state
        from clear.continual.training.traits import users_parts

        runner = self.runner
        if not users_parts(runner.strategy):
            return
        try:
            state = strategy_state(runner.strategy, runner.sample_index())
        except OpenFileError:
            raise
        except CheckpointError as error:
            self._can_save_iterations = False
            logger.warning('Nothing is saved inside experiences: %s If it is still there when the experience ends, the '
                           'run stops then.', error)
            return
        self._check_restorable(state)

    def _check_restorable(self, state: StrategyState) -> None:
        from clear.continual.restorable import check_restorable

        check_restorable(self.runner.strategy, state, self._settings, self.runner.sample_index())

    def _is_due(self) -> bool:
        strategy = self.runner.strategy
        interval = self._options.get('iter_interval')
        if strategy.stop_requested:
            return True
        if interval is not None:
            return strategy.clock.train_exp_iterations % interval == 0
        return time.monotonic() >= self._next_save

    def _common(self, finished: int) -> ContinualCheckpoint:
        from clear.continual.state import strategy_state

        runner = self.runner
        state, record = strategy_state(runner.strategy, runner.sample_index()), runner.record.state()
        self._check_restorable(state)
        # PackNet and LFL freeze parameters when an experience ends.
        frozen = [name for name, value in runner.strategy.model.named_parameters() if not value.requires_grad]
        return dict(
            format=FORMAT, state_dict=cpu_copy(dict(runner.strategy.model.state_dict())),
            optimizer=cpu_copy(runner.strategy.optimizer.state_dict()),
            optimizer_parameters=_optimized_names(runner.strategy), scheduler=state.pop('schedule'),
            strategy=state, rng=get_rng_state(),
            progress=dict(experience=finished, strategy=runner.cfg['cl_strategy']['type'],
                          world_size=dist.world_size(), frozen=frozen, **record['progress'],
                          **_marked_methods(runner.strategy), **_log_states(runner.strategy)),
            acc_matrix=record['acc_matrix'], config_hash=config_hash(runner.cfg), config=computed_config(runner.cfg),
            data_fingerprint=runner.info.fingerprint, settings=self._settings)

    def begin_journal(self) -> None:
        """Let the journal hold what is finished: rows behind the checkpoint are about to come again."""
        runner = self.runner
        if runner.work_dir is not None and dist.is_main():
            write_entries(runner.work_dir, runner.record.entries())

    def finish_saving(self, path: Path, finished: int) -> None:
        """Do what a kill may have kept this run from when it wrote `path`: name it, drop `iteration.pth`."""
        work_dir = self.runner.work_dir
        if work_dir is None or not dist.is_main():
            return
        if finished and path == work_dir / LATEST and self._keeps(finished - 1):
            keep_latest(work_dir, finished - 1, self._options.get('max_keep'))
        if finished == self.runner.record.total:
            (work_dir / ITERATION).unlink(missing_ok=True)

    def check_ranks(self) -> None:
        """Make sure that several processes still hold the same; of one there is nothing to check.

        Raises:
            TrainingError: naming what differs.
        """
        from clear.continual.state import strategy_state
        from clear.continual.training.parallel import check_equal_on_ranks

        if dist.world_size() == 1:
            return
        strategy = self.runner.strategy
        random_numbers = get_rng_state()
        random_numbers.pop('cuda', None)
        check_equal_on_ranks({
            'weights': dict(strategy.model.state_dict()), 'optimiser': strategy.optimizer.state_dict(),
            'what the strategy remembers': strategy_state(strategy, self.runner.sample_index()),
            'random numbers': random_numbers}, self.runner.device)


def _marked_methods(strategy: EngineMixin) -> dict[str, dict[str, int]]:
    versions = method_versions(strategy)
    return dict(methods=versions) if versions else {}


def _log_states(strategy: EngineMixin) -> dict[str, dict[str, dict[str, int]]]:
    states = {type(log).__name__: log.log_state() for log in resumable_logs(strategy)}
    return dict(logs=states) if states else {}


def resumable_logs(strategy: EngineMixin) -> list[ResumableLogger]:
    """Avalanche's loggers that a checkpoint keeps the place of."""
    from clear.continual.resumable_loggers import ResumableLogger

    return [log for log in strategy.evaluator.loggers if isinstance(log, ResumableLogger)]


def _optimized_names(strategy: EngineMixin) -> list[list[str]] | None:
    """Names of the parameters of each group of the optimiser; None if one is no parameter of the model."""
    named = {**dict(strategy.model.named_parameters()), **(strategy.optimized_param_id or {})}
    names = {id(parameter): name for name, parameter in named.items()}
    groups = [[names.get(id(parameter)) for parameter in group['params']]
              for group in strategy.optimizer.param_groups]
    return None if any(name is None for group in groups for name in group) else groups
