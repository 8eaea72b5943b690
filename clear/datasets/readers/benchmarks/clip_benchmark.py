"""Test sets as CLIP_benchmark stores them: tar shards beside lists of classes and prompts."""

from __future__ import annotations

from pathlib import Path

import pyarrow
from pyarrow import compute

from clear.core.errors import DataError
from clear.core.files import read_text
from clear.datasets.columns import runs
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.readers.labels import unique_names
from clear.datasets.readers.pairs.shards import require_webdataset, shard_indices
from clear.datasets.shards.index import Fields
from clear.datasets.table import ImageTable
from clear.registry import READERS

_IMAGE = ('webp', 'png', 'jpg', 'jpeg')
_KINDS = {'classification': Fields(_IMAGE, caption=()), 'retrieval': Fields(_IMAGE, caption=('txt',), label=())}


@READERS.register_module(name='CLIPBenchmark')
def clip_benchmark_set(root: str, split: str = 'test', index_dir: str | None = None) -> ImageTable:
    """The images of `<root>/<split>/{0..n-1}.tar`, in the order of the shards, read in place.

    `<split>/nshards.txt` holds n, `dataset_type.txt` 'classification' (also where there is none) or 'retrieval'. A set
    to classify has `.cls` files with class numbers and `classnames.txt`, a line for each; a name that is there twice
    gets its number. A set for retrieval has a `.txt` file with a caption on every line beside each image. What shards
    hold is read once into a file `<shard>.index` beside each.

    Args:
        root: the folder of the set.
        split: the folder of the shards below it.
        index_dir: a folder for the indices, where the shards' own cannot be written.

    Raises:
        DataError: if one of these files is missing or wrong, a shard is missing, cut short or damaged, an image has
            neither label nor caption, a label has no name, a name of a member leaves the root, or for a set of
            several labels per image (`.npy`), which is not read.
    """
    require_webdataset()
    base = existing_folder(root)
    kind = _kind(base)
    count = _num_shards(base / split / 'nshards.txt')
    files = [base / split / f'{number}.tar' for number in range(count)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(f'{missing[0]} does not exist; {len(missing)} of {count} shards are missing.')
    tables = shard_indices(files, _KINDS[kind], None if index_dir is None else Path(index_dir))
    found = pyarrow.concat_tables(tables)
    ids = pyarrow.chunked_array([compute.binary_join_element_wise(f'{split}/{file.stem}', chunk, '/') for file, table in
                                 zip(files, tables) for chunk in table['key'].chunks], pyarrow.string())
    columns = dict(path=ids, offset=found['offset'], bytes=found['size'],
                   shard=runs((f'{split}/{file.name}', len(table)) for file, table in zip(files, tables)))
    names: list[str] = []
    if kind == 'retrieval':
        columns['caption'] = [_lines(texts[0]) for texts in found['caption'].to_pylist()]
    else:
        columns['label'], names = found['label'], unique_names(_lines(read_text(base / 'classnames.txt')))
    return ImageTable.from_columns(base, columns, names, name=f'{base.name}_{split}')


def _kind(base: Path) -> str:
    file = base / 'dataset_type.txt'
    kind = read_text(file).strip().lower() if file.is_file() else 'classification'
    if kind not in _KINDS:
        raise DataError(f"{file} says '{kind:.40}'; sets for classification and retrieval are read"
                        + (', those with several labels per image are not.' if kind == 'multilabel' else '.'))
    return kind


def _num_shards(file: Path) -> int:
    text = read_text(file).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) > 0):
        raise DataError(f"{file} holds '{text:.40}'; expected how many shards there are.")
    return int(text)


def _lines(text: str) -> list[str]:
    """The lines that hold something; only a line feed, with a carriage return before it or not, ends one."""
    return [line.strip() for line in text.split('\n') if line.strip()]
