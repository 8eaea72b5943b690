"""Splits for an old-layout tree that lacks them: the files that the reader asks for, made from the file lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clear.core.errors import ConfigError, DataError
from clear.datasets.buckets import Bucket
from clear.datasets.make.writing import TEST_RATIO, new_folder, ratio_folder, write_split
from clear.datasets.readers.clear.clear_layouts import Choice, OldLayout, open_layout
from clear.datasets.readers.image_files import real_path
from clear.datasets.splits import check_split_options, few_shot_split, train_test_rows


def write_missing_splits(root: str | Path, *, seeds: Sequence[int], shots: Sequence[int] = (),
                         test_ratio: float = TEST_RATIO, legacy: bool = False, per_class: bool = True,
                         overwrite: bool = False) -> list[Path]:
    """Write `split_<seed>` folders; each appears complete or not at all.

    Args:
        root: the data root, in the old layout.
        shots: images per class of few-shot lists to write; without any, train/test splits are written.
        test_ratio: of every class, for train/test splits; names their folder. A tree has splits of one ratio.
        legacy: the permutations of CLEAR's helper script (see `stratified_split`).
        per_class: False draws train/test splits from the whole bucket, as CLEAR's published ones (`shuffled_split`).
        overwrite: replace splits that exist.

    Returns:
        The folders written.

    Raises:
        ConfigError: for a seed, ratio or shot out of range, or options that do not go together.
        DataError: if the tree is not in the old layout, a class is too small for a shot, splits of another ratio are
            there, or a split exists and `overwrite` is False.
    """
    if not per_class and (legacy or shots):
        raise ConfigError('Splits of the whole bucket know no classes: neither shots nor the helper script of those.')
    tree = open_layout(real_path(root))
    if not isinstance(tree, OldLayout):
        raise DataError(f'{root} is in the new layout, whose official split is all there is. tools/dataset_converters/'
                        'merge_clear.py makes an old-layout tree of it.')
    class_names = tree.class_names()
    buckets = [tree.bucket(name, 'all', Choice(), class_names) for name in tree.bucket_names()]
    wanted = ratio_folder(test_ratio)
    if not shots and tree.seeds() and tree.split_folder != wanted:
        raise DataError(f'{tree.folder} has splits in {tree.split_folder}; one tree has one ratio. Use --test-ratio '
                        f'{tree.split_folder.removeprefix("testset_ratio_")}, or remove that folder.')
    written = {}
    for seed in seeds:
        check_split_options(test_ratio, seed)
        if not shots:
            written[tree.folder / wanted / f'split_{seed}'] = {
                bucket.name: train_test_rows(bucket.targets, test_ratio=test_ratio, seed=seed, bucket=bucket.name,
                                             legacy=legacy, per_class=per_class) for bucket in buckets}
        for shot in shots:
            written[tree.folder / f'{shot}_shot' / f'split_{seed}'] = {
                bucket.name: few_shot_split(bucket.targets, shot=shot, seed=seed, bucket=bucket.name,
                                            class_names=class_names, legacy=legacy) for bucket in buckets}
    rows = {bucket.name: _rows(bucket) for bucket in buckets}
    for folder, by_bucket in written.items():
        with new_folder(folder, replace=overwrite) as place:
            write_split(place, rows, by_bucket)
    return list(written)


def _rows(bucket: Bucket) -> list[tuple[str, int]]:
    return list(zip(bucket.paths, bucket.targets.tolist()))
