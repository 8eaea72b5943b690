"""Disk space for stored maps: those that were used longest ago go where others need their room."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from clear.core.errors import BusyError
from clear.core.logs import logger
from clear.features.bank import META_FILE, FeatureBank
from clear.features.writing import remove_folder

_TURN = '.turn'
_PARTIAL, _LOCK = '.partial', 'lock'  # of banks in the making


def make_room(root: Path, needed: Mapping[Path, int], budget: int) -> None:
    """Delete banks below `root` that no process reads, the one used longest ago first, then what stopped runs have not
    finished, until all fits; the log names each. To be called `in_turn`.

    Args:
        needed: banks that are to be there, and their bytes, which are no more than the budget.
        budget: bytes that all banks together may take.

    Raises:
        BusyError: if what others read or make is in the way.
    """
    kept = {*needed, *(path.with_name(f'{path.name}{_PARTIAL}') for path in needed)}
    others = {path: _size(path) for path in root.iterdir() if path.is_dir() and path not in kept}
    excess = sum(needed.values()) + sum(others.values()) - budget
    finished = {path: (path / META_FILE).stat().st_mtime_ns for path in others
                if not path.name.endswith(_PARTIAL) and (path / META_FILE).is_file()}
    # A lock in it outlives a killed run as a file, and is held by none.
    begun = {path: 0 for path in others if path.name.endswith(_PARTIAL) and (path / _LOCK).is_file()}
    for found, lock in ((finished, META_FILE), (begun, _LOCK)):
        for path in sorted(found, key=lambda path: (found[path], path.name)):
            if excess <= 0:
                return
            with _open(path / lock) as descriptor:
                if _lock(descriptor, shared=False):
                    remove_folder(path)
                    excess -= others[path]
                    logger.info('maps deleted to make room (budget_gb): %s, %.2f GB', path, others[path] / 1e9)
    if excess > 0:
        raise BusyError(f'{root}: {excess / 1e9:,.2f} GB more than budget_gb are in use by other runs. '
                        'Wait for them, or raise budget_gb.')


def hold(bank: FeatureBank, owner: object) -> bool:
    """Keep a bank from being deleted as long as `owner` lives; False if it is gone already. To be called `in_turn`."""
    try:
        descriptor = os.open(bank.path / META_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    _lock(descriptor, shared=True)
    with suppress(OSError):  # a folder of others
        os.utime(bank.path / META_FILE)
    weakref.finalize(owner, os.close, descriptor)
    return True


@contextmanager
def in_turn(root: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    import fcntl

    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / _TURN, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, shared: bool) -> bool:
    """Whether the file could be locked at once; also where the file system has no locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_NB | (fcntl.LOCK_SH if shared else fcntl.LOCK_EX))
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def _open(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in path.iterdir() if each.is_file())
