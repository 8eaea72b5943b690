"""Features for tests: digits as vectors, and a stand-in for a bank that holds them in memory."""

from dataclasses import dataclass, field

import numpy as np
import torch

from clear.evaluation import LabelledRows, ProbeData


@dataclass
class MemoryBank:
    """What tasks read of a bank."""

    features: torch.Tensor
    labels: torch.Tensor
    class_names: list = field(default_factory=list)
    buckets: list = field(default_factory=list)

    def tensors(self, rows=None):
        rows = slice(None) if rows is None else torch.as_tensor(rows)
        return self.features[rows].float(), self.labels[rows]

    def subset_rows(self, bucket):
        return np.flatnonzero(np.array(self.buckets) == bucket)


def digits():
    """The 1,797 digits of scikit-learn: (N, 64) float32 in 0 ... 1, (N,) int64."""
    from sklearn.datasets import load_digits

    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return torch.from_numpy(features[order] / 16).float(), torch.from_numpy(labels[order]).long()


def digit_banks(num_train=1200):
    features, labels = digits()
    return dict(train=MemoryBank(features[:num_train], labels[:num_train]),
                test=MemoryBank(features[num_train:], labels[num_train:]))


def blobs(num_rows, num_classes=3, dim=5, spread=1.0, seed=0):
    """Gaussian blobs: (N, D) float32, (N,) int64 with every class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num_rows) % num_classes
    centres = np.random.default_rng(99).normal(size=(num_classes, dim)) * 3
    features = centres[labels] + rng.normal(size=(num_rows, dim)) * spread
    return torch.from_numpy(features).float(), torch.from_numpy(labels).long()


def blob_data(num_train=60, num_test=31, num_val=0, **options):
    """The same as `ProbeData`."""
    parts = [LabelledRows(*blobs(count, seed=index, **options)) if count else None
             for index, count in enumerate((num_train, num_test, num_val))]
    num_classes = options.get('num_classes', 3)
    return ProbeData(parts[0], parts[1], [str(index) for index in range(num_classes)], parts[2])


class BankOfIds:
    """Features of images without labels, found by id; rows in `unreadable` could not be read."""

    def __init__(self, ids, features, unreadable=()):
        self.ids, self.features, self.unreadable = list(ids), features, set(unreadable)

    def rows_of(self, ids):
        return np.array([self.ids.index(name) for name in ids])

    def subset_rows(self):
        return np.array([row for row in range(len(self.ids)) if row not in self.unreadable])

    def tensors(self, rows):
        return self.features[rows], torch.full((len(rows),), -1)
