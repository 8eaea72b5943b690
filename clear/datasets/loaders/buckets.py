"""The images of a bucket as a PyTorch data set whose every sample depends on the seed alone.

Sample order, worker and process never matter: what a random transform draws follows from (seed, experience, epoch,
sample id).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from clear.core.errors import DataError
from clear.core.seeding import derive_seed, seeded_draws
from clear.datasets.buckets import Bucket
from clear.datasets.images.bad_samples import BadSampleError, BadSamples
from clear.datasets.images.decode import ImageDecoder
from clear.datasets.images.reader import ImageReader


class SampleContext:
    """Where training stands: the seed, experience and epoch that augmentation draws depend on.

    The trainer sets `experience` and `epoch` before it asks a loader for the next pass. The three numbers live in
    shared memory, so persistent workers, which were started earlier, see them too.
    """

    def __init__(self, seed: int = 0, experience: int = 0, epoch: int = 0):
        self._numbers = torch.tensor([seed, experience, epoch], dtype=torch.int64).share_memory_()

    seed = property(lambda self: int(self._numbers[0]), lambda self, value: self._set(0, value))
    experience = property(lambda self: int(self._numbers[1]), lambda self, value: self._set(1, value))
    epoch = property(lambda self: int(self._numbers[2]), lambda self, value: self._set(2, value))

    def _set(self, index: int, value: int) -> None:
        self._numbers[index] = value

    def seed_of(self, purpose: str, sample: str) -> int:
        """A 63-bit seed for one sample at this point of training."""
        return derive_seed(purpose, *self._numbers.tolist(), sample)

    def __repr__(self) -> str:
        return f'SampleContext(seed={self.seed}, experience={self.experience}, epoch={self.epoch})'


class BucketDataset(Dataset):
    """The images of one bucket: `dataset[i]` is (transformed image, int target).

    A bad image (missing, damaged, no image) is reported. In training another image of the same bucket and class
    stands in for it, chosen by (seed, experience, epoch, id); in evaluation it raises `BadSampleError`, and
    `readable()` or `to_tensors` leave it out.

    Args:
        root: what the bucket's paths are relative to.
        bucket: from `read_clear`, in image mode.
        transform: called with an RGB PIL image. It counts as random unless it has `is_random = False`.
        is_train: whether stand-ins are allowed; also names the split in reports, 'train' or 'test'.
        context: shared by every data set of the run and set by the trainer.
        bad_samples: where bad images are reported; None where another data set reports the same files.
        cache: 'ram' keeps decoded images after first use: 3 bytes per pixel (a CLEAR-10 bucket of 500 x 375 images
            is 1.9 GB), in every worker that reads them. 'disk' keeps them in files below `cache_dir`, of the same
            size, made once and shared by workers, processes and runs (see `DiskCache`).
        decoder: 'pil', or 'cv2', which is faster and gives the same pixels.

    Raises:
        ConfigError: if `cache` or `decoder` is unknown, or one of `cache='disk'` and `cache_dir` lacks the other.
        ValueError: if the bucket holds features.
    """

    def __init__(self, root: str | Path, bucket: Bucket, transform: Callable, *, is_train: bool,
                 context: SampleContext, bad_samples: BadSamples | None = None, cache: str | None = None,
                 cache_dir: str | Path | None = None, decoder: str = 'pil'):
        if bucket.features is not None:
            raise ValueError(f'bucket {bucket.name} holds features, not images.')
        self.root = Path(root)
        self.bucket = bucket.name
        self.ids = bucket.ids
        self.paths = bucket.paths
        self.targets = bucket.targets.tolist()
        self.transform = transform
        self.is_train = is_train
        self.context = context
        self.bad_samples = bad_samples
        self.cache = cache
        self._reader = ImageReader(root, self.paths, ImageDecoder(decoder), parts=bucket.images.shard_parts,
                                   cache=cache, cache_dir=cache_dir, report=self._report)

    @property
    def split(self) -> str:
        return 'train' if self.is_train else 'test'

    @property
    def is_random(self) -> bool:
        """Whether two passes may give different images."""
        return getattr(self.transform, 'is_random', True)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The transformed image and its class index.

        Raises:
            BadSampleError: in evaluation, if the image is bad.
            DataError: if too many images are bad, or no image of the class can stand in.
        """
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        return self.transformed(self.image(index), index), self.targets[index]

    def image(self, index: int) -> Image.Image:
        """The decoded image, or in training the one that stands in for a bad one. A bad one is reported.

        Raises:
            BadSampleError, DataError: as `dataset[index]` does.
        """
        pixels = self._reader.find(index)
        return Image.fromarray(self._stand_in(index) if pixels is None else pixels)

    def read(self, index: int) -> Image.Image:
        """The decoded image; nothing is reported and nothing kept. Without a disk cache any thread may call it.

        Raises:
            UnreadableImage: with the reason.
        """
        return Image.fromarray(self._reader.read(index))

    def readable(self) -> list[int]:
        """Indices of the images that can be read; the others are reported. Decodes every image once."""
        return [index for index in range(len(self)) if self._reader.find(index) is not None]

    def _report(self, index: int, reason: str) -> None:
        if self.bad_samples is not None:
            self.bad_samples.report(self.split, self.bucket, self.ids[index], reason)

    def _stand_in(self, index: int) -> np.ndarray:
        where = f"bucket {self.bucket}: '{self.ids[index]}' cannot be read ({self._reader.bad[index]})"
        if not self.is_train:
            raise BadSampleError(f'{where}.')
        seed = self.context.seed_of('stand-in', self.ids[index])
        pixels = self._reader.first(rows_of_class(self.targets, index, seed))
        if pixels is None:
            raise DataError(f'{where} and no other image of class {self.targets[index]} can stand in for it.')
        return pixels

    def transformed(self, image: Image.Image, index: int, transform: Callable | None = None) -> torch.Tensor:
        """An image under the transform (or under a part of it, if one is given), with the draws of sample `index`."""
        transform = transform or self.transform
        try:
            if not self.is_random:
                return transform(image)
            # Seeded by the id asked for, so a stand-in is augmented as the image it replaces would have been.
            with seeded_draws(self.context.seed_of('augment', self.ids[index])):
                return transform(image)
        except Exception as error:
            error.add_note(f"in the transform of '{self.ids[index]}', {image.width} x {image.height} pixels")
            raise


def rows_of_class(targets: Sequence[int], row: int, seed: int) -> list[int]:
    """The other rows of the class of `row`, in an order that follows from the seed."""
    others = [each for each, target in enumerate(targets) if target == targets[row] and each != row]
    return [others[place] for place in np.random.default_rng(seed).permutation(len(others))]
