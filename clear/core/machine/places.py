"""Folders that a run writes into: room, kind of file system, locks. A dead network mount is given up after a time."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Value = TypeVar('Value')

NETWORK = {'nfs', 'nfs4', 'cifs', 'smb3', 'smbfs', 'lustre', 'gpfs', 'beegfs', 'ceph', 'glusterfs', 'afs', '9p',
           'fuse.sshfs', 'fuse.glusterfs', 'fuse.s3fs', 'fuse.gcsfuse', 'fuse.rclone', 'fuse.juicefs'}
ANSWER_S = 1.5


@dataclass(frozen=True)
class Place:
    """A folder; `answers` is False where its file system said nothing within `ANSWER_S`, and then nothing is known."""

    path: str
    answers: bool = True
    free: int | None = None
    total: int | None = None
    kind: str | None = None
    writable: bool = False
    locks: bool | None = None

    @property
    def is_remote(self) -> bool:
        return self.kind in NETWORK


def place(path: str | Path, mounts: Path = Path('/proc/self/mountinfo')) -> Place:
    """What is known of a folder, or of the nearest one above it that exists."""
    found = within(ANSWER_S, lambda: _look(Path(path), mounts))
    return found or Place(str(path), answers=False)


def within(seconds: float, work: Callable[[], Value]) -> Value | None:
    """What `work` returns; None if it takes longer. It then goes on in a thread that no one waits for."""
    answer: list[Value] = []
    thread = threading.Thread(target=lambda: answer.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else None


def _look(path: Path, mounts: Path) -> Place:
    folder = path.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return Place(str(path), kind=_kind(folder, mounts))
    writable, locks = _try_file(folder)
    return Place(str(path), True, usage.free, usage.total, _kind(folder, mounts), writable, locks)


def _try_file(folder: Path) -> tuple[bool, bool | None]:
    """Whether a file can be made there, and be locked."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b'x')
            file.flush()
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True, False
            return True, True
    except OSError:
        return False, None


def _kind(folder: Path, mounts: Path) -> str | None:
    """The file system's name of the mount that holds a folder: that of the longest mount point, the last if several."""
    try:
        lines = mounts.read_text(errors='replace').splitlines()
        folder = folder.resolve()
    except OSError:
        return None
    best, kind = -1, None
    for line in lines:
        left, _, right = line.partition(' - ')
        fields, after = left.split(), right.split()
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r'\\([0-7]{3})', lambda code: chr(int(code[1], 8)), fields[4])
        inside = folder == Path(point) or str(folder).startswith(point.rstrip('/') + os.sep)
        if inside and len(point) >= best:
            best, kind = len(point), after[0]
    return kind
