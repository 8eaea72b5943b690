"""Records of the earlier curation, one after the other, from whatever it wrote.

| given | holds |
|---|---|
| a folder with `all_folders.json`, or that file | chunks, each with a `metadata.json`: the second generation |
| a folder with `all_folders.pickle`, or that file | chunks, each with a `metadata.pickle`: the first |
| `bucket_*.json` | one bucket, or all of them by name |
| `bucket_*.pickle` | the same of the first generation; a pickle is in memory as a whole |
| `metadata.json`, `metadata.pickle` | the records of one chunk |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import DataError
from clear.core.files import read_json
from clear.curation.legacy.pickles import read_pickle
from clear.curation.legacy.places import Places
from clear.curation.legacy.streaming import JsonStream

if TYPE_CHECKING:
    from clear.core.types import Plain

FOLDERS = ('all_folders.json', 'all_folders.pickle')
PICKLES = ('.pickle', '.pkl')
Record = Mapping[str, 'Plain']


@dataclass(frozen=True)
class Source:
    """What there is to import.

    Attributes:
        path: the file that was found.
        files: those that hold records, in order.
        places: where the images are.
    """

    path: Path
    files: list[Path]
    places: Places

    def records(self) -> Iterator[tuple[str | None, Record]]:
        """(bucket, or None where there are none, record) in order."""
        for file in self.files:
            yield from read_records(file)


def find_source(path: str | Path, root: str | Path | None = None, old_root: str | None = None) -> Source:
    """What lies at a path.

    Args:
        root: the folder that holds the images; by default that of the file.
        old_root: see `Places`.

    Raises:
        DataError: if nothing of the earlier curation does, or a chunk's records are not there.
    """
    path = Path(path)
    if path.is_dir():
        found = next((path / name for name in FOLDERS if (path / name).is_file()), None)
        if found is None:
            raise DataError(f'{path} has neither {" nor ".join(FOLDERS)}. Give a bucket_*.json by its name.')
        path = found
    places = Places(path.parent if root is None else root, old_root)
    return Source(path, _chunks(path, places) if path.name in FOLDERS else [path], places)


def read_folders(path: Path) -> dict[int, Record]:
    """The chunks of `all_folders.*` by their number, in order: folder, num_images, image_folder, metadata_location.

    Raises:
        DataError: if it is something else.
    """
    content = read_pickle(path) if path.suffix in PICKLES else read_json(path)
    if isinstance(content, list):
        content = {each.get('idx', place) if isinstance(each, dict) else place: each
                   for place, each in enumerate(content)}
    if not isinstance(content, dict) or not all(
            str(key).isdigit() and isinstance(each, dict) and isinstance(each.get('metadata_location'), str)
            for key, each in content.items()):
        raise DataError(f'{path} is no list of chunks: expected {{"0": {{"metadata_location": ...}}, ...}}.')
    return {int(key): content[key] for key in sorted(content, key=int)}


def _chunks(path: Path, places: Places) -> list[Path]:
    found = []
    for number, chunk in read_folders(path).items():
        # A tree that was copied as a whole has them where they were, beside the list.
        by_name = path.parent / str(number) / Path(chunk['metadata_location']).name
        file = places.now(chunk['metadata_location'])
        if file is None or not file.is_file():
            file = by_name
        if not file.is_file():
            raise DataError(f'{path}: the records of chunk {number} are not at {file}, and neither at '
                            f'{chunk["metadata_location"]}. Was the tree moved in parts? Give --root, the folder that '
                            'holds the chunks.')
        found.append(file)
    return found


def read_records(file: Path) -> Iterator[tuple[str | None, Record]]:
    """(bucket, record) of a file of records or buckets.

    Raises:
        DataError: if it is none.
    """
    found = False
    for bucket, record in (_pickled(file) if file.suffix in PICKLES else _streamed(file)):
        if not isinstance(record, Mapping) or 'ID' not in record:
            raise DataError(f'{file} has a record without ID.')
        found = True
        yield bucket, record
    if not found:
        raise DataError(f'{file} holds no records: expected a list of them, {{"all_metadata": [...]}}, or that by the '
                        'names of buckets.')


def _own_name(file: Path) -> str:
    return file.stem.removeprefix('bucket_')


def _pickled(file: Path) -> Iterator[tuple[str | None, Record]]:
    content = read_pickle(file)
    if isinstance(content, list):
        yield from ((None, each) for each in content)
    elif isinstance(content, dict) and isinstance(content.get('all_metadata'), list):
        yield from ((_own_name(file), each) for each in content['all_metadata'])
    elif isinstance(content, dict):
        for name, bucket in content.items():
            if not isinstance(bucket, dict) or not isinstance(bucket.get('all_metadata'), list):
                raise DataError(f"{file}: bucket '{name}' has no all_metadata.")
            yield from ((str(name), each) for each in bucket['all_metadata'])


def _streamed(file: Path) -> Iterator[tuple[str | None, Record]]:
    with JsonStream(file) as stream:
        if stream.peek() == '[':
            for _ in stream.elements():
                yield None, stream.value()
        else:
            yield from _of_object(stream, file)
        stream.end()


def _of_object(stream: JsonStream, file: Path) -> Iterator[tuple[str | None, Record]]:
    for key in stream.items():
        if key == 'all_metadata' and stream.peek() == '[':
            for _ in stream.elements():
                yield _own_name(file), stream.value()
        elif stream.peek() != '{':
            stream.skip()
        else:
            rest: dict[str, Plain] = {}
            is_bucket = False
            for inner in stream.items():
                if inner == 'all_metadata' and stream.peek() == '[':
                    is_bucket = True
                    for _ in stream.elements():
                        yield key, stream.value()
                elif stream.peek() == '[':
                    stream.skip()
                else:
                    rest[inner] = stream.value()
            if not is_bucket and 'IMG_PATH' in rest:  # {id: record}
                yield _own_name(file), rest
