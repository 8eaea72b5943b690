"""Unlabelled images for self-supervised pretraining: any folder, list or table, or time buckets of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.decode import ImageDecoder
from clear.datasets.images.reader import ImageReader
from clear.datasets.images.resize import SquareDecoder
from clear.datasets.readers.bucket_lists import BucketChoice, read_buckets
from clear.datasets.readers.folder import read_class_folders
from clear.datasets.readers.image_lists import ImageList, Span, existing_folder, read_folder, read_list, read_table
from clear.datasets.transforms.build import build_transform
from clear.registry import DATASETS

Key = tuple[int, int]


class SelfSupervisedImages(Dataset):
    """`dataset[epoch, index]` is what a self-supervised method learns from: views of an image, or what makes them.

    - With `transform` (PIL): `dict(inputs=[view, ...])`, each view (3, h, w) float32.
    - With `image_size` (for `BatchedMultiCrop`): `dict(inputs=(3, S, S) uint8 RGB, seeds=() int64)`.

    The draws of a sample follow from (seed, experience 0, epoch, path) alone: order, workers and processes play no
    part. A bad image is reported, and another one of the same bucket stands in for it, chosen by (seed, epoch, path)
    and augmented with the draws of the one that it replaces.

    Args:
        images: which images there are.
        transform: one transform or a list, the last of which gives a list of views: `dict(type='MultiCrop', ...)`.
        image_size: side of the square images in pixels; about twice the size of the largest view keeps its detail.
        interpolation: of the resize to `image_size`.
        decoder: 'pil', or 'cv2', which is faster and gives the same pixels.
        cache: None, 'ram' or 'disk', of squares (5,000 of 64 pixels: 61 MB); with `transform` of whole decoded
            images, 'ram' then in every loader worker for itself. See `ImageReader`.
        cache_dir: of `cache='disk'`.
        max_bad_fraction: share of the images that may be bad before the run stops.

    Attributes:
        ids, paths: one per image, the path below `root`.
        labels: class indices where the source has them, else None; never part of a sample.
        seed: of the run; to be set before a loader starts its workers.
        bad_samples: where bad images are reported, in memory at first; see `report_to`.

    Raises:
        ConfigError: if options are unknown, out of range or do not go together.
    """

    def __init__(self, images: ImageList, /, *, transform: Mapping | Sequence[Mapping] | None = None,
                 image_size: int | None = None, interpolation: str = 'bilinear', decoder: str = 'pil',
                 cache: str | None = None, cache_dir: str | Path | None = None, max_bad_fraction: float = 0.01):
        if (transform is None) == (image_size is None):
            raise ConfigError(f"{type(self).__name__}: give either transform (e.g. dict(type='MultiCrop')), for views "
                              'made one by one, or image_size, for views made in batches by '
                              "data_preprocessor=dict(type='ViewPreprocessor', ...).")
        self.images = images
        self.root = images.root
        self.ids = self.paths = images.paths
        self.labels = images.labels
        self.class_names = images.class_names
        self.cache = cache
        self.seed = 0
        self.max_bad_fraction = max_bad_fraction
        self._size = image_size
        self._transform = None
        if transform is not None:
            self._transform = build_transform([transform] if isinstance(transform, Mapping) else transform)
        self._reader = ImageReader(
            self.root, self.paths,
            ImageDecoder(decoder) if image_size is None else SquareDecoder(image_size, interpolation, decoder),
            cache=cache, cache_dir=cache_dir, report=self._report)
        self.report_to(None)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        names = ', '.join(span.name for span in self.images.buckets)
        return f'{type(self).__name__}({len(self)} images of {self.root}, buckets: {names})'

    def fingerprint(self) -> str:
        """Identifies the images, wherever they lie: see `ImageList.fingerprint`."""
        return self.images.fingerprint()

    def report_to(self, path: str | Path | None) -> None:
        """List bad images in a file, `work_dir/bad_samples.jsonl`, that all processes share; None: in memory."""
        self.bad_samples = BadSamples(path, {'train': len(self)}, self.max_bad_fraction)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """The sample of an epoch, as the class describes.

        Raises:
            DataError: if too many images are bad.
            TypeError: if the key is a bare index.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """The samples of a batch; a loader asks for them at once."""
        keys = [self._checked(key) for key in keys]
        if self._size is None:
            return [dict(inputs=self._views(*key)) for key in keys]
        # Stacked here, though a loader stacks once more: what leaves is a copy, and the cache stays as it is.
        pixels = torch.from_numpy(np.stack([self._pixels(*key) for key in keys]))  # (B, 3, S, S)
        seeds = torch.tensor([self._seed('augment', *key) for key in keys], dtype=torch.int64)
        return [dict(inputs=image, seeds=seed) for image, seed in zip(pixels.unbind(), seeds.unbind())]

    def blank_sample(self) -> dict[str, Any]:
        """A sample of a black image: what samples look like, without reading a file or filling a cache."""
        if self._size is not None:
            return dict(inputs=torch.zeros(3, self._size, self._size, dtype=torch.uint8), seeds=torch.tensor(0))
        return dict(inputs=self._transformed(Image.new('RGB', (256, 256)), 0, 'a blank image'))

    def _checked(self, key: Key) -> Key:
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f'expected a key (epoch, index), found {key!r}: an index alone would repeat the same views '
                            "in every epoch. Use sampler=dict(type='EpochSampler').")
        return int(key[0]), range(len(self))[key[1]]

    def _seed(self, purpose: str, epoch: int, row: int) -> int:
        """As `SampleContext.seed_of` at experience 0."""
        return derive_seed(purpose, self.seed, 0, epoch, self.ids[row])

    def _views(self, epoch: int, row: int) -> list[Tensor]:
        image = Image.fromarray(self._pixels(epoch, row))
        return self._transformed(image, self._seed('augment', epoch, row), f"'{self.ids[row]}'")

    def _transformed(self, image: Image.Image, seed: int, name: str) -> list[Tensor]:
        try:
            with seeded_draws(seed):
                views = self._transform(image)
        except Exception as error:
            error.add_note(f'in the transform of {name}, {image.width} x {image.height} pixels')
            raise
        if not isinstance(views, list) or not all(isinstance(view, Tensor) for view in views):
            raise ConfigError(f'The transform gives {type(views).__name__}, expected a list of views (tensors). Is '
                              "dict(type='MultiCrop') missing at its end?")
        return views

    def _pixels(self, epoch: int, row: int) -> np.ndarray:
        """What is kept of an image, or of the one that stands in for it."""
        pixels = self._reader.find(row)
        return self._stand_in(epoch, row) if pixels is None else pixels

    def _report(self, row: int, reason: str) -> None:
        self.bad_samples.report('train', self.images.bucket_of(row).name, self.ids[row], reason)

    def _stand_in(self, epoch: int, row: int) -> np.ndarray:
        bucket = self.images.bucket_of(row)
        pixels = self._reader.first(_others(bucket, row, self._seed('stand-in', epoch, row)))
        if pixels is None:
            raise DataError(f"bucket {bucket.name}: '{self.ids[row]}' cannot be read ({self._reader.bad[row]}), and no "
                            'other image of the bucket can stand in for it.')
        return pixels


def _others(bucket: Span, row: int, seed: int) -> Iterator[int]:
    """The other rows of a bucket, each once, in an order that follows from the seed."""
    draws = np.random.default_rng(seed)
    seen = {row}
    # Drawn one by one: a permutation of a bucket of a million images would take longer than reading one.
    while len(seen) < bucket.stop - bucket.start:
        other = int(draws.integers(bucket.start, bucket.stop))
        if other not in seen:
            seen.add(other)
            yield other


def _check_reading(kind: type, reading: dict[str, Any]) -> None:
    """Refuse misspelt options before anything is read."""
    check_keys('dataset', reading, accepted_arguments(kind), kind.__name__)


@DATASETS.register_module()
class FolderImages(SelfSupervisedImages):
    """Every image below a folder, whatever its depth, sorted by path.

    Args:
        reading: of `SelfSupervisedImages`.

    Raises:
        DataError: if the folder does not exist or holds no images.
    """

    def __init__(self, data_root: str | Path, **reading: Any):
        _check_reading(FolderImages, reading)
        super().__init__(read_folder(data_root), **reading)


@DATASETS.register_module()
class ListImages(SelfSupervisedImages):
    """The images that a text file names, one path per line.

    Args:
        data_root: what the paths are relative to; None means the folder of the list.
        reading: of `SelfSupervisedImages`.

    Raises:
        DataError: if the list cannot be read or is empty, or a path is missing, named twice or outside the root.
    """

    def __init__(self, list_file: str | Path, data_root: str | Path | None = None, **reading: Any):
        _check_reading(ListImages, reading)
        super().__init__(read_list(list_file, data_root), **reading)


@DATASETS.register_module()
class TableImages(SelfSupervisedImages):
    """The images that a column of a `.csv`, `.parquet` or `.jsonl` file names.

    Args:
        data_root: what the paths are relative to; None means the folder of the table.
        reading: of `SelfSupervisedImages`.

    Raises:
        DataError: if the table cannot be read, lacks the column or a cell, or a path is missing, named twice or
            outside the root.
    """

    def __init__(self, table: str | Path, data_root: str | Path | None = None, path_column: str = 'path',
                 **reading: Any):
        _check_reading(TableImages, reading)
        super().__init__(read_table(table, data_root, path_column), **reading)


@DATASETS.register_module()
class BucketImages(SelfSupervisedImages):
    """One or several time buckets of a CLEAR tree, of folders by time, or of a curation's bucket files.

    Args:
        buckets, split, split_seed, layout, bucket_files, times, image_dir, part_folders: which images; see
            `BucketChoice`.
        reading: of `SelfSupervisedImages`.

    Raises:
        ConfigError: if a bucket does not exist.
        DataError: if data are missing or wrong, or a bucket has no images.
    """

    def __init__(self, data_root: str | Path, buckets: int | str | Sequence[int | str] | None = (0,),
                 split: str = 'train', split_seed: int = 0, layout: str = 'auto',
                 bucket_files: str | Path | Sequence[str | Path] | None = None, times: Sequence[str] | None = None,
                 image_dir: str | None = None, part_folders: bool | None = None, **reading: Any):
        _check_reading(BucketImages, reading)
        choice = BucketChoice(buckets, split, split_seed, layout, bucket_files, times, image_dir, part_folders)
        super().__init__(read_buckets(data_root, choice), **reading)


@DATASETS.register_module()
class FolderByTime(SelfSupervisedImages):
    """All images of `<time>/<class>/<image>`, bucket by bucket, as the scenario and the bank source of this name read.

    Args:
        times, part_folders: see `BucketChoice`.
        reading: of `SelfSupervisedImages`.

    Raises:
        DataError: if data are missing or wrong, or a bucket has no images.
    """

    def __init__(self, data_root: str | Path, times: Sequence[str] | None = None, part_folders: bool | None = None,
                 **reading: Any):
        _check_reading(FolderByTime, reading)
        super().__init__(read_buckets(data_root, BucketChoice(None, 'all', layout='folder', times=times,
                                                              part_folders=part_folders)), **reading)


@DATASETS.register_module()
class ImageFolder(SelfSupervisedImages):
    """All images of `<class>/<image>`, sorted by path, as the bank source of this name reads them.

    Args:
        reading: of `SelfSupervisedImages`.

    Raises:
        DataError: if the folder does not exist or holds no images.
    """

    def __init__(self, root: str | Path, **reading: Any):
        _check_reading(ImageFolder, reading)
        base = existing_folder(root)
        images = read_class_folders(base)
        super().__init__(ImageList(base, images.texts('path'), labels=images.label_array().tolist(),
                                   class_names=list(images.class_names)), **reading)
