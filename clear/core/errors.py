"""Errors that a user can act on. A program prints them as one message and ends with code 2."""

from __future__ import annotations

import difflib
import errno
import os
import re
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from clear.core.programs import signals
from clear.core.programs.names import as_typed


class ClearError(Exception):
    """Base of the errors whose message alone tells the user what to do."""


class ConfigError(ClearError, ValueError):
    """A config, an option or a combination of them that cannot be run."""


class RegistryError(ClearError, KeyError):
    """A `type` that no registry knows, or one name given to two classes; a KeyError, as in other registries."""

    __str__ = Exception.__str__  # a KeyError shows the repr of its message


class DataError(ClearError, ValueError):
    """Data that are missing, incomplete or not what the config says."""


class BusyError(DataError):
    """Something that another process holds for now; later the same call can be made again."""


class ElsewhereError(DataError):
    """Another process of this run met an error, and says which."""


class CheckpointError(ClearError, ValueError):
    """A checkpoint that is unreadable, foreign, or fits too little of the model."""


class TrainingError(ClearError):
    """Training that cannot go on, e.g. because the loss is not finite."""


class WriteError(ClearError, OSError):
    """A file that cannot be written: no room, a limit, a folder that is read-only."""


class Interrupted(ClearError):
    """The process was told to stop (SIGTERM, Ctrl-C) and has saved what it had."""


# What a program reports as a message in place of a traceback.
USER_ERRORS = (ClearError,)
RANK_0_FIRST_S = 3.0
# C0, DEL and C1 but for tab and newline; the signs that turn the direction of writing; surrogates.
_UNPRINTABLE = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]')
# A full disk, a full quota, and a file past the size limit of the process.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REMEDIES = dict.fromkeys((errno.EEXIST, errno.ENOTDIR), 'Move the file that lies where a folder should be') | {
    errno.EISDIR: 'Name a file'}


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """The known names most like `name`, ready for a message: `'a', 'b'`; empty if nothing is near."""
    by_lower = {str(item).lower(): str(item) for item in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=count, cutoff=0.5)
    return ', '.join(f"'{by_lower[item]}'" for item in close)


def suggestion(name: object, known: Iterable[str]) -> str:
    """What is put behind a message about an unknown name: ` Did you mean 'a', 'b'?`; empty if nothing is near."""
    near = nearest(str(name), known)
    return f' Did you mean {near}?' if near else ''


def printable(text: str) -> str:
    """`text` with control characters (but for line ends and tabs) and halves of surrogate pairs as escapes.

    Names from files reach the terminal this way: they cannot move its cursor, and can always be encoded.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode('unicode_escape').decode('ascii'), text)


def unwritable(path: object, error: OSError) -> WriteError:
    """The error of a file that cannot be written, from the system's."""
    remedy = 'Free some space' if error.errno in NO_ROOM else _REMEDIES.get(error.errno, 'Make its folder writable')
    told = WriteError(f'{path} cannot be written: {error.strerror or error}. {remedy}, or write elsewhere. What was '
                      'saved before is whole, and --resume, of a program that has it, goes on from it.')
    told.errno = error.errno
    return told


def report_error(error: Exception) -> int:
    """Write a user error to stderr as one message and return the exit code of the program: 2; after SIGTERM 143, after
    Ctrl-C 130.
    """
    # Every process of a distributed run meets the same error; one copy is enough, except where ranks differ.
    is_own = isinstance(error, (DataError, TrainingError)) and not isinstance(error, ElsewhereError)
    if os.environ.get('RANK', '0') == '0' or is_own:
        encoding = getattr(sys.stderr, 'encoding', None) or 'utf-8'
        message = printable(f'error: {as_typed(_message(error))}\n')
        sys.stderr.write(message.encode(encoding, 'backslashreplace').decode(encoding))
    else:
        # A launcher stops all processes when the first one ends: leave rank 0 the time to say why. Where the launcher
        # stops this one, it has.
        with suppress(signals.Stopped):
            time.sleep(RANK_0_FIRST_S)
    return 128 + (signals.received() or signal.SIGTERM) if isinstance(error, Interrupted) else 2


def _message(error: Exception) -> str:
    """The message alone: torch puts a traceback in front of one that comes out of a loader's worker."""
    text = str(error)
    name = f'{type(error).__module__}.{type(error).__qualname__}: '
    return text.rpartition(name)[2].strip() if text.startswith('Caught ') and name in text else text
