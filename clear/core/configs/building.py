"""One message for what a constructor refuses: a value of a config may reach any class of any library."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from clear.core.configs.signatures import accepted_arguments, unknown_key
from clear.core.errors import ClearError, ConfigError, DataError

# What constructors raise for values that they cannot use; a size of 10**30 gives most of them.
BUILD_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
                MemoryError, ImportError)
_UNEXPECTED = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")


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
        told = _misspelt(error) or f'{_owner(error)}{reason(error)}'
        raise ConfigError(f'{what} cannot be built: {told}') from error


def reason(error: Exception) -> str:
    """What went wrong in a constructor; of a bare assertion, the line that failed."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    text = text.partition('\nException raised from ')[0]  # a stack of C++ calls follows in some of torch's
    return text or traceback.extract_tb(error.__traceback__)[-1].line or type(error).__name__


def _misspelt(error: Exception) -> str:
    """Of an argument that a class or function does not take: where it stands, and the nearest that it takes."""
    found = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    while error.__cause__ is None and isinstance(error.__context__, TypeError):
        error = error.__context__  # mmengine's call of hooks says the same again, `from None`
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builds = [frame.f_locals for frame in frames if _builds(frame) and 'obj_cls' in frame.f_locals]
    if found is None or not builds:
        return ''
    name, key = found.groups()
    # The class that was asked for, which may pass arguments on to its bases; else what a function at the end calls.
    built, last = builds[-1]['obj_cls'], frames[-1]
    called = [built, *last.f_locals.values(), last.f_globals.get(name.partition('.')[0])]
    owner = next((each for each in called if _is_called(each, name)), None)
    accepted = accepted_arguments(owner) if owner is not None else None
    root = builds[0]['registry'].name
    paths = list(_paths(builds[0]['cfg'], key, root))
    if accepted is None or key in accepted or not paths:
        return ''
    hidden = _hidden_by(builds[-1]) if owner is built else None
    # A part that is built by itself may stand anywhere.
    told = unknown_key(paths[0] if len(paths) == 1 and paths != [root] else '', key, accepted, owner.__name__)
    return f"{told} Is '{hidden}' meant?" if hidden else told


def _is_called(thing: object, name: str) -> bool:
    if inspect.isclass(thing):
        return any(getattr(vars(base).get('__init__'), '__qualname__', None) == name for base in inspect.getmro(thing))
    return inspect.isfunction(thing) and thing.__qualname__ == name


def _paths(node: object, key: str, path: str) -> Iterator[str]:
    """Where dicts with that key stand inside a config."""
    if isinstance(node, dict):
        if key in node:
            yield path
        for name, value in node.items():
            yield from _paths(value, key, f'{path}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _paths(value, key, f'{path}[{index}]')


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
    hidden = _hidden_by(found)
    return f"{name} (there is a '{hidden}' too): " if hidden and isinstance(error, TypeError) else f'{name}: '


def _hidden_by(build: dict[str, object]) -> str | None:
    """The full name of a class that the one of a build hides."""
    registry, name = build['registry'], getattr(build['obj_cls'], '__name__', '')
    return registry.hidden_by(name) if hasattr(registry, 'hidden_by') else None


def _builds(frame: FrameType) -> bool:
    return frame.f_code.co_name == 'build_from_cfg' and frame.f_globals.get('__name__', '').startswith('mmengine.')
