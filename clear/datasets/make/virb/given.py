"""What a data set is made from: an archive or its unpacked folder, and lists beside it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import inside, read_json, read_text
from clear.core.logs import Report, progress_bar
from clear.datasets.make.archives import extract_archive
from clear.datasets.make.tars import extract_tar, is_tar
from clear.datasets.readers.image_files import folders_in

_DEPTH = 4  # folders of folders that are looked through for what an archive holds


class Given:
    """The sources of one data set. Archives among them are unpacked below `scratch`; folders are read where they lie.

    Args:
        archive: a zip or tar, gzipped or not, or a folder.
        lists: others: archives, folders, or files that are read as they are.
        scratch: an empty folder for what is unpacked.
        seed: of splits that no list gives.
        shows_progress: whether a bar shows how far unpacking is.

    Raises:
        DataError: if a source is missing, or an archive is damaged or not safe.

    Attributes:
        folder: `archive` as a folder.
        others: `lists`, each a folder or a file.
    """

    def __init__(self, archive: Path, lists: Sequence[Path], scratch: Path, seed: int = 0,
                 shows_progress: bool = False):
        self.seed, self.scratch, self.archive = seed, scratch, archive
        self._shows_progress = shows_progress
        self.folder = self._as_folder(archive)
        if not self.folder.is_dir():
            raise DataError(f'{archive} is no folder, zip or tar.')
        self.others = [self._as_folder(path) for path in lists]
        self._used: set[Path] = set()
        self._of_other = dict(zip(self.others, lists))

    def unpacked(self, path: Path) -> Path:
        """The folder of an archive that lies inside another one, or beside it.

        Raises:
            DataError: if it is damaged or not safe.
        """
        with self.bar(f'unpack {path.name}', 'B') as progress:
            return self._unpack(path, progress)

    def unpacked_each(self, paths: Sequence[Path]) -> list[Path]:
        """The folders of many archives, under one bar. One that was unpacked itself is removed when its own is there.

        Raises:
            DataError: if one is damaged or not safe.
        """
        folders = []
        with self.bar('unpack', 'archives') as progress:
            for done, path in enumerate(paths, start=1):
                folders.append(self._unpack(path, None))
                if path.is_relative_to(self.scratch):
                    path.unlink()
                if progress is not None:
                    progress(done, len(paths))
        return folders

    def bar(self, title: str, unit: str) -> AbstractContextManager[Report | None]:
        """A progress bar where one is wanted."""
        return progress_bar(title, unit) if self._shows_progress else nullcontext()

    def _unpack(self, path: Path, progress: Report | None) -> Path:
        folder = self.empty_folder()
        (extract_archive if zipfile.is_zipfile(path) else extract_tar)(path, folder, progress)
        return folder

    def empty_folder(self) -> Path:
        """A new folder; what is written there and listed in the layout is moved to where it belongs."""
        folder = self.scratch / str(len(list(self.scratch.iterdir())))
        folder.mkdir()
        return folder

    def holding(self, *names: str) -> Path:
        """The folder that has these entries, in the archive or a list, the one nearest to the top.

        Raises:
            DataError: if there is none.
        """
        found = self.find(*names)
        if found is None:
            raise DataError(f'{self.archive} holds no {" and ".join(names)}, and no list does. Is it the archive of '
                            'this data set, and complete?')
        return found

    def find(self, *names: str) -> Path | None:
        """As `holding`; None if there is no such folder."""
        folders = (folder for folder in self._folders() if all((folder / name).exists() for name in names))
        return self.mark_used(next(folders, None))

    def file(self, *names: str) -> Path | None:
        """A file of one of these names, given as a list or in one of the folders."""
        given = [path for path in self.others if path.is_file() and path.name in names]
        below = (folder / name for folder in self._folders() for name in names if (folder / name).is_file())
        return self.mark_used(given[0] if given else next(below, None))

    def required(self, *names: str) -> Path:
        """As `file`.

        Raises:
            DataError: if there is none.
        """
        found = self.file(*names)
        if found is None:
            raise DataError(f"{' or '.join(names)} is neither in {self.archive} nor among the lists (--lists).")
        return found

    def mark_used(self, *paths: Path | None) -> Path | None:
        """Note that a list, or what lies in it, is taken; gives the first back."""
        self._used |= {other for other in self.others for path in paths if path and path.is_relative_to(other)}
        return paths[0]

    def check_used(self) -> None:
        """Refuse a list that nothing was taken from: its split would not be the one that is made.

        Raises:
            DataError: naming it.
        """
        for other in self.others:
            if other not in self._used:
                raise DataError(f'{self._of_other[other]} is not what this data set is made from beside '
                                f'{self.archive}; see --list. Nothing was made.')

    def _folders(self) -> Iterator[Path]:
        """All folders to a depth, those near the top first."""
        level = [path for path in (self.folder, *self.others) if path.is_dir()]
        for _ in range(_DEPTH):
            yield from level
            level = [below for folder in level for below in folders_in(folder)]

    def _as_folder(self, path: Path) -> Path:
        if not path.exists():
            raise DataError(f'{path} does not exist.')
        return self.unpacked(path) if path.is_file() and (zipfile.is_zipfile(path) or is_tar(path)) else path


def listed_lines(file: Path) -> list[str]:
    """The lines of a list of paths that hold something.

    Raises:
        DataError: if there are none, or it cannot be read.
    """
    lines = [line.strip() for line in read_text(file).split('\n') if line.strip()]
    if not lines:
        raise DataError(f'{file} is empty.')
    return lines


def listed_files(file: Path, root: Path, paths: Sequence[str]) -> dict[str, Path]:
    """Path -> file of paths that a list names.

    Raises:
        DataError: naming the first of those that are missing, and how many are; or a path that leaves the root.
    """
    found = {path: inside(root, path.lstrip('/')) for path in paths}
    missing = [path for path, place in found.items() if not place.is_file()]
    if missing:
        raise DataError(f"{file}: {len(missing)} of {len(found)} files are not in {root}, the first is '{missing[0]}'. "
                        'Is the archive complete?')
    return found


def json_of(file: Path, kind: type, what: str) -> object:
    """The content of a JSON list or dict.

    Raises:
        DataError: if it is another, or empty.
    """
    content = read_json(file)
    if not isinstance(content, kind) or not content:
        raise DataError(f'{file}: expected {what}.')
    return content
