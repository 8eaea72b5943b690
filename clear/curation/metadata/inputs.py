"""The files that a stage of metadata reads, as a config names them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from clear.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from clear.core.types import Plain


class OpenFile(ABC):
    """A file of records, open; a context manager.

    Args:
        path: the file.

    Raises:
        DataError: here or later, if it cannot be read, or lacks what its kind promises.
    """

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    @property
    def is_sequential(self) -> bool:
        """Whether a part can only be reached through those before it, as in a packed file."""
        return False


class ListedFiles:
    """Paths and patterns below a root.

    Args:
        files: a path or a pattern with `*`, or a list of these.
        root: what relative ones are relative to.

    Raises:
        ConfigError: if `files` is none of these.
    """

    def __init__(self, files: str | Sequence[str], root: str = '.'):
        self.patterns = [files] if isinstance(files, str) else list(files)
        if not self.patterns or not all(isinstance(name, str) and name for name in self.patterns):
            raise ConfigError(f'files is {files!r}; expected a path, a pattern or a list of these.')
        self.root = Path(root)

    def paths(self) -> list[Path]:
        """The files in order, of a pattern in the order of names.

        Raises:
            DataError: if a pattern finds nothing, or a file is there twice.
        """
        found: list[Path] = []
        for pattern in self.patterns:
            names = sorted(self.root.glob(pattern)) if any(sign in pattern for sign in '*?[') else [self.root / pattern]
            if not names:
                raise DataError(f'{self.root / pattern} finds no file.')
            found += names
        if len(set(found)) < len(found):
            twice = next(path for path in found if found.count(path) > 1)
            raise DataError(f'{twice} is listed twice in files.')
        return found

    def sizes(self) -> Mapping[str, Plain]:
        """Name and size of every file; the plan has the checksums."""
        return {path.name: path.stat().st_size for path in self.paths()}
