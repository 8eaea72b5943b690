"""NYU Depth v2: from the one file of its authors to images and depths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets.make.virb.given import Given
from clear.datasets.make.virb.layout import Layout
from clear.datasets.make.virb.matlab import read_matlab
from clear.datasets.readers.image_files import image_files

LABELED, SPLITS = 'nyu_depth_v2_labeled.mat', 'splits.mat'
_READERS = {'depths': 'NYUDepth', 'walkable': 'NYUWalkable'}


def nyu(given: Given) -> Layout:
    """`{train,test}/{images,depths,walkable}` from nyu.zip of ViRB, or a folder with nyu_depth_v2_labeled.mat.

    The official file needs splits.mat beside it or as a list, and h5py. It has 1,449 images, 795 of them for training
    by that list, filled depths (`depths`), and does not say where one can walk. ViRB's archive has 1,159 for training;
    its choice and its walkable masks are published there alone.
    """
    labeled = given.file(LABELED)
    if labeled is not None:
        return _of_official(given, labeled, given.required(SPLITS))
    base = given.holding('train/images', 'test/images')
    layout = Layout()
    for split in ('train', 'test'):
        for part in ('images', *_READERS):
            folder = f'{split}/{part}'
            if part == 'images' or (base / folder).is_dir():
                for path in image_files(base, folder):
                    layout.add(path, base / path)
                layout.readers += [dict(type=_READERS[part], root='.', split=split)] if part in _READERS else []
    if not layout.readers:
        raise DataError(f'{given.archive} holds neither depths nor walkable masks.')
    return layout


def _of_official(given: Given, labeled: Path, splits: Path) -> Layout:
    try:
        import h5py  # noqa: F401
    except ImportError as error:
        raise ConfigError(f'{labeled.name} is read by h5py, which is not installed: pip install '
                          "'clear-framework[data]'") from error
    parts, written = _official_parts(splits), given.empty_folder()
    layout = Layout(readers=[dict(type='NYUDepth', root='.', split=split) for split in parts],
                    notes=["The official lists have other parts than ViRB's archive: results do not compare with its."])
    count = sum(map(len, parts.values()))
    with given.bar('write', 'images') as progress:
        for done, (split, row, image, depth) in enumerate(_rows_of(labeled, parts), start=1):
            for name, pixels in ((f'images/{row + 1:04}.png', image), (f'depths/{row + 1:04}.tiff', depth)):
                name = f'{split}/{name}'
                (written / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.ascontiguousarray(pixels)).save(written / name)
                layout.add(name, written / name)
            if progress is not None:
                progress(done, count)
    return layout


def _rows_of(labeled: Path, parts: dict[str, list[int]]) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """(part, row, image, depth) of what the lists name: (H, W, 3) uint8, and (H, W) float32 in metres."""
    import h5py

    try:
        with h5py.File(labeled, 'r') as file:
            images, depths = file['images'], file['depths']
            _check_arrays(labeled, images, depths, parts)
            for split, rows in parts.items():
                for row in rows:
                    # MATLAB stores columns first: (3, W, H) and (W, H).
                    yield split, row, images[row].transpose(2, 1, 0), depths[row].T.astype(np.float32)
    except (OSError, LookupError, RuntimeError, TypeError, AttributeError) as error:
        raise DataError(f'{labeled} cannot be read: {type(error).__name__}: {error}') from error


def _official_parts(file: Path) -> dict[str, list[int]]:
    """Rows, from 0 on, for training and for testing."""
    content = read_matlab(file)
    try:
        parts = {part: (content[name].ravel().astype(int) - 1).tolist() for part, name in
                 (('train', 'trainNdxs'), ('test', 'testNdxs'))}
    except (ValueError, TypeError, LookupError) as error:
        raise DataError(f'{file} holds no official lists: {type(error).__name__}: {error}') from error
    if set(parts['train']) & set(parts['test']):
        raise DataError(f'{file} has images that are for training and for testing.')
    return parts


def _check_arrays(file: Path, images: object, depths: object, parts: dict[str, list[int]]) -> None:
    rows = sum(parts.values(), [])
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != np.uint8 or depths.shape != \
            (images.shape[0], *images.shape[2:]) or depths.dtype.kind != 'f':
        raise DataError(f'{file}: images {images.dtype} {images.shape} and depths {depths.dtype} {depths.shape} should '
                        'be uint8 (N, 3, W, H) and floats (N, W, H).')
    if not rows or min(rows) < 0 or max(rows) >= len(images):
        raise DataError(f'{file} has {len(images)} images; the lists name {min(rows, default=0) + 1} ... '
                        f'{max(rows, default=0) + 1}.')
