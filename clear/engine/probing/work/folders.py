"""The folders of jobs: what a task keeps there is of one job and of what that job read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import read_json, write_json

FOLDER = 'jobs'
# What the files beside it belong to, and what only the engine writes there.
IDENTITY_FILE, RESULT_FILE, LOCK_FILE = 'job.json', 'result.json', '.lock'
# A folder that is not whole yet. No file of a writer is called so: those have a suffix, and are removed as files.
MAKING = '.making.'


def job_folder(work_dir: Path, key: str) -> Path:
    """Where the job of this key keeps its files."""
    return work_dir / FOLDER / key


def open_folder(folder: Path, identity: Mapping[str, object], keep: bool) -> Path:
    """The folder, made if need be, and emptied if what lies there is not of this identity, or not to be kept.

    Args:
        identity: plain values: the hash of a job, and the fingerprints of what it reads.
        keep: go on with what a stopped run left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not keep or _identity(folder) != identity:
        # Its name goes first: what a kill leaves of the rest is nobody's.
        (folder / IDENTITY_FILE).unlink(missing_ok=True)
        for path in sorted(folder.iterdir()):
            if path.name != LOCK_FILE:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        write_json(folder / IDENTITY_FILE, identity)
    for path in folder.glob('.*.tmp'):  # of writers that were killed
        if path.is_file():
            path.unlink()
    return folder


def _identity(folder: Path) -> object:
    try:
        return read_json(folder / IDENTITY_FILE)
    except DataError:
        return None
