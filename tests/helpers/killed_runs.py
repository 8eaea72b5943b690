"""Runs of a strategy in processes of their own, which are killed at a chosen moment or go on to the end.

The processes are forked from the test's own, which has imported everything: fresh ones would take seconds each. They
get names and paths and nothing else; what one leaves to the next is in the files of its folder.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from many_strategies import built, trained
from tiny_runs import checkpoint, results_without_time, same_weights, weights

from clear.continual.training.mixin import EngineMixin
from clear.core.seeding import seed_everything
from clear.engine.checkpoint import ITERATION
from clear.engine.continual import state as continual_state

END = 'end.pth'  # what a finished process hands back


@dataclass(frozen=True)
class Death:
    """The moment at which a process kills itself, and what it leaves.

    Attributes:
        moment: a key of `MOMENTS`.
        experience, iteration: when, as the strategy's clock counts; the iterations of the experience begin with 1.
        kept: the iteration of this experience that the last whole `iteration.pth` is of. It is also the interval
            between two of them, so `iteration` is at most twice as much.
    """

    moment: str
    experience: int
    iteration: int
    kept: int


def die() -> None:
    """No handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner: Any, name: str, is_time: Callable[..., bool]) -> None:
    """Kill this process at the first call of `owner.name` whose arguments `is_time` says yes to."""
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        if is_time(*args):
            die()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


def die_after(owner: Any, name: str, is_time: Callable[..., bool]) -> None:
    """Kill this process when the first call of `owner.name` returns after which `is_time` says yes to its arguments."""
    original = getattr(owner, name)

    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        if is_time(*args):
            die()
        return result

    setattr(owner, name, wrapped)


def _in_iteration(runner, death):
    die_after(runner, '_on_iteration', lambda _: _is_at(runner, death))


def _in_rename(runner, death):
    die_before(Path, 'replace', lambda _, target: Path(target).name == ITERATION and _is_at(runner, death))


def _after_epoch(runner, death):
    die_after(EngineMixin, '_after_training_epoch', lambda _: _is_at(runner, death))


def _before_saving(runner, death):
    die_before(runner, '_save', lambda experience: experience == death.experience)


def _in_saving(runner, death):
    die_after(continual_state, 'save_checkpoint', lambda _, __, experience: experience == death.experience)


def _is_at(runner, death: Death) -> bool:
    clock = runner.strategy.clock
    return (clock.train_exp_counter, clock.train_exp_iterations) == (death.experience, death.iteration)


MOMENTS = {
    'iteration': _in_iteration,  # the weights are updated; nothing of this iteration is saved
    'rename': _in_rename,  # its `iteration.pth` is written under the temporary name
    'epoch end': _after_epoch,  # plugins and scheduler have had their turn
    'experience end': _before_saving,  # trained and measured; `latest.pth` is of the experience before
    'half saved': _in_saving}  # `latest.pth` is new; `iteration.pth` lies there still, `results.json` is old


def run_in_fork(work: Callable[..., None], *args: Any, code: int = 0, timeout_s: float = 300) -> None:
    """Call `work(*args)` in a process of its own and require its exit code."""
    process = multiprocessing.get_context('fork').Process(target=work, args=args)
    process.start()
    process.join(timeout_s)
    is_late = process.is_alive()
    process.kill()
    assert not is_late, f'the process was not over after {timeout_s} s'
    assert process.exitcode == code, f'the process ended with {process.exitcode} in place of {code}'


def killed(root: Path, name: str, folder: Path, death: Death, *, number: int, resume: bool, **options: Any) -> None:
    """Train until death, and check what is left.

    Args:
        number: of this process; its random numbers begin elsewhere than those of the others.
        options: as for `many_strategies.settings`.
    """
    run_in_fork(_train_and_die, root, name, folder, death, number, resume, options, code=-signal.SIGKILL)
    # `checkpoint` reads tensors and plain values only.
    left = checkpoint(folder, ITERATION)
    assert {'state_dict', 'optimizer', 'strategy', 'rng', 'inside'} <= set(left)
    assert (left['progress']['experience'], _iterations(left)) == (death.experience, death.kept)
    assert death.moment != 'rename' or list(folder.glob(f'.{ITERATION}.*.tmp'))


def _train_and_die(root, name, folder, death, number, resume, options):
    runner = _built(root, name, folder, number, options)
    runner.cfg['checkpoint_config'] = dict(interval=None, iter_interval=death.kept)
    MOMENTS[death.moment](runner, death)
    trained(runner, resume)


def _built(root, name, folder, number, options):
    torch.set_num_threads(1)
    seed_everything(987654321 + number)
    return built(root, name, folder, **options)


def _iterations(state: dict) -> int:
    clock, = [plugin for key, plugin in state['strategy']['plugins'].items() if key.endswith(':Clock')]
    return clock['fields']['train_exp_iterations']


def finished(root: Path, name: str, folder: Path, *, number: int = 0, resume: bool = False, **options: Any) -> dict:
    """Train to the end: weights, last metrics, results and what the run went through."""
    run_in_fork(_train_and_tell, root, name, folder, number, resume, options)
    assert not (folder / ITERATION).exists()
    return dict(torch.load(folder / END, weights_only=True), results=results_without_time(folder))


def _train_and_tell(root, name, folder, number, resume, options):
    runner = trained(_built(root, name, folder, number, options), resume)
    torch.save(dict(weights=weights(runner), metrics=runner.strategy.evaluator.get_last_metrics(),
                    last=0 if runner.is_joint else 1, epochs=runner.strategy.clock.train_exp_epochs or 1,
                    iterations=[entry['iterations'] for entry in runner.record.train_log]), folder / END)


def assert_same_end(whole: dict, parts: dict) -> None:
    """Weights and Avalanche's metrics bit for bit, and `results.json` but times, of two results of `finished`."""
    assert same_weights(whole['weights'], parts['weights'])
    assert whole['results'] == parts['results']
    assert whole['metrics'] == parts['metrics']
