"""A torchvision data set that is already on disk, as a source of images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clear.core.errors import ConfigError, DataError, nearest
from clear.datasets.decode import UnreadableImage, to_rgb
from clear.features.sources import Source
from clear.features.writing import hash_data


@dataclass(eq=False)
class TorchvisionSource(Source):
    """The images of `dataset`, which gives (PIL image, class index). Paths are empty: not every set has files."""

    dataset: Any = None

    def open(self, row: int) -> Image.Image:
        try:
            return to_rgb(self.dataset[row][0])
        except (OSError, SyntaxError, ValueError) as error:
            raise UnreadableImage(str(error) or type(error).__name__) from error

    def fingerprint(self) -> str:
        """As of any source; in place of file sizes the pixels where the set holds them, else the sizes of its files."""
        data = getattr(self.dataset, 'data', None)
        if data is not None:
            pixels = np.ascontiguousarray(np.asarray(data))
            content = hashlib.sha256(repr((pixels.shape, str(pixels.dtype))).encode() + pixels.tobytes()).hexdigest()
            return hash_data(self.ids, self.labels, self.buckets, [*self.class_names, content])
        sizes = [Path(path).stat().st_size for path in _files(self.dataset)]
        return hash_data(self.ids, self.labels, self.buckets, self.class_names, sizes)


def torchvision_source(dataset: str, root: str, **options) -> Source:
    """A data set of `torchvision.datasets` by name; nothing is downloaded.

    Ids are `<name>/<options>/<index>`, for example 'CIFAR10/train=False/17'.

    Args:
        options: as the class takes them: `train`, `split`, ...

    Raises:
        ConfigError: for an unknown name or option, or a set that needs a download.
        DataError: if the data are not below `root`.
    """
    import torchvision.datasets

    cls = getattr(torchvision.datasets, dataset, None)
    if not isinstance(cls, type):
        known = [name for name in torchvision.datasets.__all__ if name[0].isupper()]
        raise ConfigError(f"torchvision has no data set '{dataset}'. Nearest: {nearest(dataset, known)}.")
    if options.pop('download', False):
        raise ConfigError(f'data.download: {dataset} is read from disk only. Download it with torchvision first.')
    base = Path(root).resolve()
    try:
        built = cls(str(base), **options)
    except TypeError as error:
        raise ConfigError(f'data: {dataset} does not take these options: {error}') from error
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(f'{dataset} is not readable in {base}: {error}') from error
    which = ''.join(f'{key}={value}/' for key, value in sorted(options.items()))
    labels = _labels(built)
    names = [str(name) for name in getattr(built, 'classes', [])] or [str(i) for i in range(int(labels.max()) + 1)]
    ids = [f'{dataset}/{which}{row}' for row in range(len(built))]
    return TorchvisionSource('TorchVision', dataset.lower(), base, ids, [''] * len(ids), labels, names, dataset=built)


def _labels(dataset) -> np.ndarray:
    """Class indices (N,): from the attribute that holds them, else from every sample (which decodes them all)."""
    for name in ('targets', 'labels', '_labels', 'y'):
        values = getattr(dataset, name, None)
        if values is not None and len(values) == len(dataset):
            return np.asarray(values, dtype=np.int64)
    for name in ('samples', '_samples'):
        values = getattr(dataset, name, None)
        if values is not None and len(values) == len(dataset):
            return np.array([sample[1] for sample in values], dtype=np.int64)
    return np.array([int(dataset[row][1]) for row in range(len(dataset))], dtype=np.int64)


def _files(dataset) -> list:
    for name in ('samples', '_samples'):
        values = getattr(dataset, name, None)
        if values is not None:
            return [sample[0] for sample in values]
    return list(getattr(dataset, '_image_files', None) or getattr(dataset, '_images', None) or [])
