"""Buckets in which a class does not occur, said in one line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from clear.datasets.buckets import Bucket

logger = logging.getLogger('clear')


def warn_of_lacking_classes(root: Path, class_names: Sequence[str], train: Sequence[Bucket], test: Sequence[Bucket],
                            protocol: str) -> None:
    """Name in one warning the buckets, lists and classes of a stream where a class does not occur; else say nothing.

    For streams that should have all classes in every bucket. Of few-shot lists the test list is all that is left of
    the bucket, so a class whose images are all trained on is named too. A class-incremental stream is no such stream.

    Args:
        protocol: under 'streaming' train and test are the same lists, and each bucket is named once.
    """
    found = [entry for pair in zip(train, test) for entry in _entries(class_names, *pair, protocol)]
    if found:
        logger.warning('%s: some buckets lack classes, and accuracy on a test list is that of the classes in it. %s',
                       root, '; '.join(found[:5]) + (f'; and {len(found) - 5} more' if len(found) > 5 else ''))


def quoted(names: Sequence[str], most: int = 5) -> str:
    """The first names in quotes, and how many more there are."""
    text = ', '.join(f"'{name}'" for name in names[:most])
    return text + (f' and {len(names) - most} more' if len(names) > most else '')


def _entries(class_names: Sequence[str], train: Bucket, test: Bucket, protocol: str) -> list[str]:
    in_train, in_test = (set(bucket.targets.tolist()) for bucket in (train, test))
    labels = set(range(len(class_names)))
    if protocol == 'streaming':
        lists = {'': labels - in_train}
    else:
        lists = {' (train and test)': labels - in_train - in_test, ' (train)': (labels & in_test) - in_train,
                 ' (test)': (labels & in_train) - in_test}
    return [f'bucket {train.name}{part}: {quoted([class_names[label] for label in sorted(absent)])}'
            for part, absent in lists.items() if absent]
