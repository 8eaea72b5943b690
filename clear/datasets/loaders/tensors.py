"""A whole bucket as tensors, read once: threads for large images, whole batches for what is value by value."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from clear.core.errors import ConfigError, DataError
from clear.datasets.images.bad_samples import BadSampleError
from clear.datasets.images.decode import UnreadableImage
from clear.datasets.loaders.buckets import BucketDataset
from clear.datasets.transforms import ImageTransform

# Decoders and resizers let other threads run, Python does not: below this size threads only get in each other's way.
_POOL_FROM_PIXELS = 128 * 128
_PER_THREAD = 16  # images of one piece of work
_BATCH = 64
_MODES = ('L', 'RGB', 'RGBA')


def to_tensors(dataset: BucketDataset, threads: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A whole bucket under a deterministic transform, as tensors that are indexed instead of loaded.

    Equal to `dataset[row]` for every row, whatever the number of threads; bad images are reported in order of rows.

    Args:
        threads: that decode large images; None takes as many as torch computes with. A transform is then called from
            several of them at once.

    Returns:
        images (M, C, H, W) float32, contiguous; targets (M,) int64; rows of the data set kept (M,) int64. In training
        a bad image is replaced by its stand-in (M = N); in evaluation it is left out.

    Raises:
        ConfigError: if the transform is random or does not give floating-point tensors (C, H, W).
        DataError: naming the file, if images come out in different sizes; or if none can be read.
    """
    if dataset.is_random:
        raise ConfigError('A random transform gives other images in every epoch; to hold a bucket as tensors its '
                          'transform must be deterministic (is_random = False).')
    single, rest = dataset.transform.halves() if isinstance(dataset.transform, ImageTransform) else \
        (dataset.transform, ImageTransform([], False))
    images: torch.Tensor | None = None
    kept: list[int] = []
    for rows, prepared in _batches(dataset, single, threads):
        values = _finished(dataset, rows, prepared, rest)
        if images is None:
            _check_image(values[0])
            images = torch.empty(len(dataset), *values[0].shape, dtype=torch.float32)
        for row, value in zip(rows, values):
            if value.shape != images.shape[1:]:
                raise DataError(f"bucket {dataset.bucket}: the transform makes '{dataset.ids[row]}' "
                                f'{tuple(value.shape)}, but the first image {tuple(images.shape[1:])}. Resize and crop '
                                'to one size.')
            images[len(kept)] = value
            kept.append(row)
    if images is None:
        raise DataError(f'bucket {dataset.bucket}: none of its {len(dataset)} images can be read.')
    targets = torch.tensor([dataset.targets[row] for row in kept], dtype=torch.int64)
    return images[:len(kept)], targets, torch.tensor(kept, dtype=torch.int64)


def _batches(dataset: BucketDataset, single: Callable, threads: int | None) -> Iterator[tuple[list[int], list]]:
    """Rows that are kept and what `single` makes of their images, in order."""
    prepare = partial(_prepare, dataset, single)
    # A shard of the disk cache is made by one thread, and reading it is quick.
    threads = (threads or torch.get_num_threads()) if dataset.cache != 'disk' and _is_large(dataset) else 1
    size = max(_BATCH, threads * _PER_THREAD) if threads > 1 else _BATCH
    with ThreadPoolExecutor(threads) if threads > 1 else contextlib.nullcontext() as pool:
        for start in range(0, len(dataset), size):
            wave = range(start, min(start + size, len(dataset)))
            found = zip(wave, map(prepare, wave) if pool is None else pool.map(prepare, wave))
            # Bad images are read again, here: this thread alone reports them and chooses what stands in.
            found = [(row, _once_more(dataset, single, row) if value is None else value) for row, value in found]
            rows = [row for row, value in found if value is not None]
            if rows:
                yield rows, [value for _, value in found if value is not None]


def _prepare(dataset: BucketDataset, single: Callable, row: int) -> Any | None:
    try:
        image = dataset.read(row)
    except UnreadableImage:
        return None
    return dataset.transformed(image, row, single)


def _once_more(dataset: BucketDataset, single: Callable, row: int) -> Any | None:
    try:
        return dataset.transformed(dataset.image(row), row, single)
    except BadSampleError:
        return None


def _is_large(dataset: BucketDataset) -> bool:
    """Whether the first image that can be read is large enough for threads."""
    for row in range(len(dataset)):
        with contextlib.suppress(UnreadableImage):
            image = dataset.read(row)
            return image.width * image.height >= _POOL_FROM_PIXELS
    return False


def _finished(dataset: BucketDataset, rows: Sequence[int], prepared: list, rest: ImageTransform) -> Sequence:
    """What `rest` makes of prepared images: of all at once if they are of one size, else of one after another."""
    kinds = {(value.mode, value.size) if isinstance(value, Image.Image) else None for value in prepared}
    if not rest.steps or len(kinds) > 1 or None in kinds or next(iter(kinds))[0] not in _MODES:
        return [dataset.transformed(value, row, rest) for row, value in zip(rows, prepared)]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in prepared]))  # (B, H, W) or (B, H, W, C)
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    try:
        return rest(pixels)
    except Exception as error:
        error.add_note(f"in the transform of '{dataset.ids[rows[0]]}' and the {len(rows) - 1} images after it")
        raise


def _check_image(image: object) -> None:
    if not isinstance(image, torch.Tensor) or image.ndim != 3 or not image.is_floating_point():
        found = f'{image.dtype} of shape {tuple(image.shape)}' if isinstance(image, torch.Tensor) else \
            type(image).__name__
        raise ConfigError(f'The transform gives {found}, expected a floating-point tensor (C, H, W). '
                          "Is dict(type='ToTensor') missing?")
