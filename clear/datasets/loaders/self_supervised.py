"""Images for self-supervised pretraining: whatever a reader gives, bucket after bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.fingerprints import image_list_fingerprint
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.decode import ImageDecoder
from clear.datasets.images.reader import ImageReader
from clear.datasets.images.resize import SquareDecoder
from clear.datasets.table import ImageTable
from clear.datasets.transforms.build import build_transform

Key = tuple[int, int]
# `inputs`: the views, or with `seeds` the pixels that a model makes its views of.
Sample = dict[str, Tensor | list[Tensor]]


class SelfSupervisedImages(Dataset):
    """`dataset[epoch, index]` is what a self-supervised method learns from: views of an image, or what makes them.

    - With `transform` (PIL): `dict(inputs=[view, ...])`, each view (3, h, w) float32.
    - With `image_size` (for `BatchedMultiCrop`): `dict(inputs=(3, S, S) uint8 RGB, seeds=() int64)`.

    A config says `dict(type=READER, <options of the reader>, image_size=64)`; see `dataset_of`.

    The draws of a sample follow from (seed, experience 0, epoch, id) alone: order, workers and processes play no
    part. A bad image is reported, and another one of the same bucket stands in for it, chosen by (seed, epoch, id)
    and augmented with the draws of the one that it replaces.

    Args:
        images: which images there are, in files or shards; they are put bucket after bucket (see
            `ImageTable.in_buckets`).
        transform: one transform or a list, the last of which gives a list of views: `dict(type='MultiCrop', ...)`.
        image_size: side of the square images in pixels; about twice the size of the largest view keeps its detail.
        interpolation: of the resize to `image_size`.
        decoder: 'pil', or 'cv2', which is faster and gives the same pixels.
        cache: None, 'ram' or 'disk', of squares (5,000 of 64 pixels: 61 MB); with `transform` of whole decoded
            images, 'ram' then in every loader worker for itself. See `ImageReader`.
        cache_dir: of `cache='disk'`.
        max_bad_fraction: share of the images that may be bad before the run stops.

    Attributes:
        images: as they are read here.
        buckets: the rows of each bucket.
        ids, paths: one per image.
        labels: (N,) class indices where the images have them, else None; never part of a sample.
        seed: of the run; to be set before a loader starts its workers.
        bad_samples: where bad images are reported, in memory at first; see `report_to`.

    Raises:
        ConfigError: if options are unknown, out of range or do not go together.
    """

    def __init__(self, images: ImageTable, /, *, transform: Mapping | Sequence[Mapping] | None = None,
                 image_size: int | None = None, interpolation: str = 'bilinear', decoder: str = 'pil',
                 cache: str | None = None, cache_dir: str | Path | None = None, max_bad_fraction: float = 0.01):
        if (transform is None) == (image_size is None):
            raise ConfigError(f"{self._name_of(images)}: give either transform (e.g. dict(type='MultiCrop')), for "
                              'views made one by one, or image_size, for views made in batches by '
                              "data_preprocessor=dict(type='ViewPreprocessor', ...).")
        if not images.are_stored:
            raise ConfigError(f'{self._name_of(images)}: its images are not in files or shards below one '
                              'folder, which is all that pretraining reads.')
        self.images, self.buckets = images.in_buckets()
        self.root = images.root
        self.ids, self.paths = self.images.cells('id'), self.images.cells('path')
        self.labels = self.images.label_array() if 'label' in images else None
        self.class_names = list(images.class_names)
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
            parts=self.images.shard_parts, cache=cache, cache_dir=cache_dir, report=self._report)
        self.report_to(None)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f'{self._name_of(self.images)}({len(self)} images of {self.root}, buckets: {", ".join(self.buckets)})'

    def _name_of(self, images: ImageTable) -> str:
        return images.kind or type(self).__name__

    def fingerprint(self) -> str:
        """BLAKE2b (256 bits) of buckets, paths and sizes in order, wherever the root lies; a missing file has -1.

        A file that changes at equal size goes unnoticed: reading all of them would take as long as an epoch.
        """
        return image_list_fingerprint(self.root, self.images.texts('path'),
                                      [(name, rows.start, rows.stop) for name, rows in self.buckets.items()],
                                      self.images.contents.sizes(self.paths))

    def report_to(self, path: str | Path | None) -> None:
        """List bad images in a file, `work_dir/bad_samples.jsonl`, that all processes share; None: in memory."""
        self.bad_samples = BadSamples(path, {'train': len(self)}, self.max_bad_fraction)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of an epoch, as the class describes.

        Raises:
            DataError: if too many images are bad.
            TypeError: if the key is a bare index.
        """
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[Sample]:
        """The samples of a batch; a loader asks for them at once."""
        keys = [self._checked(key) for key in keys]
        if self._size is None:
            return [dict(inputs=self._views(*key)) for key in keys]
        # Stacked here, though a loader stacks once more: what leaves is a copy, and the cache stays as it is.
        pixels = torch.from_numpy(np.stack([self._pixels(*key) for key in keys]))  # (B, 3, S, S)
        seeds = torch.tensor([self._seed('augment', *key) for key in keys], dtype=torch.int64)
        return [dict(inputs=image, seeds=seed) for image, seed in zip(pixels.unbind(), seeds.unbind())]

    def blank_samples(self) -> list[Sample]:
        """What a model is shown before training."""
        return [self.blank_sample()]

    def blank_sample(self) -> Sample:
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
        self.bad_samples.report('train', self._bucket_of(row), self.ids[row], reason)

    def _bucket_of(self, row: int) -> str:
        return next(name for name, rows in self.buckets.items() if row in rows)

    def _stand_in(self, epoch: int, row: int) -> np.ndarray:
        bucket = self._bucket_of(row)
        pixels = self._reader.first(_others(self.buckets[bucket], row, self._seed('stand-in', epoch, row)))
        if pixels is None:
            raise DataError(f"bucket {bucket}: '{self.ids[row]}' cannot be read ({self._reader.bad[row]}), and no "
                            'other image of the bucket can stand in for it.')
        return pixels


def _others(bucket: range, row: int, seed: int) -> Iterator[int]:
    """The other rows of a bucket, each once, in an order that follows from the seed."""
    draws = np.random.default_rng(seed)
    seen = {row}
    # Drawn one by one: a permutation of a bucket of a million images would take longer than reading one.
    while len(seen) < len(bucket):
        other = int(draws.integers(bucket.start, bucket.stop))
        if other not in seen:
            seen.add(other)
            yield other
