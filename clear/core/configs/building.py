"""One message for what a constructor refuses: a value of a config may reach any class of any library."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from clear.core.errors import ClearError, ConfigError, DataError

# What constructors raise for values that they cannot use; a size of 10**30 gives most of them.
BUILD_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
                MemoryError, ImportError)


@contextmanager
def building(what: str) -> Iterator[None]:
    """Around constructors that get values of a config: what they raise becomes one message. Also a decorator.

    Errors that tell the user what to do already pass as they are.

    Args:
        what: beginning of the message, as in 'The config'.

    Raises:
        ConfigError: naming the class that refused its arguments, where mmengine built it.
        DataError: for a file that is missing or cannot be read.
    """
    try:
        yield
    except ClearError:
        raise
    except OSError as error:
        wrong = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read: {error.strerror}'
        raise DataError(f'{error.filename or error} {wrong}. Check data_root and the paths of the data sets in the '
                        'config.') from error
    except BUILD_ERRORS as error:
        raise ConfigError(f'{what} cannot be built: {_owner(error)}{reason(error)}') from error


def reason(error: Exception) -> str:
    """What went wrong in a constructor; of a bare assertion, the line that failed."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = text.partition('\nException raised from ')[0]  # a stack of C++ calls follows in some of torch's
    return text or traceback.extract_tb(error.__traceback__)[-1].line or type(error).__name__


def _owner(error: Exception) -> str:
    """'SGD: ' of the innermost class that mmengine was building, with the class of the same name that it hides."""
    found: dict[str, object] = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if _builds(frame):
            found = frame.f_locals
    cls = found.get('obj_cls')
    if cls is None:
        return ''
    name = getattr(cls, '__name__', str(cls))
    hidden = found['registry'].hidden_by(name) if hasattr(found['registry'], 'hidden_by') else None
    return f"{name} (there is a '{hidden}' too): " if hidden and isinstance(error, TypeError) else f'{name}: '


def _builds(frame: FrameType) -> bool:
    return frame.f_code.co_name == 'build_from_cfg' and frame.f_globals.get('__name__', '').startswith('mmengine.')
