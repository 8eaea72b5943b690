"""Fill a scenario with the image files of a stream, decoded and transformed as its config says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch.utils.data import Dataset

from clear.continual.scenarios.base import ScenarioInfo, TensorBucket
from clear.core.errors import ConfigError
from clear.datasets import BadSamples, BucketDataset, ClearData, to_tensors
from clear.datasets.loaders.cropped import CroppedImages
from clear.datasets.transforms import build_transform


def add_images(info: ScenarioInfo, data: ClearData, train_transform: list[dict] | None,
               eval_transform: list[dict] | None, reading: dict, max_bad_fraction: float, work_dir: str | None) -> None:
    """Fill `info.train`, `info.test` and `info.bad_samples`, and `info.rest` if it is a list.

    Args:
        train_transform, eval_transform: lists of transform dicts, both needed.
        reading: cache, cache_dir and decoder of `BucketDataset`.
        max_bad_fraction: share of unreadable images past which the run stops.
        work_dir: where `bad_samples.jsonl` is written; None counts without a file.

    Raises:
        ConfigError: if a transform is missing or cannot be built.
    """
    for key, transform in (('train_transform', train_transform), ('eval_transform', eval_transform)):
        if not transform:
            raise ConfigError(f'scenario.{key} is needed for images: at least a resize and ToTensor.')
    transforms = build_transform(train_transform), build_transform(eval_transform)
    info.bad_samples = bad_sample_list(work_dir, data.train, data.test, max_bad_fraction)
    for buckets, transform, is_train, datasets in ((data.train, transforms[0], True, info.train),
                                                   (data.test, transforms[1], False, info.test)):
        for bucket in buckets:
            images = CroppedImages(data.root, bucket, transform, is_train=is_train, context=info.context,
                                   bad_samples=info.bad_samples, **reading)
            datasets.append(in_memory(images, transform, reading['cache']))
    if info.rest is not None:
        for bucket in data.train:  # without a list: what cannot be read is reported by the training set
            images = BucketDataset(data.root, bucket, transforms[1], is_train=False, context=info.context, **reading)
            info.rest.append(in_memory(images, transforms[1], reading['cache']))


def bad_sample_list(work_dir: str | None, train: list, test: list, max_bad_fraction: float) -> BadSamples:
    """The list of unreadable images of a run over these buckets."""
    totals = {'train': sum(map(len, train)), 'test': sum(map(len, test))}
    path = Path(work_dir) / 'bad_samples.jsonl' if work_dir else None
    return BadSamples(path, totals, max_bad_fraction)


def in_memory(images: BucketDataset, transform: Callable, cache: str | None) -> Dataset:
    """The images as one block if they shall be kept in memory and never change; else as they are."""
    if cache != 'ram' or transform.is_random:
        return images
    inputs, targets, _ = to_tensors(images)
    return TensorBucket(inputs, targets)
