"""Where a checkpoint comes from: refusing one of another method or other data, telling of other processes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from clear.core import dist
from clear.core.errors import CheckpointError
from clear.core.logs import logger

if TYPE_CHECKING:
    from clear.engine.checkpoint import Checkpoint


def check_origin(path: Path, checkpoint: Checkpoint, *, key: str, method: str, otherwise: str, fingerprint: str,
                 differs: str) -> None:
    """Refuse a checkpoint of another method, then one of other data.

    Args:
        key: where `progress` says which method wrote the checkpoint.
        method: of this run; `otherwise` is what to tell of it, and what to do, if another one wrote the checkpoint.
        fingerprint: of this run's data; `differs` is what may be different where it is another.

    Raises:
        CheckpointError: naming both methods, or both fingerprints.
    """
    was = checkpoint['progress'][key]
    if was != method:
        raise CheckpointError(f'{path} was written by {was}; {otherwise}')
    old = checkpoint['data_fingerprint']
    if old != fingerprint:
        raise CheckpointError(f'{path} was written on other data (fingerprint {old[:12]}, now {fingerprint[:12]}): '
                              f'{differs}. Resume on the same data.')


def note_processes(checkpoint: Checkpoint, consequence: str) -> None:
    """Tell if another number of processes wrote a checkpoint.

    Args:
        consequence: how the sentence goes on that ends with 'equal up to rounding'.
    """
    was, now = world_size_of(checkpoint), dist.world_size()
    if was != now:
        logger.info('The checkpoint was written by %d process(es); this run has %d. The global batches stay the same, '
                    'and results are equal up to rounding%s', was, now, consequence)


def world_size_of(checkpoint: Checkpoint) -> int:
    """Processes that wrote a checkpoint; those of early versions were written by one."""
    return checkpoint['progress'].get('world_size', 1)
