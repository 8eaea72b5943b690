"""Averaged gradient episodic memory whose memory is a reservoir over the stream."""

from __future__ import annotations

import torch
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.plugins import AGEMPlugin as AvalancheAGEMPlugin
from avalanche.training.supervised import AGEM as AvalancheAGEM

from clear.continual.buffers import ReservoirSamplingBuffer
from clear.core.errors import ConfigError
from clear.registry import STRATEGIES


class AGEMPlugin(AvalancheAGEMPlugin):
    """A-GEM that remembers a uniform sample of the whole stream, in place of a part of each experience.

    Args:
        mem_size: samples in memory over all experiences.
        sample_size: of them in the batch of a reference gradient.
        legacy: the form of the earlier demo: the data of experience 0 are the memory of experience 1; the reservoir
            begins empty there and replaces them, so the first bucket is forgotten. Its size is `sample_size`.
    """

    def __init__(self, mem_size: int, sample_size: int, legacy: bool = False):
        super().__init__(mem_size, sample_size)
        self.legacy = legacy
        self.memory = ReservoirSamplingBuffer(sample_size if legacy else mem_size)

    @torch.no_grad()
    def update_memory(self, dataset, num_workers=0, **kwargs):
        if self.legacy and not self.buffers:
            super().update_memory(dataset, num_workers=num_workers)
            return
        self.memory.update_from_dataset(dataset)
        self.buffers = [self.memory.buffer]
        self.buffer_dataloader = GroupBalancedInfiniteDataLoader(self.buffers, batch_size=self.sample_size,
                                                                 num_workers=num_workers, pin_memory=False)
        self.buffer_dliter = iter(self.buffer_dataloader)


@STRATEGIES.register_module()
class AGEM(AvalancheAGEM):
    """Project the gradient where it would raise the loss on a memory (Chaudhry et al. 2019, arXiv:1812.00420).

    Args:
        patterns_per_exp: samples remembered of each experience; with a reservoir, the size of the whole memory.
        sample_size: memory samples in the batch of a reference gradient.
        reservoir: remember a uniform sample of the stream in a memory of fixed size.
        legacy: with `reservoir`, forget the first experience as the earlier demo did (see `AGEMPlugin`).

    Raises:
        ConfigError: for `legacy` without `reservoir`, which would change nothing.
    """

    def __init__(self, *, patterns_per_exp: int, sample_size: int = 64, reservoir: bool = False, legacy: bool = False,
                 **kwargs):
        if legacy and not reservoir:
            raise ConfigError('legacy is about the reservoir; set reservoir=True, or leave legacy out.')
        super().__init__(patterns_per_exp=patterns_per_exp, sample_size=sample_size, **kwargs)
        if reservoir:
            position = next(index for index, plugin in enumerate(self.plugins)
                            if isinstance(plugin, AvalancheAGEMPlugin))
            self.plugins[position] = AGEMPlugin(patterns_per_exp, sample_size, legacy)
