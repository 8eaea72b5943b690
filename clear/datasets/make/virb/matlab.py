"""MATLAB files of before version 7.3."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from clear.core.errors import DataError
from clear.core.files import regular_file


def read_matlab(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name; nothing in such a file is run.

    Raises:
        DataError: if it is missing, damaged, or none that scipy reads.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return loadmat(regular_file(path))
    except DataError:
        raise
    except (MatReadError, ValueError, TypeError, LookupError, OSError, NotImplementedError, ArithmeticError,
            MemoryError, zlib.error) as error:
        raise DataError(f'{path} cannot be read as a MATLAB file: {type(error).__name__}: {error}') from error
