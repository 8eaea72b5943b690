"""Features of a bank for the lists of a data set: images are found by id, unreadable ones left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clear.core.errors import DataError
from clear.datasets import Bucket
from clear.features.bank import FeatureBank


@dataclass(frozen=True, eq=False)
class JoinedBucket:
    """The samples of a list that have features.

    Attributes:
        features: (M, D) float32.
        targets: (M,) int64.
        missing: ids of the listed images that could not be read when the bank was made.
    """

    features: torch.Tensor
    targets: torch.Tensor
    missing: list[str]


def join_bucket(bank: FeatureBank, bucket: Bucket) -> JoinedBucket:
    """The features of a bucket's images, in the order of its list.

    Raises:
        DataError: if the bank lacks an image, has it under another label, or none of them could be read.
    """
    rows = bank.rows_of(bucket.ids)
    wrong = (bank.labels[rows] != bucket.targets).nonzero()[0]
    if len(wrong):
        place = int(wrong[0])
        raise DataError(f"{bank.path}: '{bucket.ids[place]}' has label {bank.labels[rows[place]]} in the bank, but "
                        f'{bucket.targets[place]} in the list of bucket {bucket.name}. Was the bank made from other '
                        'lists? Make it again.')
    is_valid = bank.valid[rows]
    if not is_valid.any():
        raise DataError(f'bucket {bucket.name}: none of its {len(rows)} listed images could be read when {bank.path} '
                        'was made.')
    features, labels = bank.tensors(rows)
    return JoinedBucket(features, labels, [bucket.ids[place] for place in np.flatnonzero(~is_valid)])
