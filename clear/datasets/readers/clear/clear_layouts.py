"""The two folder layouts in which CLEAR data exist, each read as lists of samples per bucket and part.

Old layout (file lists and index lists)::

    ROOT/class_names.txt
    ROOT/labeled_images/<bucket>/<class>/<id>.jpg
    ROOT/training_folder/bucket_indices.json
    ROOT/training_folder/filelists/<bucket>/all.txt                            "<relative path> <class index>"
    ROOT/training_folder/testset_ratio_0.3/split_<seed>/<bucket>/{train,test}.txt, {train,test}_indices.json
    ROOT/training_folder/<k>_shot/split_<seed>/<bucket>/                       the same four files
    ROOT/training_folder/features/<type>/<bucket>/all.pth                      (Tensor (N, D), list of N classes)

New layout (an official train and test part, metadata per class)::

    ROOT/{train,test}/class_names.txt
    ROOT/{train,test}/labeled_metadata.json                                    {bucket: {class: path of a JSON}}
    ROOT/{train,test}/labeled_metadata/<bucket>/<class>.json                   {id: {"IMG_PATH": path}}
    ROOT/{train,test}/features/<type>/features.json                            {bucket: {class: path of a .pth}}
    ROOT/{train,test}/features/<type>/<bucket>/<class>.pth                     {id: Tensor (D,)}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError
from clear.core.files import inside, read_json
from clear.datasets.buckets import Bucket
from clear.datasets.readers.clear.clear_files import (
    numeric_order,
    read_class_names,
    read_feature_file,
    read_file_list,
    read_indices,
    stack_rows,
)
from clear.datasets.readers.image_files import existing_folder, plain_path
from clear.datasets.table import ImageTable

PARTS = ('train', 'test')
SPLIT_FOLDER = 'testset_ratio_0.3'


@dataclass(frozen=True)
class Choice:
    """Which samples of every bucket are asked for; `seed` and `shot` name a split of the old layout."""

    seed: int | None = None
    shot: int | None = None
    feature_type: str | None = None


class Layout:
    """What the two layouts share.

    Args:
        root: the data root.
        hint: the sentence that ends messages about missing files: what to run.
    """

    name = ''

    def __init__(self, root: Path, hint: str = ''):
        self.root = root
        self.hint = hint

    def require(self, path: Path) -> Path:
        """`path`, if it exists.

        Raises:
            DataError: naming what is missing, what lies beside it, and what to run.
        """
        if path.exists():
            return path
        place = path.parent
        while not place.is_dir() and place != self.root:
            place = place.parent
        raise DataError(f'{path} is missing; {place} holds {_listing(place)}. {self.hint}'.rstrip())

    def require_feature_type(self, feature_type: str) -> None:
        found = self.feature_types()
        if feature_type not in found:
            raise ConfigError(f"feature_type '{feature_type}' is not below {self.root}; found: "
                              f'{_quoted(found) or "no features at all"}. {self.hint}'.rstrip())

    def feature_types(self) -> list[str]:
        raise NotImplementedError

    def _in_root(self, folder: Path, path: object, source: Path) -> Path:
        if not isinstance(path, str) or path.startswith('/'):
            raise DataError(f'{source}: expected a relative path, found {path!r}.')
        return inside(folder, path)

    def _listed(self, name: str, ids: list[str], labels: Sequence[int], class_names: list[str],
                features: torch.Tensor | None = None) -> Bucket:
        # Paths and classes were checked as they were read; `check_clear` looks at buckets that list an image twice.
        columns = dict(path=ids) if features is None else dict(id=ids, path=[''] * len(ids))
        return Bucket(name, ImageTable.trusted(self.root, {**columns, 'label': labels}, class_names), features)


class OldLayout(Layout):
    """File lists below `training_folder`."""

    name = 'old'

    def __init__(self, root: Path, hint: str = ''):
        super().__init__(root, hint)
        self.folder = root / 'training_folder'
        self._last_file: tuple[Path, torch.Tensor, np.ndarray] | None = None

    def class_names(self) -> list[str]:
        return read_class_names(self.require(self.root / 'class_names.txt'))

    def bucket_names(self, part: str = 'all', choice: Choice = Choice()) -> list[str]:
        path = self.require(self.folder / 'bucket_indices.json')
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
            raise DataError(f'{path}: expected a list of bucket names such as ["1", "2"], found {str(names)[:80]}.')
        return numeric_order([str(name) for name in names], path)

    @property
    def split_folder(self) -> str:
        """CLEAR's own folder of splits, or the one of another ratio where that is the only one.

        Raises:
            ConfigError: if there are several, none of them CLEAR's.
        """
        found = [name for name in _folders(self.folder) if name.startswith('testset_ratio_')]
        if SPLIT_FOLDER in found or not found:
            return SPLIT_FOLDER
        if len(found) > 1:
            raise ConfigError(f'{self.folder} holds splits of several ratios, {_quoted(found)}; keep one of them.')
        return found[0]

    def seeds(self) -> list[int]:
        return _numbers(self.folder / self.split_folder, r'split_(\d+)')

    def shots(self) -> list[int]:
        return _numbers(self.folder, r'(\d+)_shot')

    def shot_seeds(self, shot: int) -> list[int]:
        return _numbers(self.folder / f'{shot}_shot', r'split_(\d+)')

    def feature_types(self) -> list[str]:
        return _folders(self.folder / 'features')

    def list_file(self, bucket: str, part: str, choice: Choice) -> Path:
        """The file list of a part; of features the index list instead (for the part 'all' there is none)."""
        if part == 'all':
            return self.folder / 'filelists' / bucket / 'all.txt'
        folder = self.split_folder if choice.shot is None else f'{choice.shot}_shot'
        name = f'{part}.txt' if choice.feature_type is None else f'{part}_indices.json'
        return self.folder / folder / f'split_{choice.seed}' / bucket / name

    def bucket(self, name: str, part: str, choice: Choice, class_names: list[str]) -> Bucket:
        """The samples of bucket `name` in `part` ('train', 'test' or 'all').

        Raises:
            DataError: if a file is missing, or a line or row is not what the layout says.
        """
        if choice.feature_type is not None:
            return self._features(name, part, choice, class_names)
        paths, targets = read_file_list(self.require(self.list_file(name, part, choice)), self.root, len(class_names))
        return self._listed(name, paths, targets, class_names)

    def _features(self, name: str, part: str, choice: Choice, class_names: list[str]) -> Bucket:
        path = self.require(self.folder / 'features' / choice.feature_type / name / 'all.pth')
        if self._last_file is None or self._last_file[0] != path:  # train and test lie in one file
            self._last_file = (path, *read_feature_file(path, len(class_names)))
            self._check_against_list(name, path, self._last_file[2], len(class_names))
        _, features, targets = self._last_file
        rows = np.arange(len(targets))
        if part != 'all':
            rows = read_indices(self.require(self.list_file(name, part, choice)), len(targets), path)
            features = features[torch.from_numpy(rows)]
        ids = [f'features/{choice.feature_type}/{name}/{row}' for row in rows.tolist()]
        return self._listed(name, ids, targets[rows], class_names, features)

    def _check_against_list(self, name: str, path: Path, targets: np.ndarray, num_classes: int) -> None:
        # Features that were extracted before the lists last changed still load; only this comparison tells.
        listed = self.folder / 'filelists' / name / 'all.txt'
        if listed.is_file():
            _, expected = read_file_list(listed, self.root, num_classes)
            if not np.array_equal(expected, targets):
                raise DataError(f'{path} does not belong to {listed}: {len(targets)} rows against {len(expected)} '
                                'lines, or other classes. Extract the features again.')


class NewLayout(Layout):
    """An official train and test part, each with metadata per bucket and class."""

    name = 'new'

    def __init__(self, root: Path, hint: str = ''):
        super().__init__(root, hint)
        self._indices: dict[Path, dict] = {}

    def class_names(self) -> list[str]:
        train, test = (read_class_names(self.require(self.root / part / 'class_names.txt')) for part in PARTS)
        if train != test:
            raise DataError(f'{self.root}: train/class_names.txt and test/class_names.txt differ ({len(train)} and '
                            f'{len(test)} classes). Do the two parts come from the same data set?')
        return train

    def bucket_names(self, part: str = 'all', choice: Choice = Choice()) -> list[str]:
        """Buckets of a part; of 'all' those that either part has."""
        parts = PARTS if part == 'all' else (part,)
        names = {name for each in parts for name in self._index(each, choice)}
        return numeric_order(sorted(names), self.root)

    def seeds(self) -> list[int]:
        """Empty: the official split has no seed."""
        return []

    def shots(self) -> list[int]:
        return []

    def feature_types(self) -> list[str]:
        return sorted({name for part in PARTS for name in _folders(self.root / part / 'features')})

    def bucket(self, name: str, part: str, choice: Choice, class_names: list[str]) -> Bucket:
        """The samples of bucket `name` in `part`; of 'all' first those of train, then those of test.

        Raises:
            DataError: if a file is missing, or an entry is not what the layout says.
        """
        parts = [each for each in PARTS if name in self._index(each, choice)] if part == 'all' else [part]
        ids: list[str] = []
        labels: list[int] = []
        features: list[torch.Tensor] = []
        for each in parts:
            num_before = len(ids)
            for label, class_name, path in self._classes(name, each, choice, class_names):
                if choice.feature_type is None:
                    found = self._class_images(each, path)
                else:
                    prefix = f'{each}/features/{choice.feature_type}/{name}/{class_name}'
                    keys, rows = stack_rows(path)
                    found = [f'{prefix}/{key}' for key in keys]
                    features += [rows] if found else []
                ids += found
                labels += [label] * len(found)
            if len(ids) == num_before:
                raise DataError(f'{self._index_file(each, choice)}: bucket {name} is empty.')
        widths = {rows.shape[1] for rows in features}
        if len(widths) > 1:
            raise DataError(f'bucket {name}: features of different widths, {sorted(widths)}.')
        return self._listed(name, ids, labels, class_names, torch.cat(features) if features else None)

    def _index_file(self, part: str, choice: Choice) -> Path:
        if choice.feature_type is None:
            return self.root / part / 'labeled_metadata.json'
        return self.root / part / 'features' / choice.feature_type / 'features.json'

    def _index(self, part: str, choice: Choice) -> dict:
        path = self._index_file(part, choice)
        if path in self._indices:
            return self._indices[path]
        index = read_json(self.require(path))
        if not isinstance(index, dict) or not all(isinstance(value, dict) for value in index.values()):
            raise DataError(f'{path}: expected {{bucket: {{class: path}}}}, found {str(index)[:80]}.')
        self._indices[path] = index
        return index

    def _classes(self, name: str, part: str, choice: Choice, class_names: list[str]) -> list[tuple[int, str, Path]]:
        """Index, name and file of every class that the bucket has, in the order of the class names."""
        source = self._index_file(part, choice)
        entries = self._index(part, choice)[name]
        unknown = sorted(set(entries) - set(class_names))
        if unknown:
            raise DataError(f'{source}: bucket {name} has classes that class_names.txt does not list: '
                            f'{_quoted(unknown[:3])}.')
        return [(label, class_name, self.require(self._in_root(self.root / part, entries[class_name], source)))
                for label, class_name in enumerate(class_names) if class_name in entries]

    def _class_images(self, part: str, path: Path) -> list[str]:
        records = read_json(path)
        if not isinstance(records, dict):
            raise DataError(f'{path}: expected {{id: {{"IMG_PATH": path}}}}, found {str(records)[:80]}.')
        paths: list[str] = []
        first: dict[str, str] = {}
        for key, record in records.items():
            if not isinstance(record, dict) or 'IMG_PATH' not in record:
                raise DataError(f"{path}: the entry '{key}' has no IMG_PATH.")
            self._in_root(self.root / part, record['IMG_PATH'], path)
            earlier = first.setdefault(plain_path(record['IMG_PATH']), key)
            if earlier != key:
                raise DataError(f"{path}: the entries '{earlier}' and '{key}' are one image, '{record['IMG_PATH']}'.")
            paths.append(str(PurePosixPath(part, record['IMG_PATH'])))
        return paths


def open_layout(root: Path, layout: str = 'auto', hint: str = '') -> OldLayout | NewLayout:
    """The reader of the layout found below `root`, or of the one that is named.

    Raises:
        ConfigError: if `layout` is unknown, or 'auto' and both are there.
        DataError: if the root or the layout is not there.
    """
    check_choice('layout', layout, ('auto', 'old', 'new'))
    existing_folder(root, 'data root', hint)
    found = [name for name, there in (('old', _looks_old(root)), ('new', _looks_new(root))) if there]
    if layout == 'auto' and len(found) == 2:
        raise ConfigError(f"{root} holds both CLEAR layouts (training_folder/ and train/, test/). Set layout='old' or "
                          "layout='new'.")
    wanted = (found or [''])[0] if layout == 'auto' else layout
    if wanted not in found:
        what = {'old': 'training_folder/', 'new': 'train/class_names.txt and test/class_names.txt'}
        missing = what[layout] if layout != 'auto' else f'{what["old"]} (old layout), and {what["new"]} (new layout)'
        raise DataError(f'{root} is no CLEAR data set or only half of one: {missing} missing; it holds '
                        f'{_listing(root)}. {hint}'.rstrip())
    return OldLayout(root, hint) if wanted == 'old' else NewLayout(root, hint)


def _looks_old(root: Path) -> bool:
    return (root / 'training_folder').is_dir()


def _looks_new(root: Path) -> bool:
    marks = ('class_names.txt', 'labeled_metadata.json')
    return any((root / part / mark).is_file() for part in PARTS for mark in marks)


def _folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _numbers(place: Path, pattern: str) -> list[int]:
    matches = (re.fullmatch(pattern, name) for name in _folders(place))
    return sorted(int(match[1]) for match in matches if match)


def _quoted(names: list[str]) -> str:
    return ', '.join(f"'{name}'" for name in names)


def _listing(place: Path, most: int = 8) -> str:
    names = sorted(path.name + '/' * path.is_dir() for path in place.iterdir())
    return (', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')) or 'nothing'
