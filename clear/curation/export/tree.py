"""What a CLEAR tree holds of one bucket, written file by file; no more than one class of it is held in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from clear.curation.export.joining import Chosen, Photo, Source
from clear.datasets.make.writing import Row, ratio_folder, write_plain_json, write_rows, write_split
from clear.datasets.splits import train_test_rows

if TYPE_CHECKING:
    from clear.core.types import Plain

TRAINING = 'training_folder'
ROOT = '.'  # IMG_DIR: the published files have an absolute folder, that of the data set, to which IMG_PATH is relative


@dataclass
class Labelled:
    """What was written of a bucket's labelled photos.

    Attributes:
        rows: (path in the tree, class index) of each, in the order of the lists.
        ids: of each.
        images: (path in the tree, where its bytes are) of each.
        counts: class -> photos, in the order of the lists.
    """

    rows: list[Row] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    images: list[tuple[str, Source]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def write_labelled(tree: Path, key: str, chosen: Iterable[Chosen], class_names: Sequence[str]) -> Labelled:
    """Write `labeled_metadata/<b>/<label>.json` and `clip_result/<b>.json` of a bucket.

    Args:
        key: what the tree calls the bucket.
        chosen: class after class.
        class_names: in the order of `class_names.txt`.
    """
    found = Labelled()
    with _json_object(tree / 'clip_result' / f'{key}.json') as add:
        for label, group in groupby(chosen, key=lambda each: each.label):
            photos = list(group)
            records = {}
            for each in photos:
                path = f'labeled_images/{key}/{label}/{each.photo.name}'
                records[each.photo.record['ID']] = each.photo.record | dict(IMG_DIR=ROOT, IMG_PATH=path)
                found.rows.append((path, class_names.index(label)))
                found.ids.append(each.photo.record['ID'])
                found.images.append((path, each.photo.source))
            write_plain_json(tree / 'labeled_metadata' / key / f'{label}.json', records)
            add(label, dict(metadata=[_as_found(each.photo) for each in photos],
                            D=[-each.score if each.is_background else each.score for each in photos]))
            found.counts[label] = len(photos)
    return found


def write_lists(tree: Path, key: str, rows: Sequence[Row], seeds: Sequence[int], test_ratio: float, per_class: bool
                ) -> None:
    """Write a bucket's part of `training_folder`: its list, and its splits unless `test_ratio` is 0."""
    write_rows(tree / TRAINING / 'filelists' / key / 'all.txt', rows)
    for seed in seeds if test_ratio else ():
        split = train_test_rows([target for _, target in rows], test_ratio=test_ratio, seed=seed, bucket=key,
                                per_class=per_class)
        write_split(tree / TRAINING / ratio_folder(test_ratio) / f'split_{seed}', {key: rows}, {key: split})


def write_all_metadata(tree: Path, key: str, photos: Iterable[Photo]) -> Iterator[Photo]:
    """Write `all_metadata/<b>.json` while the photos of a bucket go by."""
    with _json_object(tree / 'all_metadata' / f'{key}.json') as add:
        for photo in photos:
            add(photo.record['ID'], photo.record | dict(IMG_DIR=ROOT, IMG_PATH=path_of(key, photo)))
            yield photo


def write_failed(tree: Path, key: str, photos: Iterable[Photo], is_missing: Callable[[Source], str]
                 ) -> Iterator[tuple[str, Source]]:
    """Where every image of a bucket is to be put; those that cannot be had stand in `all_images/failed/<b>.json`."""
    with _json_object(tree / 'all_images' / 'failed' / f'{key}.json') as add:
        for photo in photos:
            if is_missing(photo.source):
                add(photo.record['DOWNLOAD_URL'] or photo.source.path, path_of(key, photo))
            else:
                yield path_of(key, photo), photo.source


def path_of(key: str, photo: Photo) -> str:
    """Where a photo of a bucket lies among all of them."""
    return f'all_images/{key}/{photo.name}'


def features_file(name: str, key: str, label: str) -> str:
    """Where the features of a class lie."""
    return f'features/{name}/{key}/{label}.pth'


def _as_found(photo: Photo) -> dict[str, Plain]:
    """A record as retrieval knew it: its image below the folder of the stage that made it."""
    return photo.record | dict(IMG_DIR=ROOT, IMG_PATH=photo.source.path)


@contextmanager
def _json_object(path: Path) -> Iterator[Callable[[str, Plain], None]]:
    """A file with one JSON object; what is yielded adds a key to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    separator = '{\n'
    with path.open('w', encoding='utf-8') as file:
        def add(key: str, value: Plain) -> None:
            nonlocal separator
            file.write(f'{separator}{json.dumps(key)}: {json.dumps(value, allow_nan=False)}')
            separator = ',\n'

        yield add
        file.write('{}\n' if separator == '{\n' else '\n}\n')
