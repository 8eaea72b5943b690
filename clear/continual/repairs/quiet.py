"""Running Avalanche 0.6 without the warnings that tell the user nothing."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path

# Parts of warnings that Avalanche 0.6 gives in correct use.
NOISE = ('No loggers specified', '__array_wrap__', '__array__')


@contextmanager
def quiet_avalanche():
    """Hide warnings of Avalanche 0.6 that tell the user nothing: its own deprecated calls, NumPy 2's, no loggers."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        # Filters alone do not do: Avalanche's `deprecated` switches its warnings on again at every call.
        def show_others(message, category, filename, *args, **kwargs):
            if 'avalanche' not in Path(filename).parts or not _is_noise(str(message), category):
                show(message, category, filename, *args, **kwargs)

        warnings.showwarning = show_others
        yield


def _is_noise(message: str, category: type[Warning]) -> bool:
    return issubclass(category, DeprecationWarning) or any(part in message for part in NOISE)
