"""Images with captions of which the first is right: Winoground and SugarCrepe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clear.core.configs.bases import shipped_file
from clear.core.errors import DataError
from clear.core.files import parse_json, read_json, read_text
from clear.datasets.readers.image_files import IMAGE_SUFFIXES, existing_folder
from clear.datasets.readers.pairs.table import check_files
from clear.datasets.table import ImageTable
from clear.registry import READERS


@READERS.register_module(name='Winoground')
def winoground(root: str) -> ImageTable:
    """Two images and two captions of the same words an example (Thrush et al. 2022, arXiv:2204.03162).

    `root/examples.jsonl` holds `image_0`, `image_1`, `caption_0` and `caption_1` on every line; images are files of
    `root/images/`, unpacked, or of `root`, and `.png` where their name says nothing else. The table has a row for each
    image, whose captions are its own and the other one; its column `example` counts the lines.

    Raises:
        DataError: if the file is missing or of another shape, a caption is empty, or an image is not there.
    """
    base = existing_folder(root)
    file = base / 'examples.jsonl'
    below = 'images/' if (base / 'images').is_dir() else ''
    columns: dict[str, list] = dict(id=[], path=[], caption=[], example=[])
    lines = [line for line in read_text(file).split('\n') if line.strip()]
    for number, line in enumerate(lines):
        found = parse_json(line, f'{file}:{number + 1}')
        where = f'{file}, example {number + 1}'
        captions = [_text(found, f'caption_{side}', where) for side in (0, 1)]
        for side in (0, 1):
            name = _text(found, f'image_{side}', where)
            name = name if name.lower().endswith(IMAGE_SUFFIXES) else f'{name}.png'
            row = dict(id=f'{number}/{side}', path=f'{below}{name}', caption=[captions[side], captions[1 - side]],
                       example=number)
            for column, value in row.items():
                columns[column].append(value)
    return _table(base, columns, str(file), 'winoground')


@READERS.register_module(name='SugarCrepe')
def sugar_crepe(root: str, files: str | list[str]) -> ImageTable:
    """Images with a caption and a wrong one that differs in a word or two (Hsieh et al. 2023, arXiv:2306.14610).

    Each file is a JSON object of objects with `filename`, `caption` and `negative_caption`. The table has a row for
    each, as often as an image occurs, whose captions are the right one and the wrong one; its column `subset` is the
    name of the file, such as `swap_obj`.

    Args:
        root: the folder of the images, COCO's val2017.
        files: JSON files, or a folder of them; a shipped one may be named from any folder.

    Raises:
        DataError: if a file is missing or of another shape, a caption is empty, or an image is not there.
    """
    base = existing_folder(root)
    paths = [shipped_file(file) for file in ([files] if isinstance(files, str) else files)]
    if len(paths) == 1 and paths[0].is_dir():
        folder, paths = paths[0], sorted(paths[0].glob('*.json'))
        if not paths:
            raise DataError(f'{folder}: no .json file in this folder.')
    columns: dict[str, list] = dict(id=[], path=[], caption=[], subset=[])
    for path in paths:
        content = read_json(path)
        if not isinstance(content, dict):
            raise DataError(f'{path} is a {type(content).__name__}; expected an object of items.')
        for key, found in content.items():
            where = f"{path}, item '{key}'"
            row = dict(id=f'{path.stem}/{key}', path=_text(found, 'filename', where), subset=path.stem,
                       caption=[_text(found, 'caption', where), _text(found, 'negative_caption', where)])
            for column, value in row.items():
                columns[column].append(value)
    return _table(base, columns, ', '.join(map(str, paths)), 'sugar_crepe')


def _table(base: Path, columns: dict[str, list], where: str, name: str) -> ImageTable:
    if not columns['id']:
        raise DataError(f'{where}: no items.')
    images = ImageTable.from_columns(base, columns, name=name)
    check_files(images, where)
    return images


def _text(found: object, key: str, where: str) -> str:
    text = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where}: '{key}' should hold text, found {text!r:.80}.")
    return text.strip()
