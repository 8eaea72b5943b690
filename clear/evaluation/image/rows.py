"""From banks to the tensors that a task works on: labels in one order of classes, checked, split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.logs import logger
from clear.core.seeding import derive_seed

if TYPE_CHECKING:
    from clear.features.bank import FeatureBank

MOST_SEEDS = 1000
SPLITS = ('train', 'val', 'test')


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one split.

    Args:
        features: (N, D) float32, finite.
        labels: (N,) int64 in 0 ... C-1.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> LabelledRows:
        """The given rows, in that order."""
        return LabelledRows(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class ProbeData:
    """The splits of a task; class indices are the training split's."""

    train: LabelledRows
    test: LabelledRows
    class_names: list[str]
    val: LabelledRows | None = None
    unlabelled: dict[str, int] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def dim(self) -> int:
        return self.train.features.shape[1]

    def with_validation(self, fraction: float, seed: int) -> ProbeData:
        """Itself if it has a validation split, else a copy whose `val` is a seeded share of each training class."""
        if self.val is not None:
            return self
        train, val = stratified_split(self.train.labels, fraction, seed)
        if not len(val):
            raise DataError(f'No validation rows: every class has a single training sample, so none can be spared for '
                            f"the validation split ({fraction:.0%} of 'train'). Give a 'val' bank, or one setting.")
        return ProbeData(self.train.take(train), self.test, self.class_names, self.train.take(val), self.unlabelled)

    def for_choosing(self, select: str, fraction: float, seed: int) -> ProbeData:
        """Itself with rows to choose settings on as `val`: see `with_validation`, and `check_select` for 'test'."""
        return replace(self, val=self.test) if select == 'test' else self.with_validation(fraction, seed)

    def with_all_for_training(self) -> ProbeData:
        """Its copy without `val`, whose rows follow those of `train`."""
        if self.val is None:
            return self
        train = LabelledRows(torch.cat([self.train.features, self.val.features]),
                             torch.cat([self.train.labels, self.val.labels]))
        return replace(self, train=train, val=None)

    def sizes(self) -> dict[str, int | dict[str, int]]:
        """The entries `n_train`, `n_val`, `n_test` and `unlabelled` of `TaskResult.extras`."""
        sizes = dict(n_train=len(self.train), n_val=len(self.val) if self.val is not None else 0, n_test=len(self.test))
        return {**sizes, **({'unlabelled': self.unlabelled} if self.unlabelled else {})}


class Bank(Protocol):
    """What a task on features reads of a bank: a `FeatureBank`, one bucket of it, or rows in memory."""

    class_names: Sequence[str]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) float32 and labels (N,) int64 of its valid rows, -1 without a label."""


@runtime_checkable
class HoldsClips(Protocol):
    """A bank that knows how many rows after each other are the frames of a clip; 1 of single images."""

    clip_length: int


@runtime_checkable
class FindsImages(Protocol):
    """A bank that knows its images by id."""

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """Rows (N,) int64 of images, unreadable ones included; DataError for an id that it does not have."""

    def subset_rows(self) -> np.ndarray:
        """Rows (M,) int64 of the readable images."""

    def tensors(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features and labels of the readable images among some rows."""


def features_by_id(bank: object, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Features (M, D) of images by id, without those that could not be read, and which could, (N,) bool.

    Raises:
        ConfigError: for a bank that does not know its images by id, such as a bucket of one.
        DataError: for an id that the bank does not have, or features that are not finite.
    """
    if not isinstance(bank, FindsImages):
        raise ConfigError(f'The task finds images by their id, which a {type(bank).__name__} does not know. Give a '
                          'whole bank or data source.')
    rows = bank.rows_of(ids)
    is_there = np.isin(rows, bank.subset_rows())
    features = bank.tensors(rows[is_there])[0]
    if is_there.any():
        check_features(features, 'test')
    return features, torch.from_numpy(is_there)


def read_splits(banks: Mapping[str, Bank], device: torch.device | str = 'cpu') -> ProbeData:
    """The splits of a task from its feature banks, with the classes of 'val' and 'test' renumbered to those of 'train'.

    Classes are matched by name (the number, for a bank without names). Rows without a label (-1) are left out
    and counted. Of `ListedRows` the classes are the same already.

    Args:
        banks: 'train', 'test' and optionally 'val' -> `FeatureBank`, or a part of one as below.

    Raises:
        ConfigError: if a split is missing or unknown.
        DataError: for a split without labelled rows, features that are not finite or differ in width, or a class
            that occurs in 'test' or 'val' but not in 'train'.
    """
    check_splits(banks, required=('train', 'test'))
    rows = {split: read_rows(banks[split], split, device) for split in SPLITS if split in banks}
    unlabelled = {split: count for split, (_, count) in rows.items() if count}
    train = rows['train'][0]
    names = class_names_of(banks['train'], train.labels)
    found = {'train': train}
    for split in ('val', 'test'):
        if split in rows:
            if rows[split][0].features.shape[1] != train.features.shape[1]:
                raise DataError(f"The features of '{split}' have {rows[split][0].features.shape[1]} dimensions, those "
                                f"of 'train' {train.features.shape[1]}: two encoders?")
            own = class_names_of(banks[split], rows[split][0].labels)
            found[split] = rows[split][0] if isinstance(banks[split], ListedRows) else \
                _renumbered(rows[split][0], split, own, names, train.labels)
    only = train.labels[0].item()
    if (train.labels == only).all():
        logger.warning("All training rows are of one class, '%s': every prediction is right, whatever the features.",
                       names[only])
    return ProbeData(train, found['test'], names, found.get('val'), unlabelled)


def check_splits(found: Mapping[str, object], required: Sequence[str], what: str = 'bank') -> None:
    """Refuse missing and unknown splits of what a task needs."""
    for split in found:
        if split not in SPLITS:
            raise ConfigError(f"Banks are called 'train', 'val' and 'test'; got '{split}'.")
    missing = [split for split in required if split not in found]
    if missing:
        needed = f"a bank called {' and one called '.join(map(repr, missing))}" if what == 'bank' else \
            f"{what} called {' and '.join(map(repr, missing))}"
        raise ConfigError(f"The task needs {needed}; got {', '.join(map(repr, found)) or 'none'}.")


def read_rows(bank: Bank, split: str, device: torch.device | str = 'cpu'
             ) -> tuple[LabelledRows, int]:
    """The valid, labelled rows of a bank and how many valid rows have no label.

    Raises:
        DataError: if there are none, a feature is NaN or infinite, or the rows are frames of clips.
    """
    length = clip_length_of(bank)
    if length > 1:
        raise DataError(f"The images of '{split}' are frames of clips, {length} each, and this task reads single "
                        'images. MLPProbe reads clips.')
    features, labels = bank.tensors()
    keep = labels >= 0
    unlabelled = int((~keep).sum())
    if unlabelled:
        features, labels = features[keep], labels[keep]
    check_features(features, split)
    return LabelledRows(features.to(device), labels.to(device)), unlabelled


def clip_length_of(bank: Bank) -> int:
    """How many rows of a bank make a clip; 1 of single images."""
    whole = bank.bank if isinstance(bank, BucketRows) else bank
    return whole.clip_length if isinstance(whole, HoldsClips) else 1


def check_features(features: Tensor, split: str) -> None:
    """Refuse features that are empty, no matrix, or not finite.

    Raises:
        DataError: naming the split and the first bad row.
    """
    if features.ndim != 2 or not features.numel():
        raise DataError(f"The split '{split}' has no labelled rows with features (shape {tuple(features.shape)}).")
    # One number per row is enough to find NaN and infinity; a sum may overflow, the largest magnitude cannot.
    bad = ~features.abs().amax(1).isfinite()
    if bad.any():
        row = int(bad.nonzero()[0])
        kind = 'NaN' if features[row].isnan().any() else 'infinity'
        raise DataError(f"The features of '{split}' are not finite in {int(bad.sum())} of {len(bad)} rows (first: row "
                        f'{row} of the valid, labelled ones, which holds {kind}). Extract the bank again.')


def class_names_of(bank: Bank, labels: Tensor) -> list[str]:
    """The names of a bank's classes, '0', '1', ... if it has none.

    Raises:
        DataError: if there are fewer than labels, or two of one name, which could not be told apart.
    """
    names = [str(name) for name in bank.class_names or ()]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"A bank has two classes called '{twice}'; classes are matched by name.")
    largest = int(labels.max())
    if names and largest >= len(names):
        raise DataError(f'A bank has the label {largest} but names {len(names)} classes only.')
    return names or [str(index) for index in range(largest + 1)]


def _renumbered(rows: LabelledRows, split: str, names: list[str], train_names: list[str],
                train_labels: Tensor) -> LabelledRows:
    """`rows` with the class indices of training; every class that occurs must occur in training."""
    has_samples = torch.zeros(len(train_names), dtype=torch.bool)
    has_samples[train_labels.unique().cpu()] = True
    place = {name: index for index, name in enumerate(train_names) if has_samples[index]}
    occurring = [names[index] for index in rows.labels.unique().tolist()]
    missing = [name for name in occurring if name not in place]
    if missing:
        close = nearest(missing[0], place)
        raise DataError(f"Classes of '{split}' that have no sample in 'train': {', '.join(map(repr, missing[:5]))}"
                        + (f' and {len(missing) - 5} more' if len(missing) > 5 else '')
                        + f". 'train' has {len(place)} classes" + (f', the nearest: {close}.' if close else '.'))
    table = torch.tensor([place.get(name, -1) for name in names], device=rows.labels.device)
    return LabelledRows(rows.features, table[rows.labels])


def check_select(select: str, legacy: bool) -> str:
    """What settings are chosen on: 'val', or 'test' with `legacy`.

    Raises:
        ConfigError: for anything else; on 'test' every number is too good, and only those who repeat an old result
            should ask for that.
    """
    check_choice('select', select, ('val', 'test'))
    if check_flag('legacy', legacy) != (select == 'test'):
        raise ConfigError("select='test' chooses settings on the images that are reported, so that results are too "
                          "good. To repeat old ones, give legacy=True with it." if select == 'test' else
                          "legacy=True allows select='test', which was not asked for.")
    return select


def stratified_split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide rows in two so that each class gives about `fraction` of its rows to the second part.

    A class gives at least one row and keeps at least one; a class of one row keeps it.

    Returns:
        rows that stay, rows of the second part: int64, ascending; a function of labels, fraction and seed alone.
    """
    check_number('val_fraction', fraction, above=0, below=1)
    second = torch.zeros(len(labels), dtype=torch.bool)
    for label, rows in rows_by_class(labels).items():
        if len(rows) > 1:
            count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
            second[rows[shuffled(len(rows), seed, 'validation', label)[:count]]] = True
    return (~second).nonzero().squeeze(1).to(labels.device), second.nonzero().squeeze(1).to(labels.device)


def sample_shots(labels: Tensor, shots: int, seed: int, class_names: Sequence[str] | None = None) -> Tensor:
    """Draw `shots` rows of every class that occurs; with one seed, fewer shots are a subset of more.

    Returns:
        rows, int64, ascending.

    Raises:
        DataError: naming the classes that have fewer rows.
    """
    chosen, short = [], []
    for label, rows in rows_by_class(labels).items():
        if len(rows) < shots:
            short.append(f"'{class_names[label] if class_names else label}' ({len(rows)})")
        chosen.append(rows[shuffled(len(rows), seed, 'shots', label)[:shots]])
    if short:
        raise DataError(f'{shots} shots were asked for; these classes have fewer training samples: '
                        f"{', '.join(short[:5])}" + (f' and {len(short) - 5} more' if len(short) > 5 else '') + '.')
    return torch.cat(chosen).sort().values.to(labels.device)


def rows_by_class(labels: Tensor) -> dict[int, Tensor]:
    """Class -> its rows, both ascending."""
    labels = labels.cpu()
    order = labels.argsort(stable=True)
    classes, counts = labels.unique(return_counts=True)
    return dict(zip(classes.tolist(), order.split(counts.tolist())))


def shuffled(count: int, seed: int, *purpose: object) -> Tensor:
    """A permutation of 0 ... count-1 that depends on the seed and the purpose alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, *purpose)))


def seed_list(seeds: int | Sequence[int], seed: int) -> list[int]:
    """Seeds as given, or for a number n: seed, seed + 1, ..., n of them.

    Raises:
        ConfigError: for none, for one twice, or for anything but whole numbers.
    """
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        return [seed + index for index in range(check_whole('seeds', seeds, 1, MOST_SEEDS))]
    if not isinstance(seeds, (list, tuple)) or not seeds or len({*seeds}) != len(seeds):
        raise ConfigError(f'seeds is {seeds!r}; expected how many, or a list of different seeds.')
    return [check_whole('seeds', item, 0) for item in seeds]


class BucketRows:
    """One bucket of a bank, with the part of a bank's interface that tasks read.

    Args:
        bank: a `FeatureBank`.
        bucket: the bucket's name.

    Raises:
        DataError: if the bank has no such bucket.
    """

    def __init__(self, bank: FeatureBank, bucket: str):
        self.bank = bank
        self.rows = bank.subset_rows(bucket=str(bucket))
        self.class_names = bank.class_names

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Features (M, D) float32 and labels (M,) int64 of the bucket's valid rows."""
        return self.bank.tensors(self.rows)


class ListedRows:
    """The images of a list of a stream, with the part of a bank's interface that tasks read.

    Their classes are the stream's: one that no image of 'train' shows may occur in 'test', where it is never right.

    Args:
        features: (N, D) float32.
        labels: (N,) int64, indices of `class_names`.
    """

    def __init__(self, features: Tensor, labels: Tensor, class_names: list[str]):
        self.features, self.labels, self.class_names = features, labels, class_names

    def tensors(self, rows: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Features and labels of some rows; None: of all."""
        return (self.features, self.labels) if rows is None else (self.features[rows], self.labels[rows])

    def subset_rows(self) -> np.ndarray:
        """All rows: what could not be read is not among them."""
        return np.arange(len(self.labels))
