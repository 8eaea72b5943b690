"""Data that were moved: whether folders of stages came over whole, and legacy lists with the paths of today."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pyarrow import parquet

from clear.core.errors import ConfigError
from clear.core.files import atomic_writer, inside
from clear.curation.images import IMAGES
from clear.curation.legacy.importing import Survey, survey
from clear.curation.legacy.places import Places
from clear.curation.legacy.sources import FOLDERS, Source, find_source
from clear.curation.legacy.streaming import JsonStream
from clear.curation.manifest import MANIFEST, Finished

# Keys of the earlier curation's files whose values are places of files.
PATH_KEYS = frozenset({'IMG_DIR', 'IMG_PATH', 'folder', 'image_folder', 'metadata_location', 'folder_path', 'original',
                       'normalized'})


def stage_folders(path: Path) -> list[Path]:
    """The finished stages at a path: itself, or those of a work_dir."""
    if (path / MANIFEST).is_file():
        return [path]
    return sorted(file.parent for pattern in (f'*/{MANIFEST}', f'stages/*/{MANIFEST}') for file in path.glob(pattern))


def damages(finished: Finished, checksums: bool = True) -> Iterator[str]:
    """Everything that is wrong with the files of a stage, those included that its tables list."""
    for entry in finished.manifest['shards']:
        names = []
        for file in entry['files']:
            names.append(file['name'])
            yield from _damage(finished.file(entry['shard'], file['name']), file['bytes'], file['sha256'], checksums)
        table = finished.file(entry['shard'], IMAGES)
        if IMAGES not in names or not table.is_file():
            continue
        for batch in parquet.ParquetFile(table).iter_batches(4096, columns=['path', 'shard', 'bytes', 'sha256']):
            for path, shard, size, digest in zip(*(batch[name].to_pylist() for name in batch.schema.names)):
                if shard is None:
                    yield from _damage(inside(finished.folder.path, path), size, digest, checksums)


def _damage(path: Path, size: int | None, digest: str | None, checksums: bool) -> Iterator[str]:
    if not path.is_file():
        yield f'{path} is not there'
    elif size is not None and path.stat().st_size != size:
        yield f'{path} has {path.stat().st_size} bytes, not {size}'
    elif checksums and digest is not None:
        with path.open('rb') as file:
            if hashlib.file_digest(file, 'sha256').hexdigest() != digest:
                yield f'the checksum of {path} does not match'


def legacy_lists(path: Path) -> list[Path]:
    """The JSON files of the earlier curation that hold absolute paths, at a path.

    Raises:
        ConfigError: if there are none, or pickles, which are not written anew.
    """
    if path.is_file():
        found = [path]
        if path.name == FOLDERS[0]:
            found += find_source(path).files
    else:
        found = [file for file in [path / FOLDERS[0]] if file.is_file()]
        found += sorted(file for pattern in ('*/metadata.json', 'bucket_*.json', 'bucket_*/*/bucket_*.json',
                                             'bucket_*/*/features_*.json') for file in path.glob(pattern))
    if any(file.suffix != '.json' for file in found) or (path / FOLDERS[1]).is_file():
        raise ConfigError(f'{path}: pickles are not written anew. Import them, and export them where they are to lie.')
    if not found:
        raise ConfigError(f'{path} holds neither finished stages ({MANIFEST}) nor lists of the earlier curation.')
    return found


def rewrite(file: Path, places: Places, dry_run: bool = False) -> Counter[str]:
    """Put the places of today into a list, value by value, and replace it as a whole.

    Returns:
        how many paths were 'changed', 'same' and 'unknown'; those outside of the root stay as they were.
    """
    counts: Counter[str] = Counter()

    def renewed(key: str, value: object) -> object:
        if key not in PATH_KEYS or not isinstance(value, str) or not value.startswith('/'):
            return value
        now = places.now(value)
        counts['unknown' if now is None else 'same' if str(now) == value else 'changed'] += 1
        return value if now is None else str(now)

    def copy_to(write: Callable[[str], object]) -> None:
        with JsonStream(file) as stream:
            _copy(stream, write, '', renewed)
            stream.end()

    if dry_run:
        copy_to(len)
        return counts
    with atomic_writer(file, 'w') as writer:
        copy_to(writer.write)
    return counts


def rewrite_lists(files: list[Path], places: Places, dry_run: bool = False) -> Counter[str]:
    """`rewrite` all; those in which nothing changes are left alone."""
    total: Counter[str] = Counter()
    for file in files:
        found = rewrite(file, places, dry_run=True)
        if found['changed'] and not dry_run:
            rewrite(file, places)
        total += found
    return total


def _copy(stream: JsonStream, write: Callable[[str], object], key: str,
          renewed: Callable[[str, object], object]) -> None:
    first = stream.peek()
    if first == '[':
        write('[')
        for place, _ in enumerate(stream.elements()):
            if place:
                write(', ')
            _copy(stream, write, key, renewed)
        write(']')
    elif first == '{':
        write('{')
        for place, name in enumerate(stream.items()):
            write(f'{", " if place else ""}{json.dumps(name)}: ')
            _copy(stream, write, name, renewed)
        write('}')
    else:
        write(json.dumps(renewed(key, stream.value())))


def missing_images(files: Sequence[Path], places: Places) -> Survey:
    """Look for the images of all records in the lists; of trees and their buckets those of the chunks are enough."""
    chunks = [file for file in files if file.name == 'metadata.json']
    buckets = [file for file in files if file.stem.startswith('bucket_') and file.parent == places.root]
    return survey(Source(files[0], chunks or buckets or list(files), places))
