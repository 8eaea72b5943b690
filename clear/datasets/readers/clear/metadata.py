"""The labelled metadata of a CLEAR folder: one record per image, by bucket and class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clear.core.errors import DataError
from clear.core.files import inside, read_json
from clear.datasets.readers.clear.clear_files import read_class_names
from clear.datasets.readers.image_files import first_repeated


@dataclass(frozen=True)
class LabeledMetadata:
    """What `labeled_metadata.json` and the files it names say.

    Attributes:
        root: the folder; `IMG_PATH` of a record is relative to it.
        records: bucket -> class name -> image id -> record, in the order of the files.
    """

    root: Path
    class_names: list[str]
    records: dict[str, dict[str, dict[str, dict]]]

    def num_images(self, bucket: str) -> int:
        return sum(len(by_id) for by_id in self.records[bucket].values())


def read_metadata(root: str | Path, *, every_class: bool = False) -> LabeledMetadata:
    """Read the metadata of an old-layout tree, or of the official train or test folder.

    Args:
        every_class: refuse a bucket that lacks a class.

    Raises:
        DataError: if a file is missing or holds something else, or a bucket names a class that is not listed.
    """
    root = Path(root)
    if not (root / 'class_names.txt').is_file():
        raise DataError(f'{root} is no train or test folder of CLEAR: it has no class_names.txt.')
    names = read_class_names(root / 'class_names.txt')
    index = read_json(root / 'labeled_metadata.json')
    if not isinstance(index, dict) or not all(isinstance(files, dict) for files in index.values()):
        raise DataError(f'{root / "labeled_metadata.json"}: expected {{bucket: {{class: path}}}}, found '
                        f'{str(index)[:80]}.')
    records: dict[str, dict[str, dict[str, dict]]] = {}
    for bucket, files in index.items():
        unlisted = set(files) - set(names) if not every_class else set(files) ^ set(names)
        if unlisted:
            raise DataError(f'{root}: bucket {bucket} and class_names.txt disagree about '
                            f'{", ".join(sorted(unlisted))}.')
        records[bucket] = {name: _read_records(inside(root, files[name])) for name in names if name in files}
    return LabeledMetadata(root, names, records)


def bucket_number(bucket: str) -> int:
    """The number of a bucket, which orders the stream.

    Raises:
        DataError: if the name is no number.
    """
    try:
        return int(bucket)
    except ValueError as error:
        raise DataError(f"labeled_metadata.json has a bucket '{bucket}', expected a number.") from error


def _read_records(path: Path) -> dict[str, dict]:
    records = read_json(path)
    if not isinstance(records, dict):
        raise DataError(f'{path}: expected {{id: {{"IMG_PATH": path}}}}, found {str(records)[:80]}.')
    for image_id, record in records.items():
        if not isinstance(record, dict) or not isinstance(record.get('IMG_PATH'), str) or not record['IMG_PATH']:
            raise DataError(f'{path}: image {image_id} has no IMG_PATH.')
    twice = first_repeated(record['IMG_PATH'] for record in records.values())
    if twice is not None:
        one, other = ([*records][place] for place in twice)
        raise DataError(f"{path}: images {one} and {other} are one file, '{records[other]['IMG_PATH']}'.")
    return records
