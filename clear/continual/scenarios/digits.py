"""Two streams of real images that need no download: scikit-learn's handwritten digits, turned or class by class."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from clear.continual.scenarios.base import ScenarioInfo, TensorBucket, make_benchmark
from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.errors import ConfigError
from clear.datasets.make.demo import CLASS_NAMES, Look, load_digits, render_digit, split_digits
from clear.registry import SCENARIOS

SIZES = (28, 32)
MAX_ANGLE_DEG = 120.0  # short of half a turn, where a six is a nine


@SCENARIOS.register_module(name='RotatedDigits')
def rotated_digits(n_experiences: int = 5, rotations: list[float] | None = None, size: int = 32, seed: int = 0,
                   limit: int | None = None, work_dir: str | None = None):
    """Domain-incremental: every experience shows all ten digits, turned by an angle of its own.

    Images are (1, size, size) float32 in -1 ... 1, the stroke bright. 30 % of every class are for testing, the same
    digits at every angle: what is tested at one is trained on at none.

    Args:
        rotations: degrees counter-clockwise, one per experience; None spreads them evenly over 0 ... 120.
        size: 28 or 32 pixels.
        seed: of the split.
        limit: use only the first `limit` of the 1,797 digits, at least 100.
        work_dir: not used; every scenario gets it.

    Raises:
        ConfigError: if an argument is out of range.
    """
    _check(n_experiences, size, seed)
    if rotations is None:
        rotations = np.linspace(0, MAX_ANGLE_DEG, n_experiences).tolist()
    if len(rotations) != n_experiences:
        raise ConfigError(f'scenario.rotations has {len(rotations)} angles for {n_experiences} experiences; give one '
                          'each.')
    images, targets = load_digits(limit)
    buckets = {f'{angle:g}': (_render(images, angle, size), np.arange(len(targets))) for angle in rotations}
    if len(buckets) < n_experiences:
        raise ConfigError(f'scenario.rotations holds an angle twice: {list(rotations)}.')
    return _benchmark('domain-incremental', buckets, targets, seed)


@SCENARIOS.register_module(name='SplitDigits')
def split_digits_by_class(n_experiences: int = 5, class_order: list[int] | None = None, size: int = 32, seed: int = 0,
                          limit: int | None = None, class_ids_from_zero_in_each_exp: bool = False,
                          work_dir: str | None = None):
    """Class-incremental: the ten digits in equal groups, by default 0 and 1, then 2 and 3, and so on.

    Images and split are those of `RotatedDigits` without rotation.

    Args:
        n_experiences: 1, 2, 5 or 10.
        class_order: the ten digits in the order in which they come; None means ascending.
        class_ids_from_zero_in_each_exp: number the classes of every experience from 0 in this order, so that all
            experiences have the same class ids: with `task_labels` and a head for each task a task-incremental stream,
            else a domain-incremental one.

    Raises:
        ConfigError: if an argument is out of range.
    """
    _check(n_experiences, size, seed)
    check_flag('scenario.class_ids_from_zero_in_each_exp', class_ids_from_zero_in_each_exp)
    order = list(range(10)) if class_order is None else list(class_order)
    if 10 % n_experiences:
        raise ConfigError(f'scenario.n_experiences is {n_experiences}; ten digits divide into 1, 2, 5 or 10 equal '
                          'groups.')
    if sorted(order) != list(range(10)):
        raise ConfigError(f'scenario.class_order is {order}; expected the ten digits 0 ... 9, each once.')
    images, targets = load_digits(limit)
    rendered = _render(images, 0.0, size)
    per_group = 10 // n_experiences
    buckets = {}
    for start in range(0, 10, per_group):
        classes = order[start:start + per_group]
        buckets['-'.join(map(str, classes))] = (rendered, np.flatnonzero(np.isin(targets, classes)))
    if class_ids_from_zero_in_each_exp:
        places = np.argsort(order) % per_group
        return _benchmark('domain-incremental', buckets, targets, seed, places)
    return _benchmark('class-incremental', buckets, targets, seed)


def _check(n_experiences: int, size: int, seed: int) -> None:
    check_whole('scenario.n_experiences', n_experiences, 1)
    check_choice('scenario.size', size, SIZES)
    check_whole('scenario.seed', seed, 0)


def _render(images: np.ndarray, angle_deg: float, size: int) -> torch.Tensor:
    """(N, 8, 8) in 0 ... 1 -> (N, 1, size, size) in -1 ... 1."""
    look = Look(angle_deg=angle_deg, background=0.0, ink=1.0)
    drawn = np.stack([render_digit(image, look) for image in images])  # (N, 32, 32) uint8
    margin = (drawn.shape[1] - size) // 2
    cropped = drawn[:, margin:margin + size, margin:margin + size]
    return torch.from_numpy(np.ascontiguousarray(cropped)).unsqueeze(1).float() / 127.5 - 1


def _benchmark(protocol: str, buckets: dict[str, tuple[torch.Tensor, np.ndarray]], targets: np.ndarray, seed: int,
               class_ids: np.ndarray | None = None):
    """`buckets`: name -> (images of all digits, the digits that the bucket has); `class_ids`: of the ten digits."""
    names = list(CLASS_NAMES) if class_ids is None else [str(label) for label in range(class_ids.max() + 1)]
    labels = targets if class_ids is None else class_ids[targets]
    info = ScenarioInfo(class_names=names, bucket_names=list(buckets), protocol=protocol, fingerprint='',
                        train=[], test=[])
    digest = hashlib.sha256(repr((protocol, info.class_names)).encode())
    for part, datasets in zip(split_digits(targets, seed), (info.train, info.test)):
        for name, (images, digits) in buckets.items():
            rows = np.array(sorted(set(part) & set(digits.tolist())), dtype=np.int64)
            bucket = TensorBucket(images[torch.from_numpy(rows)], torch.from_numpy(labels[rows]))
            digest.update(repr((name, bucket.targets)).encode())
            digest.update(bucket.inputs.numpy().tobytes())
            datasets.append(bucket)
    info.fingerprint = digest.hexdigest()
    return make_benchmark(info)
