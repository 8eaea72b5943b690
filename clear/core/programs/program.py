"""How every program of `tools/` begins and ends: signals, messages, exit codes."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from clear.core.errors import (
    NO_ROOM,
    ClearError,
    ConfigError,
    DataError,
    ElsewhereError,
    Interrupted,
    report_error,
    unwritable,
)
from clear.core.programs import signals
from clear.core.programs.heartbeat import heartbeat

# What torch's back ends and its store say in a process whose peer is gone: one that met an error ends at once.
_LOST = re.compile(r'(gloo|TCPStore|store|NCCL).*(Connection closed by peer|Connection reset by peer|Broken pipe|'
                   r'remote process exited)|Connection was likely closed', re.DOTALL)


def run_program(work: Callable[[], int | None]) -> int:
    """Call `work` and return the exit code of the program, after one line on stderr if it could not be done.

    0, or what `work` returns; 2 for an error that the user can mend; 143 after SIGTERM, 130 after Ctrl-C, and 141 where
    whoever read the output (`| head`) has gone. Other errors are ours and come with their traceback.
    """
    with signals.stoppable(), heartbeat():
        try:
            code = work() or 0
            sys.stdout.flush()
            return code
        except SystemExit:  # argparse
            raise
        except BaseException as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                return 128 + signal.SIGPIPE
            told = told_as(error)
            if told is None:
                raise
            if signals.received():
                signals.ignore_signals()
            return report_error(told)
        finally:
            signals.finish_in_peace()


def _output_is_closed() -> bool:
    """Whether nobody reads what this program prints any more, as after `| head`; the rest of it then goes nowhere."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # no file behind it
        return False
    pipe = select.poll()
    pipe.register(output, 0)
    if not pipe.poll(0):  # errors are reported unasked
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def told_as(error: BaseException) -> ClearError | None:
    """The error as the user is told of it; None if it is ours."""
    was_stopped = any(isinstance(each, signals.Stopped) for each in _chain(error))
    # What breaks after a signal breaks by it: a library that reports something else, a process whose peers have ended,
    # a part that "cannot be built" because an import was cut in two.
    is_own = isinstance(error, Interrupted) or isinstance(error, ClearError) and not signals.interrupted()
    if was_stopped or signals.received() and not is_own:
        return Interrupted('Stopped by a signal. What was saved before is kept: a run goes on with --resume, or begins '
                           'anew with the same command if it had saved nothing.')
    if isinstance(error, ClearError):
        return error
    if any(isinstance(each, RuntimeError) and _LOST.search(str(each)) for each in _chain(error)):
        return ElsewhereError('Another process of this run has ended, and this one cannot go on without it; its '
                              'message says why.')
    if isinstance(error, OSError) and error.errno in (*NO_ROOM, errno.EROFS):
        return unwritable(error.filename or 'A file', error)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return DataError(f'{error.filename or "A file"}: no file can have so long a name.')
    if isinstance(error, PermissionError):
        return ConfigError(f'{error.filename or "A file"}: {error.strerror}. Give this user access to it, or choose '
                           'another place.')
    if isinstance(error, IsADirectoryError):
        return ConfigError(f'{error.filename or "A file"}: {error.strerror}. Name a file.')
    if isinstance(error, NotADirectoryError) or isinstance(error, FileExistsError) and error.filename is not None \
            and Path(error.filename).is_file():
        return ConfigError(f'{error.filename or "A file"}: {error.strerror}. A file lies where a folder should be '
                           'made; choose another place.')
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
