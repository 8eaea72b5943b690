"""What every scenario of ours is made of: buckets as data sets, and the Avalanche benchmark over them."""

from __future__ import annotations

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
        bucket_names: the name of each experience.
        protocol: 'iid' or 'streaming'.
        fingerprint: identifies the samples, their labels and their order.
        train, test: the data set of each experience, a `TensorBucket` or a `BucketImages`.
        context: tells augmentations the seed, experience and epoch.
        bad_samples: where unreadable images are counted and listed.
    """

    class_names: list[str]
    bucket_names: list[str]
    protocol: str
    fingerprint: str
    train: list[Dataset]
    test: list[Dataset]
    context: SampleContext = field(default_factory=SampleContext)
    bad_samples: BadSamples | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def make_benchmark(info: ScenarioInfo):
    """An Avalanche benchmark with one experience per bucket; `benchmark.info` is `info`.

    Experience i has task label i, as in the CLEAR benchmark: the label names metrics and balances mixed batches,
    and is never an input of the model. Class ids, bucket order and sample order stay as given.
    """
    from avalanche.benchmarks import dataset_benchmark

    benchmark = dataset_benchmark(task_aware(info.train), task_aware(info.test))
    benchmark.info = info
    return benchmark


def task_aware(datasets: Sequence[Dataset]) -> list:
    """Wrap data set i as Avalanche's classification data set with task label i."""
    from avalanche.benchmarks.utils import _make_taskaware_classification_dataset

    return [_make_taskaware_classification_dataset(dataset, task_labels=index, targets=dataset.targets)
            for index, dataset in enumerate(datasets)]
