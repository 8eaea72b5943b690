"""Records that other programs keep of a run, TensorBoard's event files and W&B's runs, over a stop."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.files import read_text, write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

EVENT_FILES = 'events.out.tfevents.*'
WANDB_ID = 'wandb_id.txt'
_ID = re.compile(r'[A-Za-z0-9_-]{1,64}')


def wandb_files(folder: str) -> list[str]:
    """Patterns of what W&B writes into a folder."""
    return [f'{folder}/{name}' for name in ('run-*', 'offline-run-*', 'latest-run', 'debug*.log')]


def event_file(writer: SummaryWriter) -> str:
    """Name of the file that a `SummaryWriter` writes."""
    return Path(writer.file_writer.event_writer._file_name).name


def event_sizes(folder: str | Path, names: Iterable[str]) -> dict[str, int]:
    """Name -> bytes of a run's own files in `folder`, for a checkpoint; writers must have flushed."""
    files = {name: Path(folder) / name for name in sorted(names)}
    return {name: path.stat().st_size for name, path in files.items() if path.is_file()}


def cut_events(folder: str | Path, sizes: Mapping[str, int], is_shared: bool) -> None:
    """Take away what a run recorded after `event_sizes` gave `sizes`: a resumed run records it again.

    Event files only grow, by whole records. A writer that is open in `folder` must be closed before.

    Args:
        is_shared: other runs record in `folder` too: files that the checkpoint does not know may be theirs, and stay.
    """
    for path in sorted(Path(folder).glob(EVENT_FILES)):
        if path.name in sizes:
            os.truncate(path, min(path.stat().st_size, sizes[path.name]))
        elif not is_shared:
            path.unlink()


def wandb_run_id(work_dir: str | Path) -> str:
    """The id of the W&B run of a work_dir, the same after a resume. It stands in a file of its own, because W&B wants
    it when a logger is built, before any checkpoint is read.
    """
    path = Path(work_dir) / WANDB_ID
    known = read_text(path).strip() if path.is_file() else ''
    if _ID.fullmatch(known):
        return known
    made = secrets.token_hex(4)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, f'{made}\n')
    return made
