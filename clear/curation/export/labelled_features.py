"""Features of the labelled photos, out of the banks of whole buckets, in the two layouts of CLEAR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import torch
from pyarrow import compute

from clear.core.errors import DataError
from clear.core.files import save_tensors
from clear.curation.export.tree import TRAINING, features_file
from clear.curation.manifest import Finished
from clear.features import FeatureBank

BANK = 'bank'


def features_of(features: Finished, bucket: str, ids: Sequence[str]) -> np.ndarray:
    """(N, D) float32: the features of some photos of a bucket.

    Raises:
        DataError: if the stage has none of one of them, or its image could not be read.
    """
    wanted = pyarrow.array(ids, pyarrow.string())
    found, is_found = None, np.zeros(len(ids), bool)
    for number, shard in enumerate(features.manifest['plan']['shards']):
        if shard['bucket'] != bucket:
            continue
        bank = FeatureBank.open(features.file(number, BANK))
        rows = compute.index_in(wanted, value_set=bank.index['id'].combine_chunks().cast(pyarrow.string()))
        here = rows.is_valid().to_numpy(zero_copy_only=False)
        rows = rows.drop_null().to_numpy()
        here[here] = bank.valid[rows]
        if found is None:
            found = np.zeros((len(ids), bank.dim), np.float32)
        found[here] = bank.features[rows[bank.valid[rows]]]
        is_found |= here
    if not is_found.all():
        lacking = [name for name, there in zip(ids, is_found) if not there]
        raise DataError(f"{features.folder.path}: bucket {bucket} has no features of {len(lacking)} selected photos, "
                        f'first {lacking[0]}: their images could not be read, or it was made of others.')
    return found


def write_features(tree: Path, name: str, key: str, values: np.ndarray, ids: Sequence[str], labels: Sequence[str],
                   targets: Sequence[int]) -> None:
    """Write `features/<name>/<b>/<label>.pth` (`{id: (D,) float32}`) and `training_folder/features/<name>/<b>/all.pth`.

    Args:
        values: (N, D) float32.
        ids, labels, targets: of each row; rows of a class follow each other.
    """
    tensor = torch.from_numpy(values)
    for label in dict.fromkeys(labels):
        rows = [row for row, other in enumerate(labels) if other == label]
        # Copies: a view would be saved with the storage of the whole bucket.
        save_tensors(tree / features_file(name, key, label), {ids[row]: tensor[row].clone() for row in rows})
    save_tensors(tree / TRAINING / 'features' / name / key / 'all.pth', (tensor, list(targets)))
