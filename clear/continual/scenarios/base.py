"""What every scenario of ours is made of: buckets as data sets, and the Avalanche benchmark over them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.data import Dataset

from clear.datasets import BadSamples, SampleContext


class TensorBucket(Dataset):
    """Samples of one bucket as one block: features, or images that a deterministic transform made once.

    Args:
        inputs: (N, ...) float tensor.
        targets: (N,) integer tensor.
    """

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor):
        if len(inputs) != len(targets):
            raise ValueError(f'{len(inputs)} inputs and {len(targets)} targets.')
        self.inputs = inputs.contiguous()
        self.labels = torch.as_tensor(targets, dtype=torch.int64)
        self.targets = self.labels.tolist()

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.inputs[index], self.targets[index]


@dataclass
class ScenarioInfo:
    """What the engine must know about a benchmark beside its experiences.

    Attributes:
        class_names: the name of each class index.
        bucket_names: the name of each training experience.
        protocol: one of `clear.continual.metrics.PROTOCOLS`.
        fingerprint: identifies the samples, their labels and their order.
        train, test: the data set of each experience, a `TensorBucket` or a `BucketDataset`.
        context: tells augmentations the seed, experience and epoch.
        bad_samples: where unreadable images are counted and listed.
        rest: the training samples of each bucket as they are when tested on, where a run of the iid protocol also
            measures whole buckets before it trains on them.
        test_names: the names of the test sets where they differ from the training experiences (one test set for all).
        task_labels: the task of each training experience and of the test set beside it, where the stream names tasks.
    """

    class_names: list[str]
    bucket_names: list[str]
    protocol: str
    fingerprint: str
    train: list[Dataset]
    test: list[Dataset]
    context: SampleContext = field(default_factory=SampleContext)
    bad_samples: BadSamples | None = None
    test_names: list[str] | None = None
    rest: list[Dataset] | None = None
    task_labels: list[int] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @functools.cached_property
    def unseen(self) -> list[list[bool]] | None:
        """Where test list j has a class that no training list through i has: (buckets) x (buckets).

        CLEAR's metrics compare the same classes at other times, and have no meaning there. None where there is no such
        place, or the protocol's metrics are made for it.
        """
        if self.protocol not in ('iid', 'streaming', 'domain-incremental'):
            return None
        tested, known, rows = [set(dataset.targets) for dataset in self.test], set(), []
        for dataset in self.train:
            known |= set(dataset.targets)
            rows.append([not classes <= known for classes in tested])
        return rows if any(map(any, rows)) else None

    @property
    def column_names(self) -> list[str]:
        """The names of the columns of the accuracy matrix."""
        return self.bucket_names if self.test_names is None else self.test_names


def make_benchmark(info: ScenarioInfo, task_labels: Sequence[int] | None = None,
                   test_task_labels: Sequence[int] | None = None):
    """An Avalanche benchmark with one experience per bucket; `benchmark.info` is `info`.

    Experience i has task label i, as in the CLEAR benchmark: the label names metrics and balances mixed batches,
    and is never an input of the model. Class ids, bucket order and sample order stay as given. A class-incremental
    benchmark has `n_classes`, `n_classes_per_exp` and `classes_order`, which Avalanche's own have and iCaRL reads.

    Args:
        task_labels, test_task_labels: other labels for the experiences of the two streams.
    """
    from avalanche.benchmarks import dataset_benchmark

    benchmark = dataset_benchmark(task_aware(info.train, task_labels), task_aware(info.test, test_task_labels))
    benchmark.info = info
    if info.protocol == 'class-incremental':
        classes = [sorted(set(dataset.targets)) for dataset in info.train]
        benchmark.n_classes = info.num_classes
        benchmark.n_classes_per_exp = [len(each) for each in classes]
        benchmark.classes_order = [label for each in classes for label in each]
    return benchmark


def task_aware(datasets: Sequence[Dataset], task_labels: Sequence[int] | None = None) -> list:
    """Wrap data set i as Avalanche's classification data set with task label i, or the i-th of `task_labels`."""
    from avalanche.benchmarks.utils import _make_taskaware_classification_dataset

    labels = range(len(datasets)) if task_labels is None else task_labels
    return [_make_taskaware_classification_dataset(dataset, task_labels=label, targets=dataset.targets)
            for label, dataset in zip(labels, datasets, strict=True)]
