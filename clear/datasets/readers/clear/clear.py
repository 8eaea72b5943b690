"""The CLEAR benchmark, and data of one's own in the same folders, as a train and a test stream of buckets.

CLEAR: Lin, Shi, Pathak and Ramanan 2021, arXiv:2201.06289. Nothing is downloaded here.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from clear.core.checks import check_whole
from clear.core.errors import ConfigError, DataError, nearest
from clear.datasets.buckets import Bucket, check_first_images, in_one_table
from clear.datasets.columns import chunked_texts, repeated_text
from clear.datasets.fingerprints import stream_fingerprint
from clear.datasets.readers.clear.clear_layouts import Choice, NewLayout, OldLayout, open_layout
from clear.datasets.readers.clear.lacking_classes import warn_of_lacking_classes
from clear.datasets.readers.image_files import has_odd_spelling, how_to_make, plain_path, real_path
from clear.datasets.table import ImageTable

logger = logging.getLogger('clear')

# Classes of the published sets. `clear10` exists in both layouts, so the layout is found by looking.
NUM_CLASSES = {'clear10': 11, 'clear10_neurips2021': 11, 'clear100': 100, 'clear100_cvpr2022': 100, 'demo': 10}
PROTOCOLS = ('iid', 'streaming')
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, eq=False)
class ClearData:
    """A stream of buckets in time order; `train[i]` and `test[i]` are the same bucket.

    Attributes:
        class_names: class index to name.
        train, test: under 'streaming' both hold all samples of the bucket.
        layout: 'old' or 'new'.
        protocol: 'iid' or 'streaming'.
        root: the data root; paths of buckets are relative to it.
        fingerprint: of what was read, wherever the root is.
        images: all of them, bucket by bucket, train before test; `train` and `test` are views of it.
        left_out: buckets that only one part of the new layout has, so that 'iid' cannot use them.
    """

    class_names: list[str]
    train: list[Bucket]
    test: list[Bucket]
    layout: str
    protocol: str
    root: Path
    fingerprint: str
    images: ImageTable
    left_out: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_class_incremental(self) -> bool:
        """Whether no class is in two buckets, of several."""
        classes = [set(one.targets.tolist()) | set(other.targets.tolist()) for one, other in zip(self.train, self.test)]
        return len(classes) > 1 and sum(map(len, classes)) == len(set().union(*classes))


def read_clear(data_root: str | Path, *, data_name: str | None = None, evaluation_protocol: str = 'iid',
               seed: int | None = 0, shot: int | None = None, feature_type: str | None = None,
               layout: str = 'auto') -> ClearData:
    """Read the lists (and features) of a CLEAR tree. Images are not opened; the first of each bucket must exist.

    | protocol  | train               | test                | seed                             |
    |-----------|---------------------|---------------------|----------------------------------|
    | iid       | train list          | test list           | 0-4; the new layout ignores it   |
    | iid, shot | k-shot train list   | the rest            | 0-4                              |
    | streaming | all of the bucket   | all of the bucket   | None                             |

    A class that a list lacks is named in one warning: accuracy on a test list is that of the classes in it.

    Args:
        data_name: a published set (its number of classes is checked), 'demo', or None for other data.
        shot: images per class of the few-shot lists, or None.
        feature_type: read these stored features in place of images.
        layout: 'old', 'new', or 'auto' to tell by looking.

    Raises:
        ConfigError: if options are unknown or do not go together, or this tree does not offer them.
        DataError: if something is missing or wrong; the message names the file and what to run.
    """
    _check_options(data_name, evaluation_protocol, seed, shot)
    # Absolute, so that a later change of folder harms nobody and paths can be compared.
    root = real_path(data_root)
    check = f'`python tools/dataset_converters/check_clear.py {root}` reports all that is missing.'
    tree = open_layout(root, layout, f'{how_to_get(data_name, root)} {check}'.lstrip())
    choice = Choice(seed, shot, feature_type)
    _check_choice(tree, evaluation_protocol, choice)
    class_names = tree.class_names()
    _check_num_classes(data_name, class_names, root)

    if evaluation_protocol == 'streaming':
        names, left_out = tree.bucket_names('all', choice), ()
        train = [tree.bucket(name, 'all', choice, class_names) for name in names]
        check_disjoint(train, root)
        images, train = in_one_table(train)
        test = list(train)
    else:
        names, left_out = _common_buckets(tree, choice)
        parts = [tree.bucket(name, part, choice, class_names) for name in names for part in ('train', 'test')]
        check_disjoint(parts[::2] + parts[1::2], root)
        images, parts = in_one_table(parts)
        train, test = parts[::2], parts[1::2]
    _check_streams(train, test, root, tree.hint)
    warn_of_lacking_classes(root, class_names, train, test, evaluation_protocol)
    return ClearData(class_names, train, test, tree.name, evaluation_protocol, root,
                     stream_fingerprint(tree.name, evaluation_protocol, class_names, train, test), images, left_out)


def how_to_get(data_name: str | None, root: Path) -> str:
    """The sentence for messages about missing data, what to run; empty where nobody knows."""
    if data_name is None:
        return how_to_make(root)
    get = f'make_demo_clear.py {root}' if data_name == 'demo' else f'download_clear.py {data_name} {root}'
    return f'To get the data: `python tools/dataset_converters/{get}`.'


def make_splits_hint(root: Path, choice: Choice) -> str:
    """The sentence about the program that writes the split which was asked for."""
    shots = f' --shots {choice.shot}' if choice.shot is not None else ''
    return f' `python tools/dataset_converters/make_splits.py {root} --seeds {choice.seed}{shots}` writes it.'


def check_data_name(data_name: str | None) -> None:
    """Raise ConfigError unless `data_name` is a known set or None."""
    if data_name is not None and data_name not in NUM_CLASSES:
        near = nearest(str(data_name), NUM_CLASSES)
        raise ConfigError(f"data_name '{data_name}' is unknown{f', nearest: {near}' if near else ''}. Known: "
                          f'{", ".join(NUM_CLASSES)}; None for data of your own in CLEAR folders.')


def _check_options(data_name: str | None, protocol: str, seed: int | None, shot: int | None) -> None:
    check_data_name(data_name)
    if protocol not in PROTOCOLS:
        raise ConfigError(f"evaluation_protocol is '{protocol}', expected 'iid' or 'streaming' (scenario.type='CLEAR' "
                          "takes 'both', too).")
    if shot is not None:
        check_whole('shot', shot, 1)
    if protocol == 'streaming' and seed is not None:
        raise ConfigError(f'evaluation_protocol=\'streaming\' splits nothing, so seed must be None, not {seed!r}.')
    if protocol == 'streaming' and shot is not None:
        raise ConfigError(f"shot={shot} needs evaluation_protocol='iid': under 'streaming' every bucket is used whole.")


def _check_choice(tree: OldLayout | NewLayout, protocol: str, choice: Choice) -> None:
    if choice.feature_type is not None:
        tree.require_feature_type(choice.feature_type)
    if protocol == 'streaming':
        return
    if choice.shot is not None and choice.shot not in tree.shots():
        offered = tree.shots() or 'none'
        extra = ' The new layout has no few-shot lists.' if tree.name == 'new' else ''
        raise ConfigError(f'shot={choice.shot}: {tree.root} has no {choice.shot}_shot lists; shots on disk: '
                          f'{offered}.{extra or make_splits_hint(tree.root, choice)}')
    found = tree.seeds() if choice.shot is None else tree.shot_seeds(choice.shot)
    on_disk = 'the official split, which has no seed' if tree.name == 'new' else f'splits of seeds {found or "none"}'
    if type(choice.seed) is not int or choice.seed not in SEEDS:
        raise ConfigError(f"seed is {choice.seed!r}; evaluation_protocol='iid' needs one of {list(SEEDS)}. "
                          f'On disk: {on_disk}.')
    if tree.name == 'old' and choice.seed not in found:
        raise DataError(f'{tree.root} has no split of seed {choice.seed}; on disk: {on_disk}.'
                        f'{make_splits_hint(tree.root, choice)} {tree.hint}')


def _check_num_classes(data_name: str | None, class_names: list[str], root: Path) -> None:
    expected = NUM_CLASSES.get(data_name, len(class_names))
    if len(class_names) != expected:
        raise DataError(f'{data_name} has {expected} classes, but class_names.txt in {root} lists {len(class_names)} '
                        f"('{class_names[0]}' ... '{class_names[-1]}'). Is data_root or data_name wrong? "
                        'data_name=None reads data of your own.')


def _common_buckets(tree: OldLayout | NewLayout, choice: Choice) -> tuple[list[str], tuple[str, ...]]:
    """Buckets that train and test both have, and those that only one has."""
    train, test = tree.bucket_names('train', choice), tree.bucket_names('test', choice)
    names = [name for name in train if name in test]
    left_out = tuple(sorted(set(train) ^ set(test), key=int))
    if not names:
        raise DataError(f'{tree.root}: train has buckets {train}, test has {test}: none in common. {tree.hint}')
    if left_out:
        logger.warning('%s: buckets %s are in only one of train and test and are left out of the iid streams.',
                       tree.root, ', '.join(left_out))
    return names, left_out


def check_disjoint(buckets: list[Bucket], root: Path) -> None:
    """Every id once over all lists: a test image that is also trained on makes every figure wrong."""
    ids = chunked_texts([bucket.images['id'] for bucket in buckets])
    if not has_odd_spelling(ids) and repeated_text(ids) is None:
        return
    seen: dict[str, tuple[str, Bucket]] = {}
    for bucket in buckets:
        for name in bucket.ids:
            key = plain_path(name)
            if key in seen:
                earlier, other = seen[key]
                also = '' if earlier == name else f" (there as '{earlier}')"
                raise DataError(f"{root}: '{name}' is in two lists, of bucket {other.name}{also} and of bucket "
                                f'{bucket.name}. Train and test lists of all buckets must not overlap. '
                                f'`python tools/dataset_converters/check_clear.py {root}` lists every case.')
            seen[key] = name, bucket


def _check_streams(train: list[Bucket], test: list[Bucket], root: Path, hint: str) -> None:
    widths = {bucket.features.shape[1] for bucket in train + test if bucket.features is not None}
    if len(widths) > 1:
        raise DataError(f'{root}: features of different widths in different buckets, {sorted(widths)}.')
    check_first_images(root, train + test, hint)
