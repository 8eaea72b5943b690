"""How much each parameter mattered to an earlier training: a file beside its checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from clear.core.errors import CheckpointError
from clear.core.files import load_tensors

IMPORTANCE_FILE = 'importance.pth'


def read_importance(checkpoint: Path) -> dict[str, Tensor]:
    """What lies beside a checkpoint, a tensor for each parameter.

    Raises:
        CheckpointError: if it is not there, or holds anything else.
    """
    path = checkpoint.parent / IMPORTANCE_FILE
    if not path.is_file():
        raise CheckpointError(f'{path} is not there; a run with an ImportanceHook writes it.')
    found = load_tensors(path)
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f'{path} does not hold a tensor for each parameter.')
    return found
