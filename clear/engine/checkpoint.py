"""Checkpoints of a continual run: one file per experience, and `latest.pth`."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer

from clear.core.errors import CheckpointError
from clear.core.files import atomic_writer, load_tensors, save_tensors
from clear.core.logs import logger
from clear.core.storage.damage import (
    COUNT,
    FLAG,
    NUMBER,
    RNG,
    TENSORS,
    Each,
    Maybe,
    OrNone,
    Shape,
    Such,
    check_alike,
    check_finite,
    check_shape,
)
from clear.models import load_weights

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper, OptimWrapperDict

    from clear.continual.state import StrategyState
    from clear.continual.training.iteration import Inside
    from clear.core.seeding import RngState
    from clear.core.types import State

Kind = TypeVar('Kind')

FORMAT = 1
LATEST = 'latest.pth'
ITERATION = 'iteration.pth'
# In the folder of a run that a sweep has begun to replace, until its turn comes: a resume does not keep that run.
OUTDATED_FILE = '.outdated'
# exp_0.pth, epoch_1.pth, iter_100.pth ...
KEPT = ('exp', 'epoch', 'iter')
# Of one parameter in an optimiser: averages are tensors; others may be numbers (steps) or lists (LBFGS).
_STATE = Such('a tensor or numbers', lambda value: not isinstance(value, (str, dict)))
_AVERAGES = ('buffer', 'avg', 'avg_sq')
# What every checkpoint of ours holds.
COMMON = dict(format=int, state_dict=TENSORS, optimizer=dict, config=dict, config_hash=str, data_fingerprint=str)
_INSIDE = dict(loader=dict(seeds=Each(int), position=COUNT), gradients=Each(Maybe(torch.Tensor), names=True),
               sums=torch.Tensor, stop_training=FLAG, seconds_used=NUMBER, training=Each(bool),
               requires_grad=Each(bool), scaler=Maybe(dict))
CONTINUAL = dict(
    COMMON, config=dict(seed=COUNT, model=dict, cl_strategy=dict(type=object)),
    scheduler=dict(scheduler=Maybe(dict), first_settings=Maybe(Each(dict))), rng=RNG,
    strategy=dict(plugins=Each(dict(fields=Each(object, names=True)), names=True), fields=Each(object, names=True),
                  metrics=Each({'class': str, 'fields': Each(object, names=True)}), last_metrics=dict,
                  criterion=Maybe({'class': str, 'state': TENSORS, 'extras': dict}),
                  model_extras=Each(Each(object, names=True), names=True)),
    optimizer_parameters=Maybe(Each(Each(str))), acc_matrix=OrNone(Each(Each(OrNone(NUMBER)))), inside=Maybe(_INSIDE),
    settings=Maybe(dict(plugins=dict, fields=dict, model_extras=dict)),
    progress=dict(experience=COUNT, timing=dict(train_s=NUMBER, eval_s=NUMBER), strategy=str,
                  train_log=OrNone(Each(dict(experience=COUNT, loss=NUMBER, accuracy=NUMBER, iterations=COUNT))),
                  streaming_matrix=OrNone(Each(Each(OrNone(NUMBER)))), branched_from=Maybe(dict),
                  world_size=Maybe(COUNT),
                  frozen=Maybe(Each(str)), methods=Maybe(Each(int, names=True)),
                  logs=Maybe(dict(ResumableCSVLogger=Maybe({'training_results.csv': COUNT, 'eval_results.csv': COUNT}),
                                  ResumableTensorboardLogger=Maybe(Each(COUNT, names=True)),
                                  ResumableWandBLogger=Maybe(dict(step=COUNT, exp_count=COUNT))))))


class Checkpoint(TypedDict):
    """What the checkpoints of both kinds of run hold; the shapes above say what is looked at when one is read."""

    format: int
    state_dict: dict[str, torch.Tensor]
    optimizer: State | None
    config: dict[str, Any]
    config_hash: str
    data_fingerprint: str
    progress: dict[str, Any]


class ContinualCheckpoint(Checkpoint):
    """What a continual run writes; with `inside` it is of an experience that is not finished."""

    scheduler: State
    rng: RngState
    strategy: StrategyState
    optimizer_parameters: NotRequired[list[list[str]] | None]
    acc_matrix: list[list[float | None]] | None
    inside: NotRequired[Inside]
    settings: NotRequired[dict[str, State] | None]


def save_checkpoint(work_dir: Path, checkpoint: ContinualCheckpoint, experience: int, *, keep_as_experience: bool,
                    max_keep: int | None = None) -> None:
    """Write `latest.pth` and, if asked for, `exp_<experience>.pth`; each is whole or absent.

    Args:
        max_keep: keep only that many `exp_*.pth`, the newest; None keeps all.
    """
    save_tensors(work_dir / LATEST, checkpoint)
    if keep_as_experience:
        keep_latest(work_dir, experience, max_keep)


def keep_latest(work_dir: Path, experience: int, max_keep: int | None = None) -> None:
    """Give `latest.pth` the name of its experience too, where it has not got it yet."""
    path = work_dir / f'exp_{experience}.pth'
    if not path.is_file() or not path.samefile(work_dir / LATEST):
        link_checkpoint(work_dir / LATEST, path)
    if max_keep is not None:
        for old in experience_checkpoints(work_dir)[:-max_keep]:
            old.unlink()


def experience_checkpoints(work_dir: Path) -> list[Path]:
    """The `exp_*.pth` of a run, oldest experience first."""
    return numbered_checkpoints(work_dir, 'exp')


def numbered_checkpoints(work_dir: Path, kind: str) -> list[Path]:
    """The `<kind>_<n>.pth` of a run, smallest n first."""
    numbered = [(int(match[1]), path) for path in work_dir.glob(f'{kind}_*.pth')
                if (match := re.fullmatch(rf'{kind}_(\d+)\.pth', path.name))]
    return [path for _, path in sorted(numbered)]


def link_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a second name, which later writes under the first one leave alone."""
    # One file under two names: the next latest.pth is renamed over its name and leaves this one alone.
    temporary = target.with_name(f'.{target.name}.tmp')
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without links
        with source.open('rb') as whole, atomic_writer(target) as copy:
            shutil.copyfileobj(whole, copy)
        return
    temporary.replace(target)


def load_checkpoint(path: Path) -> ContinualCheckpoint:
    """Read a checkpoint of a continual run; nothing in it is executed.

    Raises:
        CheckpointError: if it is missing, damaged, or not of our format.
    """
    return load_ours(path, CONTINUAL)


def load_ours(path: Path, shape: Shape, kind: str | None = None) -> dict[str, Any]:
    """A checkpoint of our format.

    Args:
        shape: of what one of these runs holds.
        kind: the mark in `progress` of the runner that writes such files; continual runs have none.

    Raises:
        CheckpointError: if it is missing, damaged, of another format or of another runner.
    """
    if Path(path).is_dir():
        raise CheckpointError(f'{path} is a folder; a checkpoint is a file. Move the folder away.')
    checkpoint = load_tensors(path)
    if not isinstance(checkpoint, dict) or checkpoint.get('format') != FORMAT:
        raise CheckpointError(f'{path} is no checkpoint of this framework (format {FORMAT}). To start from its weights '
                              f"use load_from='{path}' in the config.")
    if checkpoint.get('published'):
        raise CheckpointError(f'{path} was published: it holds weights alone, and no run can be resumed from it. To '
                              f"start from them use load_from='{path}' in the config.")
    progress = checkpoint.get('progress')
    was = progress.get('kind') if isinstance(progress, dict) else None if 'strategy' in checkpoint else kind
    if was != kind:
        was, now = (f'a {name}' if name else 'a continual run' for name in (was, kind))
        raise CheckpointError(f'{path} was written by {was}, not by {now}; it cannot be resumed from. To start from '
                              f"its weights use load_from='{path}'.")
    check_shape(path, checkpoint, shape)
    return checkpoint


def load_model_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of one of our checkpoints, or of any file that `load_weights` reads, into a model to be measured.

    Raises:
        CheckpointError: if the file cannot be read, is of another model, or a tensor is missing, of another shape or
            not finite: nothing that is measured may stay as it was drawn.
    """
    state = load_tensors(path)
    if not isinstance(state, dict) or state.get('format') != FORMAT:
        logger.info('%s', load_weights(model, path, removed=()))
    else:
        check_shape(path, state, dict(state_dict=TENSORS))
        try:
            model.load_state_dict(state['state_dict'])
        except RuntimeError as error:
            reasons = ' '.join(line.strip() for line in str(error).splitlines()[1:])
            raise CheckpointError(f"{path} is a checkpoint of another model than the config's: {reasons}") from error
    check_finite(path, model.state_dict(), 'what it measures would mean nothing. Take an earlier checkpoint.')


def load_optimizer(path: Path, target: Optimizer | OptimWrapper | OptimWrapperDict, state: State,
                   optimizers: Sequence[Optimizer]) -> None:
    """Put a saved state into what holds some optimisers; their settings must all have been saved.

    Args:
        target: the optimiser itself, or mmengine's wrapper of one or several.

    Raises:
        CheckpointError: naming the setting that is missing or of another kind.
    """
    before = [[_settings(group) for group in optimizer.param_groups] for optimizer in optimizers]
    target.load_state_dict(state)
    for optimizer, groups in zip(optimizers, before):
        for position, (present, group) in enumerate(zip(groups, optimizer.param_groups)):
            check_alike(path, _settings(group), present, f'optimizer.param_groups[{position}]')
            check_shape(path, group, dict(initial_lr=Maybe(NUMBER)), f'optimizer.param_groups[{position}]')
        for values in optimizer.state.values():
            check_shape(path, values, {name: Maybe(torch.Tensor) if name.endswith(_AVERAGES) else _STATE
                                       for name in values}, 'optimizer.state')


def _settings(group: State) -> State:
    return {name: value for name, value in group.items() if name != 'params'}


def is_begun(work_dir: Path) -> bool:
    """Whether the run in a folder has saved something that it can go on from, and is not to be replaced."""
    return any((work_dir / name).is_file() for name in (LATEST, ITERATION)) and not (work_dir / OUTDATED_FILE).exists()


def find_checkpoint(resume: str | bool, work_dir: Path) -> Path:
    """The file that `--resume [CKPT]` means: the given one, else `latest.pth` or `iteration.pth` of the run.

    Without them it is the last of those that are kept: an ordinary run writes `epoch_1.pth` before its first
    `latest.pth`, and may be killed between the two.

    Raises:
        CheckpointError: if it does not exist.
    """
    path = Path(resume) if isinstance(resume, str) else work_dir / LATEST
    if not isinstance(resume, str) and not path.is_file():
        if (work_dir / ITERATION).is_file():
            path = work_dir / ITERATION  # stopped inside the first experience
        else:
            kept = (numbered_checkpoints(work_dir, kind) for kind in KEPT)
            path = next((paths[-1] for paths in kept if paths), path)
    if not path.is_file():
        raise CheckpointError(f'Nothing to resume: {path} does not exist.')
    return path


def cpu_copy(state: Kind) -> Kind:
    """Nested state with every tensor copied to the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to('cpu', copy=True)
    if isinstance(state, dict):
        return {key: cpu_copy(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(cpu_copy(value) for value in state)
    return state
