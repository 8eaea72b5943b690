"""Saving and resuming an ordinary run: everything that its next iteration depends on, as tensors and plain values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict, TypeVar

import torch
import torch.distributed as torch_dist
from mmengine.logging import HistoryBuffer, MessageHub
from torch import Tensor

from clear.core import dist
from clear.core.contracts import SharesState, Stateful
from clear.core.errors import CheckpointError, DataError
from clear.core.files import load_tensors, parse_json, save_tensors, write_text
from clear.core.logs import logger
from clear.core.seeding import derive_seed, get_rng_state, seed_everything, set_rng_state
from clear.core.storage.damage import (
    COUNT,
    FLAG,
    NUMBER,
    RNG,
    Each,
    Maybe,
    check_alike,
    check_rng,
    damaged,
    reading,
)
from clear.engine.checkpoint import COMMON, FORMAT, LATEST, Checkpoint, cpu_copy, load_optimizer, load_ours
from clear.engine.origin import check_origin, note_processes
from clear.engine.schema import differences
from clear.engine.training.backends import resume_tensorboard, tensorboard_state
from clear.engine.training.keys import computed_config, runner_config_hash
from clear.engine.training.optimisation import wrappers_of

if TYPE_CHECKING:
    from mmengine.optim.scheduler.param_scheduler import _ParamScheduler

    from clear.core.seeding import RngState
    from clear.core.types import LogEntry, State
    from clear.engine.training.runner import Runner

Kind = TypeVar('Kind')

KIND = 'Runner'
_HISTORY = dict(values=torch.Tensor, counts=torch.Tensor)
CHECKPOINT = dict(
    COMMON, scheduler=Each(dict), message=dict(scalars=Each(_HISTORY, names=True), info=Each(object, names=True)),
    rng=Each(RNG), hooks=Each(Each(dict, names=True)),
    progress=dict(kind=str, model=str, epoch=COUNT, iter=COUNT, batch=COUNT, stop_training=FLAG,
                  train_log=Each(dict(epoch=COUNT, iteration=COUNT)), timing=Each(NUMBER, names=True),
                  measured_at_start=Each(NUMBER, names=True), world_size=COUNT,
                  events=Maybe(Each(COUNT, names=True))))
# What mmengine keeps beside the numbers, and every run sets anew.
_INFO_SET_ANEW = ('cfg', 'seed', 'experiment_name', 'mmengine_version', 'dataset_meta', 'loop_stage', 'max_epochs',
                  'max_iters')


class RunProgress(TypedDict):
    """Where an ordinary run was, and what it had measured."""

    kind: str
    model: str
    epoch: int
    iter: int
    batch: int
    stop_training: bool
    train_log: list[LogEntry]
    timing: dict[str, float]
    measured_at_start: dict[str, float]
    world_size: int
    events: NotRequired[dict[str, int] | None]


class Messages(TypedDict):
    """mmengine's message hub: the histories of numbers as values and counts, and what is no number."""

    scalars: dict[str, dict[str, Tensor]]
    info: dict[str, object]


class RunCheckpoint(Checkpoint):
    """What an ordinary run writes: generators and states of hooks of every process."""

    scheduler: list[State]
    message: Messages
    rng: NotRequired[list[RngState]]
    hooks: NotRequired[list[dict[str, State]]]


def write_checkpoint(runner: Runner, path: Path) -> None:
    """Write the state of a run to `path`, whole or not at all; every process takes part, the first one writes."""
    ranks = _gather(dict(rng=get_rng_state(), hooks=_hook_states(runner)))
    if dist.is_main():
        checkpoint = runner_state(runner)
        checkpoint['rng'] = [rank['rng'] for rank in ranks]
        checkpoint['hooks'] = [rank['hooks'] for rank in ranks]
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        save_tensors(path, checkpoint)
    # A launcher ends all processes when the first one ends: none may leave while the file is being written.
    dist.barrier()


def runner_state(runner: Runner) -> RunCheckpoint:
    """The part of a checkpoint that is the same on every process."""
    loop = runner.train_loop
    config = computed_config(runner.cfg, dist.world_size())
    return dict(
        format=FORMAT, state_dict=cpu_copy(dict(runner.bare_model.state_dict())),
        optimizer=cpu_copy(runner.optim_wrapper.state_dict()),
        scheduler=[_plain_state(scheduler) for scheduler in runner.all_schedulers()],
        message=message_state(runner.message_hub),
        progress=dict(kind=KIND, model=type(runner.bare_model).__name__, epoch=loop.epoch, iter=loop.iter,
                      batch=loop.batch, stop_training=loop.stop_training, train_log=list(runner.train_log),
                      timing=dict(runner.timing), measured_at_start=dict(runner.measured_at_start),
                      world_size=dist.world_size(), events=tensorboard_state(runner)),
        config=config, config_hash=runner_config_hash(config), data_fingerprint=runner.data_fingerprint)


def load_run(path: Path) -> RunCheckpoint:
    """Read a checkpoint of an ordinary run; nothing in it is executed.

    Raises:
        CheckpointError: if it is missing, damaged, or not of such a run.
    """
    return load_ours(path, CHECKPOINT, KIND)


def resume_run(runner: Runner, path: Path) -> None:
    """Put a run where the checkpoint left it.

    Raises:
        CheckpointError: if the file is damaged, or of another algorithm, config or data.
    """
    checkpoint = load_run(path)
    check_run(runner, path, checkpoint)
    _check_place(runner, path, checkpoint['progress'])
    for name in ('rng', 'hooks'):
        if not checkpoint[name] or len(checkpoint[name]) != checkpoint['progress']['world_size']:
            raise damaged(path, f'{name} has {len(checkpoint[name])} entries, one for each process')
    for rank, state in enumerate(checkpoint['rng']):
        check_rng(path, state, f'rng[{rank}]')
    with reading(path):
        runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        runner.bare_model.load_state_dict(checkpoint['state_dict'])
        load_optimizer(path, runner.optim_wrapper, checkpoint['optimizer'],
                       [wrapper.optimizer for wrapper in wrappers_of(runner.optim_wrapper)])
        for scheduler, state in zip(runner.all_schedulers(), checkpoint['scheduler'], strict=True):
            check_scheduler_state(path, state, scheduler)
            scheduler.load_state_dict(state)
        load_message_state(runner.message_hub, checkpoint['message'])
        _load_hook_states(runner, checkpoint['hooks'])
    progress, loop = checkpoint['progress'], runner.train_loop
    loop._epoch, loop._iter, loop.batch = progress['epoch'], progress['iter'], progress['batch']
    loop.stop_training = progress['stop_training']
    runner.train_log, runner.timing = list(progress['train_log']), dict(progress['timing'])
    runner.measured_at_start = dict(progress['measured_at_start'])
    runner.waiting_rng = _own_rng(checkpoint['rng'], runner)
    note_processes(checkpoint, _fate_of_random_numbers(progress['world_size']))
    if dist.is_main():
        # The second one is that of mmengine's LoggerHook, named by the time that our folders leave out.
        for name in ('scalars.json', '.json'):
            _trim_scalars(Path(runner.work_dir) / 'vis_data' / name, loop.iter,
                          loop.epoch if runner.is_epoch_based else loop.iter)
        if progress.get('events') is not None:
            resume_tensorboard(runner, progress['events'])
    logger.info('resumed from %s: %d of %d epochs and %d of %d iterations are finished', path, loop.epoch,
                loop.max_epochs, loop.iter, loop.max_iters)


def check_run(runner: Runner, path: Path, checkpoint: RunCheckpoint) -> None:
    """Refuse a checkpoint of another algorithm, other data or another config, in this order."""
    model = type(runner.bare_model).__name__
    check_origin(path, checkpoint, key='model', method=model, fingerprint=runner.data_fingerprint,
                 differs='other files or another order',
                 otherwise=f'this config trains {model}. Resume with the config that wrote it, or start a new run; '
                           'tools/model_converters/convert_weights.py takes the backbone out of a checkpoint.')
    config = computed_config(runner.cfg, dist.world_size())
    changed = differences(checkpoint['config'], config)
    if changed:
        hint = ''
        if any(item.startswith('train_dataloader.dealt_to') for item in changed):
            hint = (' Its order of the data depends on the numbers of processes and of train_dataloader.num_workers, '
                    'which must stay the same.')
        elif any(item.startswith('train_dataloader.global_batch') for item in changed):
            hint = (f' The batch of all processes together must stay the same: with {dist.world_size()} process(es) '
                    f'set train_dataloader.batch_size to its {dist.world_size()}th part.')
        raise CheckpointError(f'{path} was written with another config: {"; ".join(changed)}.{hint} Resume with the '
                              f"same config, or start a new run (from these weights with load_from='{path}').")


def check_scheduler_state(path: Path, state: State, scheduler: _ParamScheduler) -> None:
    """What a scheduler counts must be of its kind; names and what is None come from the config and stay.

    Raises:
        CheckpointError: naming the key.
    """
    where, present = f'scheduler: {type(scheduler).__name__}', _plain_state(scheduler)
    check_alike(path, state, present, where)
    for name, value in present.items():
        if (value is None or isinstance(value, str)) and state[name] != value:
            raise damaged(path, f'{where}.{name} is {state[name]!r}, not {value!r}')


def _check_place(runner: Runner, path: Path, progress: RunProgress) -> None:
    """What is finished must lie inside the run that this config describes."""
    loop = runner.train_loop
    for name, most in (('epoch', loop.max_epochs), ('iter', loop.max_iters)):
        if progress[name] > most:
            raise damaged(path, f'progress.{name} is {progress[name]} of at most {most}')
    length = len(loop.dataloader) if runner.is_epoch_based else None
    if length is not None and progress['iter'] != progress['epoch'] * length + progress['batch']:
        raise damaged(path, f"progress.iter is {progress['iter']} after {progress['epoch']} epoch(s) of {length} and "
                            f"{progress['batch']} batches")


def describe_last_checkpoint(runner: Runner) -> str:
    """One sentence on the newest checkpoint of a run, for messages."""
    path = Path(runner.work_dir) / LATEST
    if not path.is_file():
        return 'there is no checkpoint yet.'
    progress = load_tensors(path)['progress']
    return (f'the last good checkpoint is {path} (epoch {progress["epoch"]}, iteration {progress["iter"]}).')


def _trim_scalars(path: Path, iteration: int, step: int) -> None:
    """Drop what was logged after the checkpoint, which is about to come again, and what a kill has torn.

    Args:
        iteration, step: the last iteration, and the last step of a measurement (an epoch), that are kept.
    """
    if path.is_file():
        lines = path.read_bytes().decode(errors='replace').splitlines()
        write_text(path, ''.join(f'{line}\n' for line in lines if _is_before(line, iteration, step)))


def _is_before(line: str, iteration: int, step: int) -> bool:
    try:
        entry = parse_json(line, 'a line')
    except DataError:
        return False
    if not isinstance(entry, dict):
        return False
    # Training counts iterations in `step` too; measurements count epochs, whose iteration may be the checkpoint's own.
    at = [(entry.get('iter'), iteration), (entry.get('step'), iteration if 'epoch' in entry else step)]
    return all(value is None or isinstance(value, (int, float)) and value <= most for value, most in at)


def message_state(hub: MessageHub) -> Messages:
    """mmengine's message hub as tensors and plain values."""
    scalars = {name: dict(values=torch.as_tensor(history.data[0], dtype=torch.float64),
                          counts=torch.as_tensor(history.data[1], dtype=torch.int64))
               for name, history in hub.log_scalars.items()}
    info = {name: value for name, value in hub.runtime_info.items() if name not in _INFO_SET_ANEW and _is_plain(value)}
    return dict(scalars=scalars, info=info)


def load_message_state(hub: MessageHub, state: Messages) -> None:
    """Put back what `message_state` returned."""
    for name, history in state['scalars'].items():
        hub.log_scalars[name] = HistoryBuffer(history['values'].numpy(), history['counts'].numpy())
        hub._resumed_keys[name] = True
    for name, value in state['info'].items():
        hub.update_info(name, value)


def _plain_state(scheduler: _ParamScheduler) -> State:
    # What is no plain value (milestones as a Counter, functions) comes from the config.
    return {name: value for name, value in scheduler.state_dict().items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    if type(value) is dict:
        return all(isinstance(key, (str, int)) and _is_plain(item) for key, item in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _hook_states(runner: Runner) -> dict[str, State]:
    return {type(hook).__name__: cpu_copy(hook.state_dict()) for hook in runner.hooks if isinstance(hook, Stateful)}


def _load_hook_states(runner: Runner, states: list[dict[str, State]]) -> None:
    """Each process takes its own; one that was not there before takes the first one's."""
    own = states[dist.rank()] if len(states) == dist.world_size() else states[0]
    for hook in runner.hooks:
        if isinstance(hook, Stateful) and type(hook).__name__ in own:
            hook.load_state_dict(own[type(hook).__name__])
            if len(states) != dist.world_size() and isinstance(hook, SharesState):
                hook.merge_states([state[type(hook).__name__] for state in states])


def rng_of_rank(*parts: object) -> RngState | None:
    """Generators that this process begins with: a stream of its own, which follows from `parts` and the rank.

    None for the first process, whose generators go on as they are: alone it draws what it always drew.
    """
    if dist.rank() == 0:
        return None
    before = get_rng_state()
    seed_everything(derive_seed(*parts, 'rank', dist.rank()))
    state = get_rng_state()
    set_rng_state(before)
    return state


def _own_rng(states: list[RngState], runner: Runner) -> RngState:
    if dist.rank() < len(states):
        return states[dist.rank()]
    # A process that the saved run did not have: numbers of its own, the same at every resume.
    return rng_of_rank(runner.seed, 'resumed', runner.train_loop.iter)


def _gather(value: Kind) -> list[Kind]:
    """`value` of every process, by rank."""
    if dist.world_size() == 1:
        return [value]
    values = [None] * dist.world_size()
    torch_dist.all_gather_object(values, value)
    return values


def _fate_of_random_numbers(was: int) -> str:
    """What becomes of the streams of random numbers when another number of processes goes on."""
    now = dist.world_size()
    noise = (f'the {now} process(es) go on with those of the first {now}, the others end' if now < was else
             f'the first {was} process(es) go on with theirs, {now - was} more begin some of their own')
    return (', but for layers that draw (dropout, drop path) or take statistics of the batch of one process. Of the '
            f'streams of random numbers, one per process, {noise}.')
