"""The two older `.pth` feature layouts of CLEAR trees, into a bank and back.

::

    old   ROOT/training_folder/features/<type>/<bucket>/all.pth            (Tensor (N, D), list of N classes)
    new   ROOT/{train,test}/features/<type>/features.json                  {bucket: {class: path of a .pth}}
          ROOT/{train,test}/features/<type>/<bucket>/<class>.pth           {id: Tensor (D,)}

Files that hold anything but tensors and plain values are refused. An import holds all features in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch

from clear.core.errors import ConfigError, DataError
from clear.core.files import inside, read_json, save_tensors, write_json
from clear.datasets.buckets import Bucket
from clear.datasets.readers.clear.clear_layouts import PARTS, Choice, NewLayout, OldLayout, open_layout
from clear.datasets.readers.image_files import real_path
from clear.features.bank import FeatureBank
from clear.features.writing import room_on_disk, write_bank


def import_legacy(root: str | Path, out: str | Path, *, feature_type: str | None = None, layout: str = 'auto',
                  dtype: str = 'float32', overwrite: bool = False) -> FeatureBank:
    """Store the features of a CLEAR tree as a bank.

    Ids are the images' paths where the tree lists them, as in banks that `extract` makes, so that the splits'
    lists find their rows; else names of feature rows. What made the features is unknown: the bank's encoder
    fingerprint is a hash of the features.

    Args:
        feature_type: which features; None if the tree has one type only.
        dtype: 'float32' keeps every bit.

    Raises:
        ConfigError: if there are several feature types and none is named.
        DataError: if a file is missing or damaged, or holds pickled objects.
    """
    tree = open_layout(real_path(root), layout)
    feature_type = _feature_type(tree, feature_type)
    class_names = tree.class_names()
    choice = Choice(feature_type=feature_type)
    buckets = [tree.bucket(name, 'all', choice, class_names) for name in tree.bucket_names('all', choice)]
    widths = {bucket.features.shape[1] for bucket in buckets}
    if len(widths) > 1:
        raise DataError(f'{tree.root}: features of different widths in different buckets, {sorted(widths)}.')
    ids = [name for bucket in buckets for name in _image_ids(tree, bucket, class_names, feature_type)]
    return write_bank(out, torch.cat([bucket.features for bucket in buckets]),
                      torch.cat([torch.from_numpy(bucket.targets) for bucket in buckets]), ids=ids, paths=ids,
                      buckets=[bucket.name for bucket in buckets for _ in bucket.ids], class_names=class_names,
                      dtype=dtype, notes=dict(encoder=dict(type='imported', feature_type=feature_type,
                                                           layout=tree.name)), overwrite=overwrite)


def _feature_type(tree: OldLayout | NewLayout, wanted: str | None) -> str:
    if wanted is not None:
        tree.require_feature_type(wanted)
        return wanted
    found = tree.feature_types()
    if len(found) != 1:
        raise ConfigError(f'{tree.root} has features of {len(found)} types ({", ".join(found) or "none"}); say which '
                          'one is meant (--feature-type).')
    return found[0]


def _image_ids(tree: OldLayout | NewLayout, bucket: Bucket, class_names: list[str], feature_type: str
               ) -> Sequence[str]:
    """Paths of the images whose features a bucket holds, in its order; its own ids if the tree lists no images."""
    if tree.name == 'old':
        if not tree.list_file(bucket.name, 'all', Choice()).is_file():
            return bucket.ids
        # The reader has compared the list with the features: same length, same classes.
        return tree.bucket(bucket.name, 'all', Choice(), class_names).ids
    paths = _paths_of_features(tree, bucket.name, feature_type)
    return [paths.get(name, name) for name in bucket.ids]


def _paths_of_features(tree: NewLayout, bucket: str, feature_type: str) -> dict[str, str]:
    """Name of a feature row, as the reader of the layout gives it -> path of its image."""
    paths = {}
    for part in PARTS:
        index = tree.root / part / 'labeled_metadata.json'
        listed = read_json(index).get(bucket, {}) if index.is_file() else {}
        for class_name, place in listed.items():
            for key, record in read_json(inside(tree.root / part, place)).items():
                name = f'{part}/features/{feature_type}/{bucket}/{class_name}/{key}'
                paths[name] = str(PurePosixPath(part, record['IMG_PATH']))
    return paths


def export_legacy(bank: FeatureBank, root: str | Path, *, feature_type: str, layout: str = 'auto') -> list[Path]:
    """Write a bank's features into a CLEAR tree, where `feature_type=...` finds them.

    The tree's own lists say which image goes where, so it must have the lists (not the images) of that layout.
    Images are found by their path; one of the bank may lie in `train/` or `test/` of the other layout.

    Returns:
        The files written.

    Raises:
        ConfigError: if the tree already has features of that type.
        DataError: if the bank lacks an image of the tree, or the tree's layout cannot leave out unreadable ones.
    """
    tree = open_layout(real_path(root), layout)
    if not feature_type or feature_type in ('.', '..') or '/' in feature_type:
        raise ConfigError(f'feature_type is {feature_type!r}, expected a name for a folder.')
    if feature_type in tree.feature_types():
        raise ConfigError(f"{tree.root} already has features of type '{feature_type}'; choose another name or delete "
                          'them.')
    with room_on_disk(tree.root):
        if tree.name == 'old':
            return _export_old(bank, tree, feature_type)
        return [path for part in PARTS for path in _export_new(bank, tree, feature_type, part)]


def _export_old(bank: FeatureBank, tree: OldLayout, feature_type: str) -> list[Path]:
    rows_of, class_names, planned = _RowFinder(bank), tree.class_names(), []
    # Everything is checked before anything is written.
    for name in tree.bucket_names():
        images = tree.bucket(name, 'all', Choice(), class_names)
        rows = rows_of(images.ids, images.targets.tolist())
        bad = [images.ids[place] for place, row in enumerate(rows) if not bank.valid[row]]
        if bad:
            raise DataError(f"bucket {name}: {len(bad)} images have no features because they could not be read, e.g. "
                            f"'{bad[0]}'; an all.pth has a row for every image. Take them out of the lists, or read "
                            "the bank itself (scenario.feature=dict(bank=...)).")
        planned.append((tree.folder / 'features' / feature_type / name / 'all.pth', rows, images.targets.tolist()))
    for path, rows, targets in planned:
        save_tensors(path, (bank.tensors(rows)[0], targets))
    return [path for path, _, _ in planned]


def _export_new(bank: FeatureBank, tree: NewLayout, feature_type: str, part: str) -> list[Path]:
    rows_of, class_names, planned = _RowFinder(bank), tree.class_names(), []
    index: dict[str, dict[str, str]] = {}
    root = tree.root / part
    for bucket in tree.bucket_names(part):
        for class_name, place in read_json(root / 'labeled_metadata.json')[bucket].items():
            records = read_json(inside(root, place))
            label = class_names.index(class_name) if class_name in class_names else -2
            rows = rows_of([str(PurePosixPath(part, record['IMG_PATH'])) for record in records.values()],
                           [label] * len(records))
            relative = f'features/{feature_type}/{bucket}/{class_name}.pth'
            kept = {key: row for key, row in zip(records, rows) if bank.valid[row]}
            planned.append((inside(root, relative), kept))
            index.setdefault(bucket, {})[class_name] = relative
    for path, kept in planned:
        features, _ = bank.tensors(list(kept.values()))
        # Copies: a view would be saved with the storage of the whole class.
        save_tensors(path, {key: features[place].clone() for place, key in enumerate(kept)})
    write_json(root / 'features' / feature_type / 'features.json', index)
    return [path for path, _ in planned]


class _RowFinder:
    """Rows of images by path, also across layouts: the same image may be below `train/` or `test/` in one of them."""

    def __init__(self, bank: FeatureBank):
        self.bank = bank
        self.rows: dict[str, int] = {}
        for row, name in enumerate(bank.column('id')):
            self.rows[name] = row
            self.rows.setdefault(_without_part(name), row)

    def __call__(self, ids: Sequence[str], targets: list[int]) -> list[int]:
        rows = []
        for name, target in zip(ids, targets):
            row = self.rows.get(name, self.rows.get(_without_part(name)))
            if row is None:
                raise DataError(f"{self.bank.path} has no features of '{name}'.")
            if self.bank.labels[row] != target:
                raise DataError(f"'{name}' has label {self.bank.labels[row]} in {self.bank.path}, but {target} in the "
                                'lists of the tree.')
            rows.append(row)
        return rows


def _without_part(name: str) -> str:
    part, _, rest = name.partition('/')
    return rest if part in PARTS else name
