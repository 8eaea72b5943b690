"""The folder of a data set as it should be, and how it comes to be: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clear.core.errors import DataError, unwritable
from clear.core.files import inside
from clear.core.storage.locks import locked
from clear.datasets.make.virb.given import Given
from clear.datasets.make.writing import new_folder, write_plain_json
from clear.datasets.readers.build import read_images
from clear.datasets.readers.image_files import plain_path

_OWNER = 'virb'


@dataclass
class Layout:
    """What a folder should hold.

    Attributes:
        files: path in it -> file that is there already; moved if it was unpacked for this, else linked.
        texts: path in it -> text.
        json: path in it -> value of a JSON file.
        notes: what the user should know, as which split was drawn.
        readers: configs of readers, `root` relative to the folder: the folder is made only if all of them read it.
    """

    files: dict[str, Path] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    json: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    readers: list[dict[str, object]] = field(default_factory=list)

    def add(self, path: str, source: Path) -> None:
        """One more file.

        Raises:
            DataError: if another one would lie there.
        """
        path = plain_path(path)
        if self.files.setdefault(path, source) != source:
            raise DataError(f"'{path}' would be both {self.files[path]} and {source}.")


Maker = Callable[[Given], Layout]


def make_folder(maker: Maker, archive: Path, lists: Sequence[Path], out: Path, *, seed: int = 0,
                overwrite: bool = False, shows_progress: bool = False) -> tuple[dict[str, int], list[str]]:
    """Make the folder of a data set at `out`, which appears complete or not at all.

    Files of a folder are linked (symbolic links to where they lie); those of an archive are unpacked into `out`. What
    a killed run left is removed by the next one.

    Returns:
        what each reader of the layout reads -> rows, and the notes.

    Raises:
        ConfigError: if another process is making `out`.
        DataError: if a source is missing, damaged, not what it should be or inside `out`, or `out` has content.
        WriteError: if the disk is full, or `out` may not be written.
    """
    inner = next((path for path in (archive, *lists) if path.resolve().is_relative_to(out.resolve())), None)
    if inner is not None:
        raise DataError(f'{inner} lies in {out}, which is made anew from it. Choose another folder.')
    try:
        out.resolve().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(out, error) from error
    lock = out.resolve().parent / f'.{out.name}.{_OWNER}.lock'
    with locked(lock, f'Another process is making {out}; wait for it.'), \
            new_folder(out, replace=overwrite, owner=_OWNER) as folder:
        scratch = folder / '.unpacked'
        scratch.mkdir()
        given = Given(archive, lists, scratch, seed, shows_progress)
        try:
            layout = maker(given)
            given.check_used()
            _write(layout, folder, given)
            counts = {_title(reader): len(read_images({**reader, 'root': str(folder / str(reader['root']))}))
                      for reader in layout.readers}
        except DataError as error:
            # The place where it is made is gone when the message is read.
            raise DataError(str(error).replace(f'{scratch}', f'{archive}').replace(f'{folder}', f'{out}')) from error
        except OSError as error:
            raise unwritable(out, error) from error
    return counts, layout.notes


def _title(reader: dict[str, object]) -> str:
    return ' '.join(str(value) for value in reader.values() if value != '.')


def _write(layout: Layout, folder: Path, given: Given) -> None:
    with given.bar('link', 'files') as progress:
        for done, (path, source) in enumerate(layout.files.items(), start=1):
            target = inside(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_relative_to(given.scratch):
                source.replace(target)
            else:
                target.symlink_to(os.path.realpath(source))
            if progress is not None:
                progress(done, len(layout.files))
    for path, text in layout.texts.items():
        target = inside(folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding='utf-8')
    for path, value in layout.json.items():
        write_plain_json(inside(folder, path), value)
    shutil.rmtree(given.scratch)


def class_readers(splits: Sequence[str]) -> list[dict[str, object]]:
    """The readers of folders of classes."""
    return [dict(type='ImageFolder', root=split) for split in splits]


def split_by_class(layout: Layout, split: Mapping[str, Sequence[tuple[str, str, Path]]]) -> Layout:
    """Add `<split>/<class>/<name>` for (class, name, source) of each split, and the readers of them.

    Raises:
        DataError: for a file of two splits, as by lists of different pairs.
    """
    part_of: dict[Path, str] = {}
    for part, rows in split.items():
        for label, name, source in rows:
            if part_of.setdefault(source, part) != part:
                raise DataError(f'{source} is for both {part_of[source]} and {part}. Are the lists of one split?')
            layout.add(f'{part}/{label}/{name}', source)
    layout.readers += class_readers(list(split))
    return layout
