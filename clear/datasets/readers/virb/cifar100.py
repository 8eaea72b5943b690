"""CIFAR-100 as its Python pickles, read without running anything, whatever their checksum."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.storage.plain_pickles import read_array_pickle
from clear.datasets.readers.image_files import existing_folder
from clear.datasets.readers.torchvision import TorchvisionImages
from clear.registry import READERS

NUM_CLASSES = 100
_SIDE = 32


@dataclass(frozen=True, eq=False)
class CIFARImages:
    """`images[row]` is (pixels (32, 32, 3) uint8, class index)."""

    data: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        return self.data[row], int(self.targets[row])


@READERS.register_module(name='CIFAR100Pickles')
def cifar100_pickles(root: str, split: str) -> TorchvisionImages:
    """`root/{train,test}`, the files of cifar-100-python, with the 100 fine labels; `root/meta` holds their names.

    A file may ask for numpy's arrays and for nothing else, and no code of numpy is called by it: see
    `read_array_pickle`. Unlike `TorchVision(dataset='CIFAR100')` no checksum is wanted, so a part of the set can be
    read. Without `meta` the classes are called by their numbers.

    Raises:
        ConfigError: for another split.
        DataError: if a file is missing or damaged, asks for anything else, or holds other images or labels.
    """
    base = existing_folder(root)
    file = base / check_choice('split', split, ('train', 'test'))
    held = _held(file)
    pixels, labels = held.get('data'), held.get('fine_labels')
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * _SIDE**2,):
        found = f'{pixels.dtype} {pixels.shape}' if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f'{file}: data is {found}; expected images of 3 x 32 x 32 bytes each, uint8 (N, 3072).')
    if not isinstance(labels, list) or len(labels) != len(pixels) or any(
            type(label) is not int or not 0 <= label < NUM_CLASSES for label in labels):
        raise DataError(f'{file}: fine_labels should be {len(pixels)} numbers 0 ... {NUM_CLASSES - 1}, one an image.')
    names = _names(base / 'meta') if (base / 'meta').is_file() else list(map(str, range(NUM_CLASSES)))
    images = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)  # rows are planes: red, green, blue
    ids = [f'{split}/{row}' for row in range(len(images))]
    return TorchvisionImages.from_columns(base, dict(id=ids, path=[''] * len(ids), label=labels), names,
                                          name=f'cifar100_{split}',
                                          dataset=CIFARImages(images, np.array(labels, np.int64)))


def _names(file: Path) -> list[str]:
    names = _held(file).get('fine_label_names')
    if isinstance(names, list):
        names = [_text(name) for name in names]
    if not isinstance(names, list) or len(names) != NUM_CLASSES or not all(isinstance(name, str) for name in names):
        raise DataError(f'{file}: fine_label_names should be a list of {NUM_CLASSES} names.')
    return names


def _held(file: Path) -> dict:
    """The dict in a file; Python 2 wrote its keys as bytes."""
    content = read_array_pickle(file)
    if not isinstance(content, dict):
        raise DataError(f'{file} holds no dict; it is no file of cifar-100-python.')
    return {_text(key): value for key, value in content.items()}


def _text(value: object) -> object:
    return value.decode('latin1') if isinstance(value, bytes) else value
