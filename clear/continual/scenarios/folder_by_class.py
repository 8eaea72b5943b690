"""A class-incremental stream from a folder of classes: some classes in each experience, in a chosen order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clear.continual.scenarios.of_readers import benchmark_of
from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.datasets.columns import chunked_texts, runs, text_column
from clear.datasets.images.cache import check_cache
from clear.datasets.readers.by_time import SplitOptions, divide
from clear.datasets.readers.clear.clear_layouts import PARTS
from clear.datasets.readers.clear.lacking_classes import quoted
from clear.datasets.readers.folder import warn_of_empty_classes
from clear.datasets.readers.image_files import existing_folder, folders_in, image_files
from clear.datasets.table import ImageTable
from clear.registry import SCENARIOS


@SCENARIOS.register_module(name='FolderByClass')
def folder_by_class(data_root: str, n_experiences: int | None = None,
                    classes_per_experience: int | Sequence[int] | None = None,
                    class_order: Sequence[str] | None = None, order_seed: int | None = None, *,
                    evaluation_protocol: str = 'iid', seed: int | None = 0, shot: int | None = None,
                    test_ratio: float = 0.3, feature: dict | None = None, train_transform: list[dict] | None = None,
                    eval_transform: list[dict] | None = None, cache: str | None = None, cache_dir: str | None = None,
                    decoder: str = 'pil', max_bad_fraction: float = 0.01, work_dir: str | None = None):
    """Class-incremental: `ROOT/<class>/<image>`, with `train` and `test` folders above the classes where there are any.

    Class ids are places in the sorted names, whatever the order in which the classes come.

    Args:
        n_experiences: as many classes in each of so many experiences.
        classes_per_experience: in place of it the number of classes of every experience, or a list of numbers.
        class_order: names of the classes in the order in which they come; None takes the sorted names.
        order_seed: shuffles the names in place of `class_order`.
        evaluation_protocol: 'iid', the only one: under 'streaming' a model would be tested on classes to come.
        seed, shot, test_ratio, feature, train_transform, eval_transform, cache, cache_dir, decoder, max_bad_fraction,
            work_dir: as for `FolderByTime`.

    Raises:
        ConfigError, DataError: for classes that do not divide so, and as `FolderByTime` does.
    """
    check_cache(cache, cache_dir, where='scenario.')
    options = SplitOptions(evaluation_protocol, seed, shot, test_ratio)
    options.check()
    root = existing_folder(data_root)
    parts = PARTS if {path.name for path in folders_in(root)} == set(PARTS) else ('',)
    files = {part: _by_class(root, part) for part in parts}
    names = sorted({name for of_part in files.values() for name, paths in of_part.items() if paths})
    warn_of_empty_classes(root, {name for of_part in files.values() for name in of_part}, names)
    groups = _groups(root, names, n_experiences, classes_per_experience, class_order, order_seed)
    ids = {name: label for label, name in enumerate(names)}
    listed = []  # (bucket, paths, labels), train before test
    for group in groups:
        for part in parts:
            paths = [(path, ids[name]) for name in group for path in files[part].get(name, ())]
            listed.append((_bucket_name(group), [path for path, _ in paths], [label for _, label in paths]))
    images = ImageTable.from_columns(root, dict(
        path=chunked_texts([text_column(paths) for _, paths, _ in listed]),
        label=np.concatenate([np.array(labels, dtype=np.int64) for *_, labels in listed]),
        bucket=runs((name, len(paths)) for name, paths, _ in listed)), names)
    data = divide('classes', images, [(name, len(paths)) for name, paths, _ in listed], options,
                  has_parts=len(parts) == 2)
    reading = dict(cache=cache, cache_dir=cache_dir, decoder=decoder)
    return benchmark_of(data, images, feature, train_transform, eval_transform, reading, max_bad_fraction, work_dir)


def _by_class(root: Path, part: str) -> dict[str, list[str]]:
    return {folder.name: image_files(root, folder.relative_to(root).as_posix()) for folder in folders_in(root / part)}


def _groups(root: Path, names: list[str], n_experiences: int | None, sizes: int | Sequence[int] | None,
            order: Sequence[str] | None, order_seed: int | None) -> list[list[str]]:
    if (n_experiences is None) == (sizes is None):
        raise ConfigError('scenario of type FolderByClass needs n_experiences or classes_per_experience, one of the '
                          f'two; {root} has {len(names)} classes.')
    if order is not None and order_seed is not None:
        raise ConfigError('scenario.class_order names the order of classes, scenario.order_seed draws one; give one of '
                          'them.')
    if order is not None and sorted(map(str, order)) != names:
        absent = quoted(sorted(set(names) - set(map(str, order))) or sorted(set(map(str, order)) - set(names)))
        raise ConfigError(f'scenario.class_order must name the {len(names)} classes of {root}, each once; compare '
                          f'{absent or "those named twice"}.')
    ordered = names if order is None else [str(name) for name in order]
    if order_seed is not None:
        check_whole('scenario.order_seed', order_seed, 0)
        drawn = np.random.default_rng(derive_seed(order_seed, 'classes')).permutation(len(names))
        ordered = [names[place] for place in drawn]
    if n_experiences is not None:
        check_whole('scenario.n_experiences', n_experiences, 1)
        if not names or len(names) % n_experiences:
            raise ConfigError(f'scenario.n_experiences is {n_experiences}, but {root} has {len(names)} classes, which '
                              'do not divide so. Give classes_per_experience=[...].')
        sizes = len(names) // n_experiences
    counts = list(sizes) if isinstance(sizes, (list, tuple)) else [sizes] * (len(names) // max(_whole(sizes), 1))
    for place, count in enumerate(counts):
        check_whole(f'scenario.classes_per_experience[{place}]', count, 1)
    if sum(counts) != len(names):
        raise ConfigError(f'scenario.classes_per_experience adds up to {sum(counts)} classes; {root} has {len(names)}.')
    ends = np.cumsum(counts).tolist()
    return [ordered[end - count:end] for end, count in zip(ends, counts)]


def _whole(size: object) -> int:
    check_whole('scenario.classes_per_experience', size, 1)
    return size


def _bucket_name(group: list[str]) -> str:
    """The classes of an experience, if they are few; one of many is named by its first and last."""
    return '-'.join(group) if len(group) <= 3 else f'{group[0]}...{group[-1]}'
