"""Tar shards of images with captions, as the package webdataset writes and reads them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import compute

from clear.core import dist
from clear.core.errors import ConfigError, DataError
from clear.core.files import read_json
from clear.core.logs import progress_bar
from clear.datasets.columns import runs
from clear.datasets.readers.image_files import is_hidden
from clear.datasets.readers.table_by_time import Periods, cut
from clear.datasets.shards.index import Fields, make_index, open_index
from clear.datasets.table import ImageTable
from clear.registry import READERS

MANIFEST = 'shards.json'  # of a folder that we wrote: names of classes, and the counts of its shards
IMAGE, CAPTION, LABEL, TIME = (';'.join(names) for names in (Fields.image, Fields.caption, Fields.label, Fields.time))


@READERS.register_module(name='ImageTextShards')
def image_text_shards(shards: str | Sequence[str], image: str = IMAGE, caption: str = CAPTION, label: str = LABEL,
                      time: str = TIME, names: Sequence[str] | None = None, index_dir: str | None = None,
                      num_buckets: int | None = None, edges: Sequence | None = None, freq: str | None = None,
                      equal: str = 'count') -> ImageTable:
    """Pairs of tar files, shard after shard, each in the order of its members.

    A member is called `<key>.<extension>`; the extension begins at the first dot behind the last `/`, and case does not
    matter. What shards hold is read once, from headers and texts, into a file `<shard>.index` beside each.

    Args:
        shards: a folder with `.tar` files, a name with braces as in `data/{00000..00331}.tar` or with `*`, of which
            the files are sorted, or a list of these.
        image, caption, label, time: extensions, separated by semicolons; the first that is there is taken. Labels are
            whole numbers, times dates.
        names: of the classes; by default those in `shards.json` beside the shards, else their numbers.
        index_dir: a folder for the indices, where the shards' own cannot be written.
        num_buckets, edges, freq: one of these cuts the pairs into buckets by their times, see `Periods`. Buckets follow
            each other, and pairs of a bucket stay in the order of the shards.

    Raises:
        ConfigError: for names that are not of local files, or more than one way to cut.
        DataError: for a shard that is missing, cut short or wrong, as `make_index` says, a pair without a time, or
            folders of other classes.
    """
    require_webdataset()
    files = shard_files(shards)
    fields = Fields(*(_extensions(key, value) for key, value in
                      dict(image=image, caption=caption, label=label, time=time).items()))
    folder = None if index_dir is None else Path(index_dir)
    tables = shard_indices(files, fields, folder)
    root = Path(os.path.commonpath([str(file.parent) for file in files]))
    counts = [len(table) for table in tables]
    stems = [file.relative_to(root).as_posix().removesuffix('.tar') for file in files]
    found = pyarrow.concat_tables(tables)
    ids = pyarrow.chunked_array([compute.binary_join_element_wise(stem, chunk, '/') for stem, table in
                                 zip(stems, tables) for chunk in table['key'].chunks], pyarrow.string())
    columns = dict(path=ids, **{name: found[name] for name in ('label', 'caption', 'offset')}, bytes=found['size'],
                   shard=runs((file.relative_to(root).as_posix(), count) for file, count in zip(files, counts)))
    if found['taken_at'].null_count < len(found):
        columns['taken_at'] = found['taken_at']
    images = ImageTable.from_columns(root, columns, _class_names(files, tables, names))
    if num_buckets is None and edges is None and freq is None:
        return images
    return _in_buckets(images, Periods(num_buckets, edges, freq, equal))


def require_webdataset() -> None:
    """Refuse to begin without the package.

    Raises:
        ConfigError: with the command that installs it.
    """
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise ConfigError("tar shards need webdataset: pip install 'clear-framework[align]'") from error


def shard_files(shards: str | Sequence[str]) -> list[Path]:
    """The tar files that are meant, absolute, in the order given; those of a folder or a pattern sorted by name.

    Raises:
        ConfigError: for no name, unbalanced braces, or a name with a scheme.
        DataError: if one does not exist.
    """
    import braceexpand  # webdataset's own

    given = [shards] if isinstance(shards, str) else list(shards) if isinstance(shards, (list, tuple)) else []
    if not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(f"shards is {shards!r}; expected a folder, a name such as 'data/{{000..009}}.tar', or a list "
                          'of these.')
    found: list[Path] = []
    for name in given:
        if '://' in name or name.startswith('pipe:') or '::' in name:
            raise ConfigError(f'shards: {name!r} is no local file. Only files on this machine are read; copy them '
                              'first.')
        try:
            expanded = [name] if Path(name).exists() else list(braceexpand.braceexpand(name))
        except ValueError as error:
            raise ConfigError(f'shards: {name!r} has braces that do not fit: {error}') from error
        for each in expanded:
            if Path(each).is_dir():
                found += _in_folder(Path(each))
            elif '*' in each and not Path(each).exists():
                found += _matching(each)
            else:
                found.append(Path(each).absolute())
    missing = [file for file in found if not file.is_file()]
    if missing:
        raise DataError(f'{missing[0]} does not exist; {len(missing)} of {len(found)} shards are missing.')
    return found


def _matching(pattern: str) -> list[Path]:
    found = sorted(Path(name).absolute() for name in glob.glob(pattern))  # noqa: PTH207 - of an absolute pattern too
    if not found:
        raise DataError(f'{pattern} finds no file.')
    return found


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path.absolute() for path in folder.glob('*.tar') if not is_hidden(path.name))
    if not found:
        raise DataError(f'{folder}: no .tar file in this folder.')
    manifest = read_manifest(folder)
    if manifest is not None and [shard['name'] for shard in manifest['shards']] != [path.name for path in found]:
        raise DataError(f'{folder} holds {len(found)} shards, other ones than the {len(manifest["shards"])} in its '
                        f'{MANIFEST}. Copy what is missing, or remove that file if the shards are right.')
    return found


def read_manifest(folder: Path) -> dict | None:
    """What `shards.json` says: `class_names`, and `shards` with name, count and bytes of each; None if there is none.

    Raises:
        DataError: if it is damaged, or shards are still being written.
    """
    if not (folder / MANIFEST).is_file():
        return None
    found = read_json(folder / MANIFEST)
    shards, names = (found.get(key) for key in ('shards', 'class_names')) if isinstance(found, dict) else (None, None)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names) and isinstance(shards, list)
            and all(isinstance(shard, dict) and isinstance(shard.get('name'), str) for shard in shards)):
        raise DataError(f'{folder / MANIFEST} is no list of shards: expected class_names and shards.')
    if not found.get('complete'):
        raise DataError(f'{folder}: its shards are not all written. Run tools/dataset_converters/make_shards.py to its '
                        'end, with the command that it was begun with.')
    return found


def shard_indices(files: Sequence[Path], fields: Fields, folder: Path | None) -> list[pyarrow.Table]:
    """The index of each shard, which is made where there is none.

    Processes begin at different ones, and so share the work without waiting.
    """
    tables = {file: open_index(file, fields, folder) for file in dict.fromkeys(files)}
    missing = [file for file, table in tables.items() if table is None]
    first = len(missing) * dist.rank() // dist.world_size()
    with progress_bar('index', 'B') as report:
        total, done = sum(file.stat().st_size for file in missing), 0
        for file in missing[first:] + missing[:first]:
            tables[file] = open_index(file, fields, folder)
            if tables[file] is None:
                make_index(file, fields, folder)
                tables[file] = open_index(file, fields, folder)
            if tables[file] is None:
                raise DataError(f'{file} changes while it is read.')
            done += file.stat().st_size
            if dist.is_main():
                report(done, total)
    return [tables[file] for file in files]


def _in_buckets(images: ImageTable, periods: Periods) -> ImageTable:
    periods.check()
    times = images.times()
    if None in times:
        raise DataError(f"{images.root}: '{images.text('id', times.index(None))}' has no time, so it belongs to no "
                        'bucket.')
    order = np.array(sorted(range(len(times)), key=times.__getitem__))
    cuts = cut([times[row] for row in order], periods, images.root)
    rows = [np.sort(order[place.start:place.stop]) for _, place in cuts]
    return images.select(np.concatenate(rows)).with_column('bucket', runs((name, len(place)) for name, place in cuts))


def _extensions(key: str, value: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in value.split(';')) if isinstance(value, str) else ()
    if not names or not all(names):
        raise ConfigError(f"{key} is {value!r}; expected extensions such as 'jpg;png'.")
    return names


def _class_names(files: Sequence[Path], tables: Sequence[pyarrow.Table], names: Sequence[str] | None) -> list[str]:
    most = [compute.max(table['label']).as_py() if len(table) else -1 for table in tables]
    if names is None:
        folders = [file.parent for file, label in zip(files, most) if label >= 0] or [files[0].parent]
        said = {folder: (read_manifest(folder) or {}).get('class_names') for folder in dict.fromkeys(folders)}
        names = said[folders[0]]
        other = next((folder for folder in said if said[folder] != names), None)
        if other is not None:
            raise DataError(f'{folders[0]} and {other} have other classes by their {MANIFEST} ({_brief(names)}; '
                            f'{_brief(said[other])}). Join them by ConcatPairs, or say with names=[...] what the '
                            'numbers mean in both.')
    return [str(number) for number in range(max(most) + 1)] if names is None else [str(name) for name in names]


def _brief(names: Sequence[str] | None) -> str:
    return 'none' if names is None else ', '.join(names[:3]) + (', ...' if len(names) > 3 else '')
