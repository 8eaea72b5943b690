"""COCO's panoptic annotations: from segments in colours to a category of every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from clear.core.errors import DataError
from clear.core.files import inside
from clear.datasets.dense.raster import read_raster, stored_pixels
from clear.datasets.images.decode import UnreadableImage, read_file
from clear.datasets.make.virb.given import Given, json_of
from clear.datasets.make.virb.layout import Layout
from clear.datasets.readers.dense.coco_panoptic import MOST_CATEGORY_ID, NAMES
from clear.datasets.readers.image_files import image_files


def coco(given: Given) -> Layout:
    """`{train,val}2017` and `annotations/panoptic_labels_*` of one channel, from images, panoptic_*2017.json and *.zip.

    ARCHIVE and lists are the official archives or what they unpack to: train2017.zip, val2017.zip and
    panoptic_annotations_trainval2017.zip. A part without images or annotations is left out. Crowds are of their
    category like any other segment.
    """
    layout = Layout()
    for part in ('train', 'val'):  # both have the same names of categories
        images, file = given.find(f'{part}2017'), given.file(f'panoptic_{part}2017.json')
        if images is None or file is None:
            continue
        for path in image_files(images, f'{part}2017'):
            layout.add(path, images / path)
        described, names = _described(file)
        for name, label in _labels(given, _segments(given, part, file), described).items():
            layout.add(f'annotations/panoptic_labels_{part}2017/{name}', label)
        layout.json[f'annotations/{NAMES}'] = names
        layout.readers.append(dict(type='CocoPanoptic', root='.', split=part))
    if not layout.readers:
        raise DataError(f'{given.archive} and the lists hold neither train2017 with panoptic_train2017.json nor the '
                        'same of val.')
    return layout


def category_ids(segments: np.ndarray, categories: Mapping[int, int]) -> np.ndarray:
    """Pixels of segments as pixels of categories.

    Args:
        segments: (H, W, 3) uint8: the id of a segment is R + 256 G + 65536 B; 0 is none.
        categories: of the id of a segment.

    Returns:
        (H, W) uint8.

    Raises:
        DataError: for a segment that is not among them.
    """
    ids = segments.astype(np.int64) @ np.array([1, 256, 65536])
    known = np.array(sorted({0, *categories}))
    places = np.searchsorted(known, ids).clip(max=len(known) - 1)
    if (wrong := known[places] != ids).any():
        raise DataError(f'segment {ids[wrong][0]} is none of the {len(categories)} that are described.')
    return np.array([({0: 0} | dict(categories))[each] for each in known.tolist()], np.uint8)[places]


def _labels(given: Given, segments: Path, images: Mapping[str, Mapping[int, int]]) -> dict[str, Path]:
    """Name -> a file of category ids, written anew."""
    written = given.empty_folder()
    with given.bar(f'convert {segments.name}', 'images') as progress:
        for done, (name, categories) in enumerate(images.items(), start=1):
            _write_label(inside(segments, name), inside(written, name), categories)
            if progress is not None:
                progress(done, len(images))
    return {name: written / name for name in images}


def _write_label(segments: Path, label: Path, categories: Mapping[int, int]) -> None:
    try:
        content = read_file(segments)
        raster = read_raster(content)
        if (raster.pixels, raster.bits) != ('RGB', 8):
            raise DataError(f'{raster}, where 8-bit RGB is expected.')
        labels = category_ids(stored_pixels(content, raster), categories)
    except (UnreadableImage, DataError) as error:
        raise DataError(f'{segments}: {error}') from error
    Image.fromarray(labels).save(label)


def _segments(given: Given, part: str, file: Path) -> Path:
    """The folder of segments; the official archive holds a zip of it."""
    folder, packed = file.with_suffix(''), file.with_suffix('.zip')
    if not folder.is_dir() and packed.is_file():
        return given.unpacked(packed) / folder.name
    return folder if folder.is_dir() else given.holding(f'panoptic_{part}2017') / folder.name


def _described(file: Path) -> tuple[dict[str, dict[int, int]], list[dict[str, object]]]:
    """Name of a file of segments -> segment -> category; and the categories with their names."""
    content = json_of(file, dict, 'panoptic annotations')
    try:
        found = {str(each['file_name']): {int(segment['id']): int(segment['category_id'])
                                          for segment in each['segments_info']} for each in content['annotations']}
        names = [dict(id=int(each['id']), name=str(each['name'])) for each in content['categories']]
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise DataError(f'{file} is no file of panoptic annotations: {type(error).__name__}: {error}') from error
    for name, categories in found.items():
        if not all(0 < category <= MOST_CATEGORY_ID for category in categories.values()):
            raise DataError(f'{file}: {name} has a category outside 1 ... {MOST_CATEGORY_ID}.')
    return found, names
