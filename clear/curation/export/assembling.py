"""The whole tree out of what shards have written: built beside its place, put there by one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clear.core.errors import NO_ROOM, DataError
from clear.core.files import read_json
from clear.curation.export.placing import LIST, copy_or_link, place_all, read_list
from clear.curation.export.tree import TRAINING, features_file
from clear.datasets.make.writing import new_folder, write_class_names, write_plain_json

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.curation.manifest import Plan, StageFolder

MARK, KIND = 'manifest.json', 'clear-export'
TREE = 'tree'  # of a shard: its files of the tree


def contents(folder: StageFolder, plan: Plan, sources: Mapping[str, str]) -> dict[str, Plain]:
    """What `manifest.json` of the tree says: its files with checksums, its images by bucket, what it was made of.

    Args:
        sources: kind -> fingerprint of the stage that made it.
    """
    files, images, digests = [], {}, {}
    for number, shard in enumerate(plan.shards):
        receipt = folder.receipt(number)
        files += [dict(file, name=file['name'].removeprefix(f'{TREE}/')) for file in receipt['files']
                  if file['name'].startswith(f'{TREE}/')]
        images[shard['key']] = receipt['counts']['placed']
        digests[shard['key']] = next(file['sha256'] for file in receipt['files'] if file['name'] == LIST)
    return dict(schema=1, kind=KIND, sources=dict(sources), buckets=plan.values['buckets'], images=images,
                image_lists=digests, files=sorted(files, key=lambda file: file['name']))


def is_there(out: Path, made: Mapping[str, Plain]) -> bool:
    """Whether a tree stands in its place."""
    return (out / MARK).is_file() and read_json(out / MARK) == made


def check_target(out: Path, sources: Mapping[str, str] | None, overwrite: bool) -> None:
    """Refuse a place that holds anything but a tree of the same sources.

    Args:
        sources: None while they are not known.
        overwrite: whether another data set that was exported may go. Other folders stay.

    Raises:
        DataError: saying what is there.
    """
    if not out.exists() or out.is_dir() and not any(out.iterdir()):
        return
    found = read_json(out / MARK) if out.is_dir() and (out / MARK).is_file() else None
    if not isinstance(found, dict) or found.get('kind') != KIND:
        raise DataError(f'{out} holds something else than an exported data set; choose another out_dir.')
    if not overwrite and sources is not None and found.get('sources') != dict(sources):
        raise DataError(f'{out} holds another data set, made of other stages. Choose another out_dir, or replace it '
                        'with --overwrite.')


def assemble(out: Path, folder: StageFolder, plan: Plan, made: Mapping[str, Plain], images: Path, how: str,
             overwrite: bool) -> None:
    """Write the tree to `out`, which appears whole or not at all.

    Args:
        out: absolute, as symbolic links are relative to it.
        made: see `contents`.
        images: the folder of the stage that made them.
        how: see `placing.HOW`.
        overwrite: replace another exported data set.

    Raises:
        DataError: if `out` holds something else, an image is gone, or there is no room.
    """
    check_target(out, made['sources'], overwrite)
    # The folder of a stage is held by one process: what another of its runs was writing is nobody's.
    owner = hashlib.sha256(str(folder.path.resolve()).encode()).hexdigest()[:12]
    with room(out), new_folder(out, replace=overwrite, owner=owner) as tree:
        for number in range(len(plan.shards)):
            shard = folder.shard_folder(number)
            for file in sorted((shard / TREE).rglob('*')):
                if file.is_file():
                    copy_or_link(file, tree / file.relative_to(shard / TREE))
            place_all(images, tree, out, read_list(shard / LIST), how)
        _write_top(tree, folder, plan)
        write_plain_json(tree / MARK, made)
        os.sync()  # one for all: a sync for each of a hundred thousand images takes minutes
    handle = os.open(out.parent, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _write_top(tree: Path, folder: StageFolder, plan: Plan) -> None:
    """The files that tell of all buckets."""
    values = plan.values
    labels = _labels(tree, values['group'])
    write_class_names(tree, values['class_names'])
    write_plain_json(tree / 'concept_group_dict.json', values['concepts'])
    if values['label_map']:
        write_plain_json(tree / 'label_map_dict.json', values['label_map'])
    _write_index(tree / 'labeled_metadata.json', labels, 'labeled_metadata/{}/{}.json'.format)
    _join(tree / 'clip_result.json', {key: tree / 'clip_result' / f'{key}.json' for key in labels})
    every = sorted((tree / 'all_metadata').glob('*.json'), key=lambda path: int(path.stem))
    if every:
        write_plain_json(tree / 'all_metadata.json', {path.stem: f'all_metadata/{path.name}' for path in every})
    if values['features']:
        name = values['features']
        _write_index(tree / 'features' / name / 'features.json', labels, partial(features_file, name))
    write_plain_json(tree / TRAINING / 'bucket_indices.json', sorted(labels, key=int))


def _labels(tree: Path, group: Sequence[str]) -> dict[str, list[str]]:
    """Bucket -> its classes, in the order of the prompts."""
    folders = sorted((tree / 'labeled_metadata').iterdir(), key=lambda path: int(path.name))
    return {folder.name: [name for name in group if (folder / f'{name}.json').is_file()] for folder in folders}


def _write_index(path: Path, labels: Mapping[str, Sequence[str]], place: Callable[[str, str], str]) -> None:
    write_plain_json(path, {key: {label: place(key, label) for label in found} for key, found in labels.items()})


def _join(path: Path, parts: Mapping[str, Path]) -> None:
    """One JSON object of whole files, which are copied, not read."""
    with path.open('wb') as file:
        file.write(b'{')
        for number, (key, part) in enumerate(parts.items()):
            file.write(b',\n' * bool(number) + f'{json.dumps(key)}: '.encode())
            with part.open('rb') as content:
                shutil.copyfileobj(content, file)
        file.write(b'}\n')


@contextmanager
def room(out: Path) -> Iterator[None]:
    """Turn a full disk into a message.

    Raises:
        DataError: saying what to do.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise DataError(f'No room for {out} ({os.strerror(error.errno)}). Nothing was left there. Free some space, or '
                        'choose another out_dir, and go on with --resume.') from error
