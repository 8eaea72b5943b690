"""Going on with a run where it was left: behind an experience, or inside the next one.

`latest.pth` is the state after the last finished experience. `iteration.pth` is the state inside the next one. To
continue there, the first is loaded, the experience is begun as always, so that Avalanche's own prologue makes the
loaders, and then the second is put over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.continual.training.iteration import load_iteration_state, read_last_batch_again
from clear.core.errors import CheckpointError
from clear.core.logs import logger
from clear.core.seeding import set_rng_state
from clear.core.storage.damage import damaged, reading
from clear.engine.checkpoint import ITERATION, LATEST, ContinualCheckpoint, load_checkpoint
from clear.engine.continual.restore import METRICS_LEFT, adapt_model, check_run, restore
from clear.engine.continual.state import resumable_logs
from clear.engine.origin import note_processes

if TYPE_CHECKING:
    from clear.core.types import State
    from clear.engine.continual.runner import ContinualRunner


def resume_run(runner: ContinualRunner, path: Path) -> int:
    """Load a checkpoint, and the one inside the next experience if it lies beside; the finished experiences.

    Raises:
        CheckpointError: if a file is damaged, or of another strategy, config or data.
    """
    path, inside = _with_inside(path)
    place = path.with_name(ITERATION)
    checkpoint = _take_finished(runner, path, inside)
    finished = 0 if checkpoint is None else checkpoint['progress']['experience']
    total = runner.record.total
    if inside is not None and inside['progress']['experience'] > finished:
        raise damaged(place, f"progress.experience is {inside['progress']['experience']}, but {path.name} has "
                             f'{finished} finished')
    # An older one may be left by a kill.
    is_inside = inside is not None and inside['progress']['experience'] == finished < total
    if is_inside:
        _go_on_inside(runner, place, inside)
    else:
        note_processes(checkpoint, METRICS_LEFT)
        logger.info('resumed from %s: %d of %d experiences are finished', path, finished, total)
    logs = (inside if is_inside else checkpoint)['progress'].get('logs', {})
    for log in resumable_logs(runner.strategy):
        log.resume(logs.get(type(log).__name__), finished)
    runner.state.finish_saving(path, finished)
    return finished


def _take_finished(runner: ContinualRunner, path: Path, inside: ContinualCheckpoint | None
                  ) -> ContinualCheckpoint | None:
    """Put back what stood behind the last finished experience; None where none is finished."""
    if not path.is_file():
        behind = inside['progress']['experience']
        if behind > 0:
            raise CheckpointError(f'{path.with_name(ITERATION)} continues behind {behind} finished experience(s), '
                                  f'whose {LATEST} is missing beside it.')
        return None
    checkpoint = load_checkpoint(path)
    check_run(runner, path, checkpoint)
    with reading(path):
        adapt_model(runner, checkpoint['progress']['experience'])
        restore(runner, path, checkpoint)
    set_rng_state(checkpoint['rng'])
    runner.record.take(checkpoint)
    return checkpoint


def _go_on_inside(runner: ContinualRunner, path: Path, inside: ContinualCheckpoint) -> None:
    """Let the next experience begin where the run was left inside it."""
    check_run(runner, path, inside)
    note_processes(inside, METRICS_LEFT)
    finished, clock = inside['progress']['experience'], _clock_of(inside)
    logger.info('resumed from %s: %d of %d experiences are finished; going on in experience %d, epoch %d, after '
                'iteration %d', path, finished, runner.record.total, finished + 1, clock['train_exp_epochs'] + 1,
                clock['train_exp_iterations'])
    runner.strategy.continue_from(lambda: _restore_iteration(runner, path, inside))


def _restore_iteration(runner: ContinualRunner, path: Path, checkpoint: ContinualCheckpoint) -> None:
    strategy = runner.strategy
    with reading(path):
        read_last_batch_again(strategy, checkpoint['inside'])
        restore(runner, path, checkpoint)  # then: a strategy may change what it remembers when it gets a batch
        load_iteration_state(strategy, checkpoint['inside'])
    set_rng_state(checkpoint['rng'])
    runner.progress.start_at(runner.progress.done + strategy.clock.train_exp_iterations)


def _with_inside(path: Path) -> tuple[Path, ContinualCheckpoint | None]:
    """The checkpoint of finished experiences that `path` means, and the one inside the next beside it, if there is."""
    if path.name == ITERATION:
        return path.with_name(LATEST), _load_inside(path)
    beside = path.with_name(ITERATION)
    return path, _load_inside(beside) if path.name == LATEST and beside.exists() else None


def _load_inside(path: Path) -> ContinualCheckpoint:
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


def place_inside(path: Path) -> tuple[int, ...] | None:
    """Where an `iteration.pth` stands: finished experiences, epochs and iterations; None without one."""
    if not path.is_file():
        return None
    checkpoint = _load_inside(path)
    clock = _clock_of(checkpoint)
    return checkpoint['progress']['experience'], clock['train_exp_epochs'], clock['train_exp_iterations']


def _clock_of(checkpoint: ContinualCheckpoint) -> State:
    """Avalanche's counters as they were saved."""
    return next((plugin['fields'] for name, plugin in checkpoint['strategy']['plugins'].items()
                 if name.endswith(':Clock')), {})
