"""Absolute paths of a tree that was moved, as paths below the root where it is now."""

from __future__ import annotations

import posixpath
from pathlib import Path

from clear.core.errors import ConfigError


class Places:
    """Where files of a tree are now.

    Args:
        root: the folder of the tree.
        old_root: the folder that it was in when the paths were written; None = found by looking: of a path that is not
            there, what is left of it below `root` when folders are cut off in front, the fewest that do.
    """

    def __init__(self, root: str | Path, old_root: str | None = None):
        self.root = Path(root).absolute()
        if not self.root.is_dir():
            raise ConfigError(f'{root} is no folder. --root is the folder that holds the images now.')
        self._known = list(dict.fromkeys([str(self.root), str(self.root.resolve())]))
        if old_root is not None:
            self._known.insert(0, posixpath.normpath(old_root))
        self._is_given = old_root is not None

    @property
    def old_root(self) -> str | None:
        """The folder that paths were in; None until one was not in `root`."""
        return self._known[0] if self._known[0] != str(self.root) else None

    def below(self, path: str) -> str | None:
        """A path relative to the root; None if it is outside of it."""
        path = posixpath.normpath(path)
        if not posixpath.isabs(path):
            return None if path.startswith('../') or path in ('.', '..') else path
        for prefix in self._known:
            if path.startswith(f'{prefix}/'):
                return path[len(prefix) + 1:]
        if self._is_given:
            return None
        parts = path.strip('/').split('/')
        for cut in range(1, len(parts)):
            below = '/'.join(parts[cut:])
            if (self.root / below).exists():
                self._known.insert(0, '/' + '/'.join(parts[:cut]))
                return below
        return None

    def now(self, path: str) -> Path | None:
        """Where a file is now; None if it is outside of the root."""
        below = self.below(path)
        return None if below is None else self.root / below
