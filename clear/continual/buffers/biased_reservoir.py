"""A reservoir that favours recent samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.training.storage_policy import ExemplarsBuffer

from clear.continual.buffers.flat import keep_rows
from clear.core.checks import check_choice, check_number, check_whole
from clear.registry import BUFFERS

if TYPE_CHECKING:
    from avalanche.benchmarks.scenarios.generic_scenario import CLExperience
    from avalanche.benchmarks.utils import AvalancheDataset

ALPHA_MODES = ('Fixed', 'Dynamic')


@BUFFERS.register_module()
class BiasedReservoirSamplingBuffer(ExemplarsBuffer):
    """Takes new samples with a chosen probability; each one taken replaces a random older one.

    With n samples seen, the current bucket included, and a memory of K:

    - `Fixed`: p = min(1, alpha K / n). alpha = 1 is ordinary reservoir sampling, more favours recent samples.
    - `Dynamic`: p = alpha at any time, so a sample that is m samples old is there with a probability that falls
      exponentially in m. alpha = 1 with buckets of at least K keeps the current bucket only, which is fine-tuning.

    While there is free space, samples that lost the draw fill it; a memory never shrinks. This is the biased reservoir
    of the CLEAR baselines (Lin et al. 2021, arXiv:2201.06289).

    Args:
        max_size: samples in memory, >= 1.
        alpha_mode: 'Fixed' or 'Dynamic'.
        alpha_value: alpha, >= 0; in [0, 1] for 'Dynamic'.
        legacy: the form of the earlier demo. 'Fixed' means p = alpha / (i + 1) in experience i, whatever the sizes;
            the samples at the end of the memory are replaced, not random ones, one for each sample taken even where
            there is free space; a bucket larger than K is cut to a random K first, and the first one fills the memory.

    Raises:
        ConfigError: for a value out of its range.

    Example:
        >>> from avalanche.benchmarks.utils import as_classification_dataset
        >>> from torch.utils.data import TensorDataset
        >>> bucket = TensorDataset(torch.randn(50, 2), torch.arange(50) % 5)
        >>> bucket.targets = bucket.tensors[1].tolist()
        >>> memory = BiasedReservoirSamplingBuffer(max_size=10, alpha_value=2.0)
        >>> memory.update_from_dataset(as_classification_dataset(bucket))
        >>> len(memory.buffer), memory.probability()
        (10, 0.4)
    """

    def __init__(self, max_size: int, alpha_mode: str = 'Fixed', alpha_value: float = 1.0, legacy: bool = False):
        super().__init__(check_whole('max_size', max_size, 1))
        self.alpha_mode = check_choice('alpha_mode', alpha_mode, ALPHA_MODES)
        # Of 'Dynamic' it is a probability.
        check_number(f'alpha_value of {alpha_mode}', alpha_value, 0, 1 if alpha_mode == 'Dynamic' else None)
        self.alpha_value = float(alpha_value)
        self.legacy = legacy
        self.num_seen = 0
        self.num_updates = 0

    def post_adapt(self, agent: object, exp: CLExperience) -> None:
        self.update_from_dataset(exp.dataset)

    def update_from_dataset(self, new_data: AvalancheDataset) -> None:
        """Take samples of a bucket."""
        self.num_seen += len(new_data)
        select = self._select_legacy if self.legacy else self._select
        old_rows, new_rows = select(len(self.buffer), len(new_data))
        self.buffer = keep_rows(self.buffer, old_rows, new_data, new_rows)
        self.num_updates += 1

    def probability(self) -> float:
        """That a sample of the bucket seen last enters the memory by the draw."""
        if self.alpha_mode == 'Dynamic':
            return self.alpha_value
        return min(1.0, self.alpha_value * self.max_size / max(self.num_seen, 1))

    def _select(self, num_old: int, num_new: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the memory and of the new data to keep."""
        draws = torch.rand(num_new)
        space = self.max_size - num_old
        count = min(max(int((draws < self.probability()).sum()), min(space, num_new)), self.max_size)
        # Those with the smallest draws: the winners, or a random part or more than them where the size asks for it.
        taken = draws.argsort()[:count].sort().values
        survivors = torch.randperm(num_old)[:self.max_size - count].sort().values
        return survivors, taken

    def _select_legacy(self, num_old: int, num_new: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.arange(num_new)
        if num_new > self.max_size:
            rows = torch.randperm(num_new)[:self.max_size]
        if self.num_updates == 0:
            return torch.arange(0), rows
        divisor = self.num_updates + 1 if self.alpha_mode == 'Fixed' else 1
        taken = rows[torch.rand(len(rows)) <= self.alpha_value / divisor]
        is_fitting = len(taken) <= self.max_size - num_old
        return torch.arange(num_old if is_fitting else max(0, num_old - len(taken))), taken

    def resize(self, strategy: object, new_size: int) -> None:
        """Change the size; a smaller memory keeps a random part."""
        self.max_size = new_size
        if len(self.buffer) > new_size:
            kept = torch.randperm(len(self.buffer))[:new_size].sort().values
            self.buffer = keep_rows(self.buffer, kept, self.buffer, kept[:0])
