"""A torchvision data set that is already on disk, as a table of images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from clear.core.errors import ConfigError, DataError, nearest
from clear.datasets.fingerprints import bank_source_fingerprint
from clear.datasets.images.decode import DECODE_ERRORS, UnreadableImage, decode_image, to_rgb
from clear.datasets.readers.image_files import real_path
from clear.datasets.readers.labels import class_indices, unique_names
from clear.datasets.table import ImageTable
from clear.registry import READERS

if TYPE_CHECKING:
    from torch.utils.data import Dataset


@dataclass(frozen=True, eq=False)
class TorchvisionImages(ImageTable):
    """The images of `dataset`, which gives (PIL image, class index). Paths are empty: not every set has files."""

    dataset: Dataset | None = None

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, '_files', _files(self.dataset))

    def _place(self, row: int) -> int:
        return int(self.text('id', row).rpartition('/')[2])

    def open_image(self, row: int) -> Image.Image:
        place = self._place(row)
        if self._files is not None:  # by the rules of every other table, huge and damaged files among them
            return decode_image(self._files[place])
        try:
            image = self.dataset[place][0]
            return to_rgb(image if isinstance(image, Image.Image) else Image.fromarray(np.asarray(image)))
        except DECODE_ERRORS as error:
            raise UnreadableImage(str(error) or type(error).__name__) from error

    def fingerprint(self) -> str:
        """As of any table; in place of file sizes the pixels where the set holds them in `data`.

        Of a set that says neither where its files are nor holds pixels there, all files below the root count.
        """
        known = self.texts('id'), self.label_array(), self.buckets()
        if self._files is not None:
            return bank_source_fingerprint(*known, self.class_names,
                                           _sizes(self._files[self._place(row)] for row in range(len(self))))
        pixels = np.asarray(getattr(self.dataset, 'data', ()))
        if pixels.size and pixels.dtype.kind in 'buif':
            digest = hashlib.sha256(repr((pixels.shape, str(pixels.dtype))).encode())
            digest.update(np.ascontiguousarray(pixels))
            content = [digest.hexdigest()]
        else:
            found = sorted(path for path in self.root.rglob('*') if path.is_file())
            content = [f'{path.relative_to(self.root)} {size}' for path, size in zip(found, _sizes(found))]
        return bank_source_fingerprint(*known, [*self.class_names, *content])


@READERS.register_module(name='TorchVision')
def torchvision_images(dataset: str, root: str, **options) -> TorchvisionImages:
    """A data set of `torchvision.datasets` by name; nothing is downloaded.

    Ids are `<name>/<options>/<index>`, for example 'CIFAR10/train=False/17'.

    Args:
        options: as the class takes them: `train`, `split`, ...

    Raises:
        ConfigError: for an unknown name or option, a set that needs a download, or one whose images do not have one
            class each.
        DataError: if the data are not below `root`.
    """
    import torchvision.datasets

    cls = getattr(torchvision.datasets, dataset, None)
    if not isinstance(cls, type):
        known = [name for name in torchvision.datasets.__all__ if name[0].isupper()]
        raise ConfigError(f"torchvision has no data set '{dataset}'. Nearest: {nearest(dataset, known)}.")
    if options.pop('download', False):
        raise ConfigError(f'data.download: {dataset} is read from disk only. Download it with torchvision first.')
    base = real_path(root)
    try:
        built = cls(str(base), **options)
    except TypeError as error:
        raise ConfigError(f'data: {dataset} does not take these options: {error}') from error
    except ImportError as error:
        raise ConfigError(f'data: {dataset} needs a package that is not installed: {error}') from error
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f'{dataset} is not readable in {base}: {error}') from error
    which = ''.join(f'{key}={value}/' for key, value in sorted(options.items()))
    try:
        labels = _labels(built)
    except NotImplementedError as error:
        raise ConfigError(f'data: {dataset} is no data set of its own, but what others are made from.') from error
    names = unique_names(getattr(built, 'classes', None) or getattr(built, 'categories', []))
    if not names:
        labels, names = class_indices(labels.tolist(), None, dataset)
    ids = [f'{dataset}/{which}{row}' for row in range(len(built))]
    return TorchvisionImages.from_columns(base, dict(id=ids, path=[''] * len(ids), label=labels), names,
                                          name=dataset.lower(), dataset=built)


def _labels(dataset) -> np.ndarray:
    """Class indices (N,): from the attribute that holds them, else from every sample (which decodes them all)."""
    columns = [getattr(dataset, name, None) for name in ('targets', 'labels', '_labels', 'y')]
    columns += [[sample[1] for sample in getattr(dataset, name, None) or ()] for name in ('samples', '_samples')]
    for values in columns:
        # QMNIST keeps eight numbers per image there, and the class is the first.
        if values is not None and len(values) == len(dataset) and np.ndim(values) == 1 and len(values) \
                and not any(value is None for value in values):
            return np.asarray(values, dtype=np.int64)
    try:
        return np.array([int(dataset[row][1]) for row in range(len(dataset))], dtype=np.int64)
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(f'data: the images of {type(dataset).__name__} do not have one class each ({error}); only '
                          'classification sets can be encoded.') from error


def _files(dataset) -> list[Path] | None:
    """The file of every row, where the set says it."""
    columns = [[sample[0] for sample in getattr(dataset, name, None) or ()] for name in ('samples', '_samples', 'imgs')]
    columns += [getattr(dataset, name, None) for name in ('_image_files', '_images', 'data')]
    for values in columns:
        if isinstance(values, list) and len(values) == len(dataset) and values \
                and all(isinstance(value, (str, Path)) for value in values):
            return [Path(value) for value in values]
    return None


def _sizes(files: Iterable[Path]) -> list[int]:
    return [path.stat().st_size if path.is_file() else -1 for path in files]
