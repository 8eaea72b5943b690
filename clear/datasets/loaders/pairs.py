"""Images with captions, for training two towers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pyarrow import compute
from torch import Tensor
from torch.utils.data import Dataset

from clear.core.checks import check_flag
from clear.core.errors import ConfigError, DataError
from clear.core.seeding import derive_seed, derive_seeds, seeded_draws
from clear.datasets.columns import TextCells, encoded_texts
from clear.datasets.fingerprints import pairs_fingerprint
from clear.datasets.images.bad_samples import BadSamples
from clear.datasets.images.reader import RowReader
from clear.datasets.loaders.stored import DistinctTexts, FixedImages, FixedTransform, StoredReader, StoredRows
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.datasets.transforms.build import build_transform
from clear.registry import DATASETS

Key = tuple[int, int]
Sample = dict[str, Tensor | str | int]
Batch = dict[str, Tensor | list[str]]


class OpenedImages(RowReader[Image.Image]):
    """The images of a table, as its `open_image` gives them."""

    def __init__(self, images: ImageTable, report):
        super().__init__(report)
        self.images = images

    def __getitem__(self, row: int) -> Image.Image:
        return self.images.open_image(row)


@DATASETS.register_module()
class ImageTextPairs(Dataset):
    """`dataset[epoch, index]` is `dict(inputs=(3, H, W) float32, captions=str, labels=int, rows=int)`.

    The caption is drawn from those of the image; that and the draws of the transform follow from (seed, epoch, id)
    alone, so order, workers and processes play no part. A bad image is reported, and another pair of the same bucket
    and class, with its own caption, stands in for it, chosen by (seed, epoch, id).

    After `read_stored` a sample has `image_features` in place of `inputs`, or `text_features` in place of `captions`,
    (D,) float32 each: the same images and captions, as a tower encoded them beforehand.

    Args:
        images: `dict(type=READER, ...)` or a table, with the column `caption`.
        transform: list of transforms that ends in a tensor, e.g. in `dict(type='ToTensor')` and a `Normalize`.
        every_caption: a sample for each caption of an image, so that an epoch has all of them; else one for each image.
        max_bad_fraction: share of the images that may be bad before the run stops.

    Attributes:
        images: the table.
        sample_weights: (N,) float64, how often a sample is drawn (see `EpochSampler`); None where the table has no
            column `weight`.
        seed: of the run; to be set before a loader starts its workers.
        bad_samples: where bad images are reported, in memory at first; see `report_to`.

    Raises:
        ConfigError: for options that are unknown or a transform that gives no tensor.
        DataError: if an image has no caption, or an empty one.
    """

    def __init__(self, images: Mapping | ImageTable, transform: Sequence[Mapping], *, every_caption: bool = False,
                 max_bad_fraction: float = 0.01):
        self.images = read_images(images, 'dataset.images')
        counts = self.images.caption_counts()
        bare = np.flatnonzero(counts == 0)
        if len(bare):
            raise DataError(f"{self.images.root}: {len(bare)} of {len(counts)} images have no caption; the first is "
                            f"'{self.images.text('id', int(bare[0]))}'.")
        lengths = compute.utf8_length(compute.utf8_trim_whitespace(self.images.caption_texts()))
        blank = compute.sum(compute.equal(lengths, 0)).as_py() or 0
        if blank:
            raise DataError(f'{self.images.root}: {blank} captions are empty. Leave them out of the table.')
        self._longest = self.images.caption_texts()[compute.index(lengths, compute.max(lengths)).as_py()].as_py()
        self.labels = self.images.label_array()
        self.class_names = self.images.class_names
        self.every_caption = check_flag('every_caption', every_caption)
        # The image of each sample, and which of its captions; -1 draws one.
        self._rows = np.repeat(np.arange(len(counts)), counts) if every_caption else np.arange(len(counts))
        starts = np.cumsum(counts) - counts
        self._captions = np.arange(len(self._rows)) - starts[self._rows] if every_caption else None
        self.sample_weights: np.ndarray | None = None
        if 'weight' in self.images:
            self.sample_weights = self.images['weight'].to_numpy()[self._rows]
        self.seed = 0
        self.max_bad_fraction = max_bad_fraction
        self._transform_cfg = transform
        self._transform = build_transform(transform)
        self._reader: OpenedImages | StoredReader = OpenedImages(self.images, self._report)
        self._stored: dict[str, StoredRows] = {}
        self._texts: DistinctTexts | None = None
        self._counts = counts
        self._groups: np.ndarray | None = None
        self.report_to(None)
        self.blank_sample()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f'{type(self).__name__}({len(self)} pairs of {len(self.images)} images in {self.images.root})'

    def fingerprint(self) -> str:
        """Identifies the images and their captions, wherever they lie; files by their size."""
        return pairs_fingerprint(self._images_fingerprint, map(self.images.captions, range(len(self.images))))

    @cached_property
    def _images_fingerprint(self) -> str:
        # It asks for the size of every file.
        return self.images.fingerprint()

    def shard_counts(self) -> np.ndarray:
        """(S,) int64: how many samples after one another are of one shard.

        Raises:
            ConfigError: for images that do not lie in shards.
        """
        if 'shard' not in self.images:
            raise ConfigError(f'{self.images.root}: these pairs do not lie in shards. Read them with '
                              "sampler=dict(type='EpochSampler').")
        shards = encoded_texts(self.images['shard']).indices.fill_null(-1).to_numpy(zero_copy_only=False)[self._rows]
        ends = np.append(np.flatnonzero(np.diff(shards)) + 1, len(shards))
        return np.diff(ends, prepend=0)

    @cached_property
    def _ids(self) -> TextCells:
        return TextCells(self.images['id'])

    def report_to(self, path: str | Path | None) -> None:
        """List bad images in a file, `work_dir/bad_samples.jsonl`, that all processes share; None: in memory."""
        self.bad_samples = BadSamples(path, {'train': len(self.images)}, self.max_bad_fraction)

    def __getitem__(self, key: Key) -> Sample:
        """The sample of an epoch, as the class describes.

        Raises:
            DataError: if too many images are bad.
            TypeError: if the key is a bare index.
        """
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError(f'expected a key (epoch, index), found {key!r}: an index alone would repeat the same draws '
                            "in every epoch. Use sampler=dict(type='EpochSampler').")
        epoch, index = int(key[0]), range(len(self))[key[1]]
        row, own = int(self._rows[index]), row_caption(self._captions, index)
        image = self._reader.find(row)
        if image is None:
            row, own, image = self._stand_in(epoch, index)
        number = self._caption_number(epoch, index, row, own)
        if 'image' in self._stored:
            sample = dict(image_features=image)
        else:
            seed = self._seed('augment', epoch, index)
            sample = dict(inputs=self._transformed(image, seed, f"'{self.images.text('id', row)}'"))
        if 'text' in self._stored:
            sample['text_features'] = self._stored['text'].take(int(self._texts.rows(row, number)))
        else:
            sample['captions'] = self.images.captions(row)[number]
        return dict(**sample, labels=int(self.labels[row]), rows=row)

    def __getitems__(self, keys: Sequence[Key]) -> Batch | list[Sample]:
        """What a loader asks for: samples, or if images are stored the whole batch of them at once."""
        if 'image' not in self._stored:
            return [self[key] for key in keys]
        indices = np.array([index for _, index in keys])
        rows = self._rows[indices]
        numbers = np.zeros(len(rows), dtype=np.int64) if self._captions is None else self._captions[indices]
        bad = self._reader.is_bad[rows]
        if self._captions is None:
            numbers[:] = self._drawn_captions(keys, rows)
        for place in np.flatnonzero(bad):
            epoch, index = keys[place]
            self._reader.find(int(rows[place]))  # reports it
            rows[place], _, _ = self._stand_in(epoch, index)
            numbers[place] = self._caption_number(epoch, index, int(rows[place]), None)
        batch: Batch = dict(image_features=self._stored['image'].take(rows))
        if 'text' in self._stored:
            batch['text_features'] = self._stored['text'].take(self._texts.rows(rows, numbers))
        else:
            batch['captions'] = [self._texts.texts[text] for text in self._texts.rows(rows, numbers).tolist()]
        return dict(**batch, labels=torch.from_numpy(self.labels[rows]).long(), rows=torch.from_numpy(rows))

    @property
    def image_rows(self) -> np.ndarray:
        """(N,) int64: the image of each sample."""
        return self._rows

    def own_captions(self) -> list[str] | None:
        """The caption of each sample; None if some draw theirs in every epoch."""
        if self._captions is None and (self._counts > 1).any():
            return None
        numbers = np.zeros(len(self), dtype=np.int64) if self._captions is None else self._captions
        return [self.images.captions(row)[number] for row, number in zip(self._rows.tolist(), numbers.tolist())]

    # Features in place of what a tower reads

    def fixed_inputs(self) -> dict[str, FixedImages | list[str] | str]:
        """What each tower reads, 'image' and 'text', if that is the same in every epoch; else why it is not."""
        shape = self.blank_sample()['inputs'].shape
        if self._transform.is_random:
            images = 'the transform of the images is random'
        elif shape[1] != shape[2]:
            images = f'images of {shape[1]} x {shape[2]} pixels are not square'
        else:
            images = FixedImages(self.images, self._images_fingerprint,
                                 FixedTransform(self._transform_cfg, shape[1]), self.max_bad_fraction)
        self._texts = DistinctTexts(self.images)
        return dict(image=images, text=self._texts.texts)

    def read_stored(self, stored: Mapping[str, StoredRows]) -> None:
        """Give features in place of the `fixed_inputs` that they belong to, from now on."""
        self._stored = dict(stored)
        if 'image' in stored:
            self._reader = StoredReader(stored['image'], self._report)

    def blank_sample(self) -> Sample:
        """A black image with the longest caption and the lowest label: what is hardest, without reading a file."""
        image = self._transformed(Image.new('RGB', (256, 256)), 0, 'a blank image')
        return dict(inputs=image, captions=self._longest, labels=int(self.labels.min()), rows=0)

    def blank_samples(self) -> list[Sample]:
        """That, and another one with the highest label."""
        blank = self.blank_sample()
        return [blank, dict(blank, labels=int(self.labels.max()))]

    def _seed(self, purpose: str, epoch: int, index: int) -> int:
        name = self.images.text('id', int(self._rows[index]))
        number = row_caption(self._captions, index)
        return derive_seed(purpose, self.seed, 0, epoch, name if number is None else f'{name}#{number}')

    def _caption_number(self, epoch: int, index: int, row: int, own: int | None) -> int:
        """Which caption of an image a sample has, drawn if it has none of its own."""
        if own is not None:
            return own
        count = int(self._counts[row])
        return self._seed('caption', epoch, index) % count if count > 1 else 0

    def _drawn_captions(self, keys: Sequence[Key], rows: np.ndarray) -> list[int]:
        """What `_caption_number` draws for samples without captions of their own, whose images are `rows`."""
        counts = self._counts[rows].tolist()
        if max(counts) == 1:
            return [0] * len(counts)
        names = iter(self._ids.at(rows))
        seeds = (seed for epoch, group in groupby(keys, key=itemgetter(0))
                 for seed in derive_seeds(('caption', self.seed, 0, epoch), islice(names, len([*group]))))
        return [seed % count for seed, count in zip(seeds, counts)]

    def _transformed(self, image: Image.Image, seed: int, name: str) -> Tensor:
        try:
            with seeded_draws(seed) if self._transform.is_random else nullcontext():
                pixels = self._transform(image)
        except Exception as error:
            error.add_note(f'in the transform of {name}, {image.width} x {image.height} pixels')
            raise
        if not isinstance(pixels, Tensor) or pixels.ndim != 3 or not pixels.is_floating_point():
            found = f'a tensor {tuple(pixels.shape)} {pixels.dtype}' if isinstance(pixels, Tensor) else \
                type(pixels).__name__
            raise ConfigError(f'The transform gives {found}, expected a tensor (3, H, W) of floats. Is '
                              "dict(type='ToTensor') missing at its end?")
        return pixels

    def _report(self, row: int, reason: str) -> None:
        bucket = self.images.text('bucket', row) if 'bucket' in self.images else None
        self.bad_samples.report('train', bucket or 'all', self.images.text('id', row), reason)

    def _stand_in(self, epoch: int, index: int) -> tuple[int, None, Image.Image | Tensor]:
        """Another image of the same bucket and class, whose caption is drawn."""
        row = int(self._rows[index])
        for other in self._others(row, self._seed('stand-in', epoch, index)):
            image = self._reader.find(other)
            if image is not None:
                return other, None, image
        raise DataError(f"'{self.images.text('id', row)}' cannot be read ({self._reader.bad[row]}), and no other image "
                        'of its bucket and class can stand in for it.')

    def _others(self, row: int, seed: int) -> Iterator[int]:
        if self._groups is None:
            buckets = self.images.buckets()
            codes = {name: code for code, name in enumerate(dict.fromkeys(buckets))}
            self._groups = np.array([codes[name] for name in buckets]) * (self.labels.max() + 2) + self.labels + 1
        mates = np.flatnonzero(self._groups == self._groups[row])
        return (int(other) for other in np.random.default_rng(seed).permutation(mates[mates != row]))


def row_caption(captions: np.ndarray | None, index: int) -> int | None:
    """Which caption of its image a sample has; None if it is drawn."""
    return None if captions is None else int(captions[index])
