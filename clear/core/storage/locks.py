"""One process at a time in a folder: an advisory lock that goes with its holder, however that ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clear.core.errors import ClearError, ConfigError, unwritable
from clear.core.logs import logger

# What file systems without locks say, as the network ones of many clusters do.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_descriptors: set[int] = set()


@contextmanager
def locked(path: Path, remedy: str, error: type[ClearError] = ConfigError) -> Iterator[None]:
    """Hold the file `path` against other processes inside the block. Its folder must exist.

    A file system that has no locks gets one warning, and the block is run without.

    Args:
        remedy: how to go on where another process holds it; ends the message.
        error: what is raised there.

    Raises:
        WriteError: if the file cannot be made.
    """
    descriptor = _take(path, remedy, error)
    try:
        yield
    finally:
        # Removed while it is still held, and only if it is the file that was locked: see `_take`.
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _take(path: Path, remedy: str, error: type[ClearError]) -> int:
    import fcntl

    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as failed:
            raise unwritable(path, failed) from failed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as busy:
            holder = os.read(descriptor, 200).decode(errors='replace').strip() or '(unknown)'
            os.close(descriptor)
            raise error(f'{path.parent} is in use by process {holder}. {remedy}') from busy
        except OSError as failed:
            if failed.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            logger.warning('%s: this file system has no locks (%s), so nothing keeps two runs apart that write into '
                           'one folder.', path.parent, failed.strerror)
        # The holder before may have removed the file after it was opened here; the lock must be on the one that is
        # there now.
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                break
        os.close(descriptor)
    _descriptors.add(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f'{os.getpid()} on {socket.gethostname()}\n'.encode())
    return descriptor


def _close_in_child() -> None:
    # A loader's worker outlives a killed run by seconds; with an open copy it would hold the lock as long.
    for descriptor in _descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)
