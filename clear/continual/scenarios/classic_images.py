"""The samples of an Avalanche experience under our transforms, with draws that follow from the seed alone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch.utils.data import Dataset

from clear.continual.scenarios.base import TensorBucket
from clear.core.errors import ConfigError, DataError
from clear.core.seeding import seeded_draws
from clear.datasets import BadSampleError, BadSamples, SampleContext, UnreadableImage
from clear.datasets.images.reader import RowReader
from clear.datasets.loaders.buckets import rows_of_class
from clear.datasets.transforms.build import DETERMINISTIC

# What a missing or damaged image file raises when it is read.
UNREADABLE = (OSError, SyntaxError, struct.error)


class _RawInputs(RowReader):
    """The inputs of an Avalanche data set, at some of its rows."""

    def __init__(self, data, rows: Sequence[int], report: Callable[[int, str], None]):
        super().__init__(report)
        self._data = data
        self._rows = rows

    def __getitem__(self, row: int) -> Image.Image | torch.Tensor:
        try:
            return self._data[self._rows[row]][0]
        except UNREADABLE as error:
            raise UnreadableImage(f'{type(error).__name__}: {error}') from error


class ExperienceImages(Dataset):
    """`dataset[i]` is (transformed input, int target) of row i of an Avalanche data set.

    A sample that cannot be read is reported. In training another of the same class stands in for it, chosen by
    (seed, experience, epoch, row); in evaluation it raises `BadSampleError`.

    Args:
        data: an Avalanche classification data set without transforms, whose items begin with the input. What it does
            itself (Avalanche's rotations draw random numbers, always to the same effect) is seeded too.
        rows: the rows of it to use.
        name: of the experience, in reports.
        transform: from the raw input (a PIL image, or a tensor) to a tensor.
    """

    def __init__(self, data, rows: list[int], name: str, transform: Callable, *, is_train: bool,
                 context: SampleContext, bad_samples: BadSamples):
        self.rows = list(rows)
        labels = [int(target) for target in data.targets]
        self.targets = [labels[row] for row in self.rows]
        self.name = name
        self.transform = transform
        self.is_train = is_train
        self.context = context
        self.bad_samples = bad_samples
        self._reader = _RawInputs(data, self.rows, self._report)

    @property
    def split(self) -> str:
        return 'train' if self.is_train else 'test'

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """The transformed input and its class index.

        Raises:
            BadSampleError: in evaluation, if the sample cannot be read.
            DataError: if too many cannot be read, or none of the class can stand in.
        """
        index = range(len(self))[index]  # negative indices, and IndexError past the end
        name = self._name(index)
        with seeded_draws(self.context.seed_of('raw', name)):
            raw = self._reader.find(index)
            if raw is None:
                raw = self._stand_in(index)
        with seeded_draws(self.context.seed_of('augment', name)):
            return self.transform(raw), self.targets[index]

    def _name(self, index: int) -> str:
        return f'{self.name}/{self.split}/{self.rows[index]}'

    def _report(self, index: int, reason: str) -> None:
        self.bad_samples.report(self.split, self.name, self._name(index), reason)

    def _stand_in(self, index: int) -> Image.Image | torch.Tensor:
        where = f'{self._name(index)} cannot be read ({self._reader.bad[index]})'
        if not self.is_train:
            raise BadSampleError(f'{where}.')
        seed = self.context.seed_of('stand-in', self._name(index))
        raw = self._reader.first(rows_of_class(self.targets, index, seed))
        if raw is None:
            raise DataError(f'{where} and no other sample of class {self.targets[index]} can stand in for it.')
        return raw


def as_block(images: ExperienceImages) -> TensorBucket:
    """All samples as one block, for a transform that draws nothing; unreadable test samples are left out.

    Raises:
        ConfigError: if the transform gives no floating-point tensor.
        DataError: if inputs come out in different sizes, or none can be read.
    """
    inputs, targets = [], []
    for row in range(len(images)):
        try:
            sample, target = images[row]
        except BadSampleError:
            continue
        if not isinstance(sample, torch.Tensor) or not sample.is_floating_point():
            raise ConfigError(f'The transform gives {type(sample).__name__}, expected a floating-point tensor. Is '
                              "dict(type='ToTensor') missing?")
        if inputs and sample.shape != inputs[0].shape:
            raise DataError(f'experience {images.name}: inputs of shape {tuple(inputs[0].shape)} and '
                            f'{tuple(sample.shape)}. Resize and crop to one size.')
        inputs.append(sample)
        targets.append(target)
    if not inputs:
        raise DataError(f'experience {images.name}: none of its {len(images)} {images.split} samples can be read.')
    return TensorBucket(torch.stack(inputs), torch.tensor(targets))


def draws_nothing(transform: Callable) -> bool:
    """Whether a transform is known to give the same result every time: ours say so, torchvision's by name."""
    if hasattr(transform, 'is_random'):
        return not transform.is_random
    parts = getattr(transform, 'transforms', None)
    if isinstance(parts, (list, tuple)):
        return type(transform).__name__ == 'Compose' and all(map(draws_nothing, parts))
    return type(transform).__name__ in DETERMINISTIC
