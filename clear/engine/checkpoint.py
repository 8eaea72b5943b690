"""Checkpoints of a continual run: one file per experience, and `latest.pth`."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors, save_tensors
from clear.core.logs import logger
from clear.models import load_weights

FORMAT = 1
LATEST = 'latest.pth'
ITERATION = 'iteration.pth'
KEYS = ('format', 'state_dict', 'optimizer', 'scheduler', 'strategy', 'rng', 'progress', 'acc_matrix', 'config',
        'config_hash', 'data_fingerprint')


def save_checkpoint(work_dir: Path, checkpoint: dict[str, Any], experience: int, *, keep_as_experience: bool,
                    max_keep: int | None = None) -> None:
    """Write `latest.pth` and, if asked for, `exp_<experience>.pth`; each is whole or absent.

    Args:
        max_keep: keep only that many `exp_*.pth`, the newest; None keeps all.
    """
    save_tensors(work_dir / LATEST, checkpoint)
    if keep_as_experience:
        link_checkpoint(work_dir / LATEST, work_dir / f'exp_{experience}.pth')
        if max_keep is not None:
            for old in experience_checkpoints(work_dir)[:-max_keep]:
                old.unlink()


def experience_checkpoints(work_dir: Path) -> list[Path]:
    """The `exp_*.pth` of a run, oldest experience first."""
    numbered = [(int(match[1]), path) for path in work_dir.glob('exp_*.pth')
                if (match := re.fullmatch(r'exp_(\d+)\.pth', path.name))]
    return [path for _, path in sorted(numbered)]


def link_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a second name, which later writes under the first one leave alone."""
    # One file under two names: the next latest.pth is renamed over its name and leaves this one alone.
    temporary = target.with_name(f'.{target.name}.tmp')
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one of our checkpoints; nothing in it is executed.

    Raises:
        CheckpointError: if it is missing, damaged, or not of our format.
    """
    checkpoint = load_tensors(path)
    if not isinstance(checkpoint, dict) or checkpoint.get('format') != FORMAT:
        raise CheckpointError(f'{path} is no checkpoint of this framework (format {FORMAT}). To start from its weights '
                              f"use load_from='{path}' in the config.")
    missing = [key for key in KEYS if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{path} lacks {', '.join(missing)}; it cannot be resumed from.")
    return checkpoint


def load_model_weights(model: nn.Module, path: Path) -> None:
    """Put the weights of one of our checkpoints, or of any file that `load_weights` reads, into `model`.

    Raises:
        CheckpointError: if the file cannot be read, or is a checkpoint of another model.
    """
    state = load_tensors(path)
    if not isinstance(state, dict) or state.get('format') != FORMAT:
        logger.info('%s', load_weights(model, path))
        return
    try:
        model.load_state_dict(state['state_dict'])
    except RuntimeError as error:
        reasons = ' '.join(line.strip() for line in str(error).splitlines()[1:])
        raise CheckpointError(f"{path} is a checkpoint of another model than the config's: {reasons}") from error


def find_checkpoint(resume: str | bool, work_dir: Path) -> Path:
    """The file that `--resume [CKPT]` means: the given one, else `latest.pth` or `iteration.pth` of the run.

    Raises:
        CheckpointError: if it does not exist.
    """
    path = Path(resume) if isinstance(resume, str) else work_dir / LATEST
    if not isinstance(resume, str) and not path.is_file() and (work_dir / ITERATION).is_file():
        path = work_dir / ITERATION  # stopped inside the first experience
    if not path.is_file():
        raise CheckpointError(f'Nothing to resume: {path} does not exist.')
    return path


def cpu_copy(state: Any) -> Any:
    """Nested state with every tensor copied to the CPU."""
    if isinstance(state, torch.Tensor):
        return state.detach().to('cpu', copy=True)
    if isinstance(state, dict):
        return {key: cpu_copy(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(cpu_copy(value) for value in state)
    return state
