"""Averaged gradient episodic memory whose memory is a reservoir over the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from avalanche.benchmarks.utils.data_loader import GroupBalancedInfiniteDataLoader
from avalanche.training.plugins import AGEMPlugin as AvalancheAGEMPlugin
from avalanche.training.supervised import AGEM as AvalancheAGEM

from clear.continual.buffers import ReservoirSamplingBuffer
from clear.continual.repairs.regularisation.regularisers import replace_plugin
from clear.core.errors import ConfigError
from clear.registry import PLUGINS, STRATEGIES

if TYPE_CHECKING:
    from clear.core.types import Options

# Avalanche's.
DEFAULT_SAMPLE_SIZE = 64


@PLUGINS.register_module()
class AGEMPlugin(AvalancheAGEMPlugin):
    """The projection of A-GEM (Chaudhry et al. 2019, arXiv:1812.00420, equation 11) against a batch of the memory.

    In Avalanche 0.6 the memory is a random part of each experience, and a batch takes `sample_size` / experiences of
    each: none, and the run ends with an error, where there are more experiences than that. Here it takes at least one.

    Args:
        patterns_per_experience: samples remembered of each experience; with a reservoir, the size of the whole memory.
        sample_size: of them in the batch of a reference gradient.
        reservoir: remember a uniform sample of the whole stream, in place of a part of each experience.
        legacy: with `reservoir`, the form of the earlier demo: the data of experience 0 are the memory of experience 1;
            the reservoir begins empty there and replaces them, so the first bucket is forgotten. Its size is
            `sample_size`.
    """

    def __init__(self, patterns_per_experience: int, sample_size: int, reservoir: bool = False, legacy: bool = False):
        super().__init__(patterns_per_experience, sample_size)
        self.legacy = legacy
        self.memory = None
        if reservoir:
            self.memory = ReservoirSamplingBuffer(sample_size if legacy else patterns_per_experience)

    @torch.no_grad()
    def update_memory(self, dataset, num_workers=0, **kwargs):
        if self.memory is None or self.legacy and not self.buffers:
            super().update_memory(dataset, num_workers=num_workers)
            size = max(self.sample_size // len(self.buffers), 1)
        else:
            self.memory.update_from_dataset(dataset)
            self.buffers = [self.memory.buffer]
            size = self.sample_size
        self.buffer_dataloader = GroupBalancedInfiniteDataLoader(self.buffers, batch_size=size, num_workers=num_workers,
                                                                 pin_memory=False)
        self.buffer_dliter = iter(self.buffer_dataloader)


@STRATEGIES.register_module()
class AGEM(AvalancheAGEM):
    """Project the gradient where it would raise the loss on a memory (Chaudhry et al. 2019, arXiv:1812.00420).

    Args:
        patterns_per_exp, sample_size, reservoir, legacy: see `AGEMPlugin`.

    Raises:
        ConfigError: for `legacy` without `reservoir`, which would change nothing.
    """

    division = 'shard'
    unmixed_batches = 'every'

    @classmethod
    def check_stream(cls, options: Options, num_buckets: int) -> None:
        sample_size = options.get('sample_size', DEFAULT_SAMPLE_SIZE)
        if sample_size < num_buckets and not options.get('reservoir'):
            raise ConfigError('AGEM draws its reference batch from every bucket: cl_strategy.sample_size is '
                              f'{sample_size}, but there are {num_buckets} buckets. Use at least {num_buckets}.')

    def __init__(self, *, patterns_per_exp: int, sample_size: int = DEFAULT_SAMPLE_SIZE, reservoir: bool = False,
                 legacy: bool = False, **kwargs):
        if legacy and not reservoir:
            raise ConfigError('legacy is about the reservoir; set reservoir=True, or leave legacy out.')
        super().__init__(patterns_per_exp=patterns_per_exp, sample_size=sample_size, **kwargs)
        plugin = AGEMPlugin(patterns_per_exp, sample_size, reservoir, legacy)
        replace_plugin(self, AvalancheAGEMPlugin, lambda _: plugin)
