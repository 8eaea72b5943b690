"""Saving and resuming a continual run, after an experience and inside one.

`latest.pth` is the state after the last finished experience. `iteration.pth` is the state inside the next one. To
continue there, the first is loaded, the experience is begun as always, so that Avalanche's own prologue makes the
loaders, and then the second is put over it.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

from clear.continual.journal import (
    SELF_CONTAINED,
    append_entry,
    require_entries,
    write_entries,
)
from clear.continual.training.versions import check_versions, method_versions, without_remedies
from clear.core import dist
from clear.core.config import config_hash, is_hash_of, to_plain
from clear.core.errors import CheckpointError, TrainingError
from clear.core.files import save_tensors
from clear.core.logs import logger
from clear.core.seeding import get_rng_state, set_rng_state
from clear.core.storage.damage import check_rng, check_shape, damaged, reading
from clear.engine.checkpoint import (
    FORMAT,
    ITERATION,
    LATEST,
    cpu_copy,
    experience_checkpoints,
    keep_latest,
    load_checkpoint,
    load_optimizer,
    save_checkpoint,
)
from clear.engine.continual.branch import SETTINGS, remembered
from clear.engine.origin import check_origin, note_processes, world_size_of
from clear.engine.schema import computed_config, differences

# Without `checkpoint_config.iter_interval`: seconds between two files, and how often the time of writing one must fit
# in between.
SECONDS_BETWEEN = 60.0
WRITING_SHARE = 20.0
# What other processes than those that wrote a checkpoint leave behind.
METRICS_LEFT = ". The state of Avalanche's metrics is not taken over."


class RunState:
    """Writes and reads the checkpoints of one `ContinualRunner`.

    Args:
        runner: built; its strategy, model, matrix and logs are what is saved.
    """

    def __init__(self, runner):
        self.runner = runner
        self._can_save_iterations = True
        self._next_save = time.monotonic() + SECONDS_BETWEEN
        self._settings: dict[str, Any] = {}

    def note_settings(self) -> None:
        """Keep what the strategy holds before it sees anything; every checkpoint will say it.

        Raises:
            CheckpointError: if it holds what cannot be saved.
        """
        from clear.continual.state import settings_of, strategy_state

        if self.runner.work_dir is not None:
            state = strategy_state(self.runner.strategy, self._index())
            self._settings = settings_of({part: state[part] for part in SETTINGS})

    # Saving

    def save_experience(self, experience: int) -> None:
        """Write `latest.pth`, and `exp_<experience>.pth` where the config asks for it; drop `iteration.pth`."""
        runner = self.runner
        append_entry(runner.work_dir, self._entry(experience))  # first: the checkpoint may lean on it
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
        runner, strategy = self.runner, self.runner.strategy
        if runner.work_dir is None or not dist.is_main() or not self._can_save_iterations or not self._is_due():
            return
        try:
            started = time.monotonic()
            state = dict(self._common(strategy.clock.train_exp_counter), inside=strategy.iteration_state())
            save_tensors(runner.work_dir / ITERATION, state)
            now = time.monotonic()
            self._next_save = now + max(SECONDS_BETWEEN, WRITING_SHARE * (now - started))
        except (CheckpointError, TrainingError) as error:
            self._can_save_iterations = False
            logger.warning('Nothing is saved inside experiences: %s', error)

    def _is_due(self) -> bool:
        strategy = self.runner.strategy
        interval = self._options.get('iter_interval')
        if strategy.stop_requested:
            return True
        if interval is not None:
            return strategy.clock.train_exp_iterations % interval == 0
        return time.monotonic() >= self._next_save

    def _common(self, finished: int) -> dict[str, Any]:
        from clear.continual.state import strategy_state

        runner = self.runner
        state = strategy_state(runner.strategy, self._index())
        # PackNet and LFL freeze parameters when an experience ends.
        frozen = [name for name, value in runner.strategy.model.named_parameters() if not value.requires_grad]
        holds_matrix = runner.size <= SELF_CONTAINED
        return dict(
            format=FORMAT, state_dict=cpu_copy(dict(runner.strategy.model.state_dict())),
            optimizer=cpu_copy(runner.strategy.optimizer.state_dict()),
            optimizer_parameters=_optimized_names(runner.strategy), scheduler=state.pop('schedule'),
            strategy=state, rng=get_rng_state(),
            progress=dict(experience=finished, timing=runner.timing, strategy=runner.cfg['cl_strategy']['type'],
                          branched_from=runner.branched_from, world_size=dist.world_size(), frozen=frozen,
                          train_log=runner.train_log if holds_matrix else None,
                          streaming_matrix=runner.streaming_matrix if holds_matrix else None,
                          **_marked_methods(runner.strategy), **_log_states(runner.strategy)),
            acc_matrix=runner.acc_matrix if holds_matrix else None, config_hash=config_hash(runner.cfg),
            config=computed_config(runner.cfg), data_fingerprint=runner.info.fingerprint, settings=self._settings)

    def _index(self):
        from clear.continual.samples import SampleIndex

        return SampleIndex([item.dataset for item in self.runner.experiences])

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
            'what the strategy remembers': strategy_state(strategy, self._index()),
            'random numbers': random_numbers}, self.runner.device)

    # Resuming

    def resume(self, path: Path) -> int:
        """Load a checkpoint, and the one inside the next experience if it lies beside; the finished experiences.

        Raises:
            CheckpointError: if a file is damaged, or of another strategy, config or data.
        """
        runner = self.runner
        path, inside = _with_inside(path)
        place = path.with_name(ITERATION)
        checkpoint = self._take_finished(path, inside)
        finished = 0 if checkpoint is None else checkpoint['progress']['experience']
        total = 1 if runner.is_joint else runner.size
        if inside is not None and inside['progress']['experience'] > finished:
            raise damaged(place, f"progress.experience is {inside['progress']['experience']}, but {path.name} has "
                                 f'{finished} finished')
        # An older one may be left by a kill.
        is_inside = inside is not None and inside['progress']['experience'] == finished < total
        if is_inside:
            self._go_on_inside(place, inside, total)
        else:
            note_processes(checkpoint, METRICS_LEFT)
            logger.info('resumed from %s: %d of %d experiences are finished', path, finished, total)
        logs = (inside if is_inside else checkpoint)['progress'].get('logs', {})
        for log in _resumable_logs(runner.strategy):
            log.resume(logs.get(type(log).__name__), finished)
        is_own = runner.work_dir is not None and path == runner.work_dir / LATEST
        if dist.is_main() and finished and is_own and self._keeps(finished - 1):
            keep_latest(path.parent, finished - 1, self._options.get('max_keep'))  # a kill may have come before
        if finished == total and dist.is_main():
            (runner.work_dir / ITERATION).unlink(missing_ok=True)  # of a run that was killed in its last save
        return finished

    def _take_finished(self, path: Path, inside: dict[str, Any] | None) -> dict[str, Any] | None:
        """Put back what stood behind the last finished experience; None where none is finished."""
        runner = self.runner
        if not path.is_file():
            behind = inside['progress']['experience']
            if behind > 0:
                raise CheckpointError(f'{path.with_name(ITERATION)} continues behind {behind} finished experience(s), '
                                      f'whose {LATEST} is missing beside it.')
            return None
        checkpoint = load_checkpoint(path)
        self._check(path, checkpoint)
        with reading(path):
            self._adapt_model(checkpoint['progress']['experience'])
            self._restore(path, checkpoint)
        set_rng_state(checkpoint['rng'])
        self._take_rows(checkpoint)
        runner.timing = checkpoint['progress']['timing']
        runner.branched_from = checkpoint['progress'].get('branched_from')
        return checkpoint

    def _go_on_inside(self, path: Path, inside: dict[str, Any], total: int) -> None:
        """Let the next experience begin where the run was left inside it."""
        self._check(path, inside)
        note_processes(inside, METRICS_LEFT)
        finished, clock = inside['progress']['experience'], _clock_of(inside)
        logger.info('resumed from %s: %d of %d experiences are finished; going on in experience %d, epoch %d, after '
                    'iteration %d', path, finished, total, finished + 1, clock['train_exp_epochs'] + 1,
                    clock['train_exp_iterations'])
        self.runner.strategy.continue_from(lambda: self._restore_iteration(path, inside))

    def branch(self, path: Path) -> int:
        """Begin where another run was left, with this run's options; the finished experiences.

        The rows of its matrix, its weights and what its strategy remembers are taken over, its optimiser's state if
        the optimiser is of the same type.

        Raises:
            CheckpointError: if the file is damaged, of another strategy or other data, or leaves nothing to train.
        """
        from clear.continual.state import strategy_state

        runner = self.runner
        checkpoint = load_checkpoint(path)
        if 'inside' in checkpoint:
            raise CheckpointError(f'{path} was written inside an experience; branch from exp_*.pth or latest.pth.')
        self._check_origin(path, checkpoint)
        check_versions(path, checkpoint['progress'].get('methods', {}), runner.strategy)
        config = computed_config(runner.cfg)
        changes = differences(checkpoint['config'], config)
        finished = checkpoint['progress']['experience']
        self._check_unfinished(path, finished)
        note_processes(checkpoint, METRICS_LEFT)
        fresh = strategy_state(runner.strategy, self._index())
        same_optimizer = _optimizer_type(checkpoint['config']) == _optimizer_type(config)
        own = runner.strategy.optimizer.state_dict()['param_groups']
        if checkpoint['config']['cl_strategy'] != config['cl_strategy']:
            checkpoint['strategy'] = remembered(runner, path, checkpoint, fresh, self._index())
        with reading(path):
            self._adapt_model(finished)
            self._restore(path, checkpoint if same_optimizer else {**checkpoint, 'optimizer': None})
        if same_optimizer:  # the state is the other run's, the settings are ours
            for group, ours in zip(runner.strategy.optimizer.param_groups, own):
                group.update({key: value for key, value in ours.items() if key != 'params'})
        runner.strategy.schedule.forget()
        self._take_rows(checkpoint)
        runner.branched_from = dict(checkpoint=path.name, config_hash=checkpoint['config_hash'], experiences=finished,
                                    changes=changes)
        logger.info('branched from %s after %d experiences; changed: %s', path, finished,
                    '; '.join(changes) or 'nothing')
        return finished

    def _adapt_model(self, finished: int) -> None:
        """Let a model that grows with its experiences grow to what was saved."""
        from avalanche.models import DynamicModule
        from avalanche.models.utils import avalanche_model_adaptation

        strategy = self.runner.strategy
        if any(isinstance(module, DynamicModule) for module in strategy.model.modules()):
            for experience in self.runner.experiences[:finished]:
                avalanche_model_adaptation(strategy.model, experience)
            strategy.make_optimizer(reset_optimizer_state=True)

    def _restore(self, path: Path, checkpoint: dict[str, Any]) -> None:
        from clear.continual.state import load_model_state, load_strategy_state
        from clear.continual.strategies import quiet_avalanche

        strategy, index = self.runner.strategy, self._index()
        with quiet_avalanche():
            load_model_state(strategy, checkpoint['state_dict'], checkpoint['strategy'], index)
            load_strategy_state(strategy, {**checkpoint['strategy'], 'schedule': checkpoint['scheduler']}, index,
                                with_metrics=world_size_of(checkpoint) == dist.world_size())
        _optimize(strategy, checkpoint.get('optimizer_parameters'))
        if checkpoint['optimizer'] is not None:
            load_optimizer(path, strategy.optimizer, checkpoint['optimizer'], [strategy.optimizer])
        frozen = checkpoint['progress'].get('frozen')
        for name, parameter in strategy.model.named_parameters() if frozen is not None else ():
            parameter.requires_grad_(name not in frozen)

    def _restore_iteration(self, path: Path, checkpoint: dict[str, Any]) -> None:
        strategy = self.runner.strategy
        with reading(path):
            strategy.read_last_batch_again(checkpoint['inside'])
            self._restore(path, checkpoint)  # then: a strategy may change what it remembers when it gets a batch
            strategy.load_iteration_state(checkpoint['inside'])
        set_rng_state(checkpoint['rng'])
        self.runner.progress.start_at(self.runner.progress.done + strategy.clock.train_exp_iterations)

    def _check(self, path: Path, checkpoint: dict[str, Any]) -> None:
        runner = self.runner
        self._check_origin(path, checkpoint)
        config = computed_config(runner.cfg)
        saved = checkpoint['config']
        asked = without_remedies(to_plain(runner.cfg), saved, runner.strategy)
        # The hash leaves the seed out, so that repeats share one; a run cannot change it on the way.
        if not is_hash_of(checkpoint['config_hash'], asked) or saved['seed'] != config['seed']:
            changed = differences(saved, config) or ['config_hash']
            raise CheckpointError(f'{path} was written with another config: {"; ".join(changed)}. Resume with the same '
                                  'config, start a new run, or begin one there with --branch.')
        check_versions(path, checkpoint['progress'].get('methods', {}), runner.strategy)

    def _check_origin(self, path: Path, checkpoint: dict[str, Any]) -> None:
        runner = self.runner
        name = runner.cfg['cl_strategy']['type']
        check_origin(path, checkpoint, key='strategy', method=name, fingerprint=runner.info.fingerprint,
                     differs='other files, another split or order',
                     otherwise=f"this config asks for {name}. To start {name} from its weights use load_from='{path}'.")
        check_rng(path, checkpoint['rng'])
        self._check_place(path, checkpoint)
        _check_fields(path, checkpoint)

    def _fill_in_matrix(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """Put what the journal has into a checkpoint of a long stream."""
        if checkpoint['acc_matrix'] is not None:
            return
        entries = require_entries(path, checkpoint['progress']['experience'])
        matrices = dict(row=copy.deepcopy(self.runner.acc_matrix),
                        whole_buckets=copy.deepcopy(self.runner.streaming_matrix))
        for entry in entries[:len(self.runner.acc_matrix)]:
            for name, matrix in matrices.items():
                matrix[entry['experience']] = entry[name]
        checkpoint['acc_matrix'] = matrices['row']
        checkpoint['progress'].update(streaming_matrix=matrices['whole_buckets'],
                                      train_log=[entry['log'] for entry in entries])

    def _take_rows(self, checkpoint: dict[str, Any]) -> None:
        runner = self.runner
        runner.acc_matrix = checkpoint['acc_matrix']
        runner.streaming_matrix = checkpoint['progress']['streaming_matrix']
        runner.train_log = checkpoint['progress']['train_log']

    def begin_journal(self) -> None:
        """Let the journal hold what is finished: rows behind the checkpoint are about to come again."""
        runner = self.runner
        if runner.work_dir is not None and dist.is_main():
            write_entries(runner.work_dir, [self._entry(experience) for experience in range(len(runner.train_log))])

    def _entry(self, experience: int) -> dict[str, Any]:
        runner = self.runner
        return dict(experience=experience, row=runner.acc_matrix[experience],
                    whole_buckets=runner.streaming_matrix[experience], log=runner.train_log[experience])

    def _check_place(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """The number of finished experiences and the matrices must be of this stream."""
        runner, progress = self.runner, checkpoint['progress']
        total = 1 if runner.is_joint else runner.size
        # Inside an experience none may be finished yet, and the last one is not.
        first, last = (0, total - 1) if 'inside' in checkpoint else (1, total)
        if not first <= progress['experience'] <= last:
            raise damaged(path, f"progress.experience is {progress['experience']} in a stream of {total}")
        self._fill_in_matrix(path, checkpoint)
        missing = [name for name in ('train_log', 'streaming_matrix') if progress[name] is None]
        if missing:
            raise damaged(path, f'progress.{missing[0]} is None')
        if len(progress['train_log']) != progress['experience']:
            raise damaged(path, f"progress.train_log has {len(progress['train_log'])} entries for "
                                f"{progress['experience']} experience(s)")
        for name, matrix in (('acc_matrix', checkpoint['acc_matrix']),
                             ('progress.streaming_matrix', progress['streaming_matrix'])):
            if [len(row) for row in matrix] != [len(row) for row in runner.acc_matrix]:
                raise damaged(path, f'{name} is not {len(runner.acc_matrix)} rows of {len(runner.acc_matrix[0])}')
            if not all(value is None or 0 <= value <= 1 for row in matrix for value in row):
                raise damaged(path, f'{name} holds what is no accuracy')

    def _check_unfinished(self, path: Path, finished: int) -> None:
        total = 1 if self.runner.is_joint else self.runner.size
        if finished < total:
            return
        earlier = [other.name for other in experience_checkpoints(path.parent)
                   if int(other.stem.removeprefix('exp_')) + 1 < total]
        if self.runner.is_joint:
            advice = 'Joint training is one experience and has no place to branch from.'
        elif earlier:
            advice = f'Branch from an earlier checkpoint, e.g. {earlier[-1]} beside it.'
        else:
            advice = 'Branch from an earlier checkpoint; checkpoint_config.interval=1 keeps exp_0.pth, exp_1.pth ...'
        raise CheckpointError(f'{path} was written after the last of {total} experience(s): nothing is left to train. '
                              f'{advice}')


def _marked_methods(strategy) -> dict[str, Any]:
    versions = method_versions(strategy)
    return dict(methods=versions) if versions else {}


def _log_states(strategy) -> dict[str, Any]:
    states = {type(log).__name__: log.log_state() for log in _resumable_logs(strategy)}
    return dict(logs=states) if states else {}


def _resumable_logs(strategy) -> list[Any]:
    from clear.continual.resumable_loggers import ResumableLogger

    return [log for log in strategy.evaluator.loggers if isinstance(log, ResumableLogger)]


def _with_inside(path: Path) -> tuple[Path, dict[str, Any] | None]:
    """The checkpoint of finished experiences that `path` means, and the one inside the next beside it, if there is."""
    if path.name == ITERATION:
        return path.with_name(LATEST), _load_inside(path)
    beside = path.with_name(ITERATION)
    return path, _load_inside(beside) if path.name == LATEST and beside.exists() else None


def _load_inside(path: Path) -> dict[str, Any]:
    checkpoint = load_checkpoint(path)
    if 'inside' not in checkpoint:
        raise damaged(path, "no key 'inside'")
    clock = _clock_of(checkpoint)
    counters = {name: clock.get(name) for name in ('train_exp_epochs', 'train_exp_iterations', 'train_exp_counter')}
    if not all(type(value) is int and value >= 0 for value in counters.values()):
        raise damaged(path, f'the counters of its clock are {counters}')
    if not checkpoint['inside']['loader']['position']:
        raise damaged(path, 'inside.loader.position is 0, before the first batch')
    return checkpoint


def _check_fields(path: Path, checkpoint: dict[str, Any]) -> None:
    """Everything that the strategy held at first must have been saved."""
    settings, strategy = checkpoint.get('settings'), checkpoint['strategy']
    if settings is None:
        return
    check_shape(path, strategy['plugins'], {
        name: dict(fields=dict.fromkeys(plugin['fields'], object)) for name, plugin in settings['plugins'].items()},
        'strategy.plugins')
    check_shape(path, strategy['fields'], dict.fromkeys(settings['fields'], object), 'strategy.fields')


def _clock_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Avalanche's counters as they were saved."""
    return next((plugin['fields'] for name, plugin in checkpoint['strategy']['plugins'].items()
                 if name.endswith(':Clock')), {})


def _optimized_names(strategy) -> list[list[str]] | None:
    """Names of the parameters of each group of the optimiser; None if one is no parameter of the model."""
    named = {**dict(strategy.model.named_parameters()), **(strategy.optimized_param_id or {})}
    names = {id(parameter): name for name, parameter in named.items()}
    groups = [[names.get(id(parameter)) for parameter in group['params']]
              for group in strategy.optimizer.param_groups]
    return None if any(name is None for group in groups for name in group) else groups


def _optimize(strategy, names: list[list[str]] | None) -> None:
    """Let the optimiser hold the parameters of those names: a model may have grown since it was built."""
    parameters = dict(strategy.model.named_parameters())
    for group, own in zip(strategy.optimizer.param_groups, names, strict=True) if names is not None else ():
        group['params'] = [parameters[name] for name in own]


def _optimizer_type(config: dict[str, Any]) -> str | None:
    return (config['cl_strategy'].get('optimizer') or {}).get('type')
