"""GDumb with any memory, from fresh or from the present weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche.training.plugins import GDumbPlugin as AvalancheGDumbPlugin
from avalanche.training.supervised import GDumb as AvalancheGDumb

from clear.continual.buffers import check_buffer_size
from clear.continual.repairs.regularisation.regularisers import replace_plugin
from clear.continual.repairs.rehearsal.replay import GDumbPlugin
from clear.continual.strategies.replay import DEFAULT_SIZE, memory_size
from clear.core.errors import ConfigError
from clear.registry import STRATEGIES

if TYPE_CHECKING:
    from avalanche.training.storage_policy import ExemplarsBuffer

    from clear.core.types import Options


class KeepWeightsPlugin(GDumbPlugin):
    """Trains on the memory alone, as GDumb does, but goes on from the weights that are there."""

    def before_train_dataset_adaptation(self, strategy, **kwargs):
        strategy.model_adaptation()


@STRATEGIES.register_module()
class GDumb(AvalancheGDumb):
    """Train on nothing but a memory, which is filled before each training (Prabhu et al. 2020).

    Args:
        mem_size: samples in memory; left out where `buffer` says it, else 200.
        buffer: any buffer, as `dict(type='BiasedReservoirSamplingBuffer', max_size=3300)` in a config; by default equal
            shares per class, which is GDumb.
        reset: begin each experience from the first weights, which is GDumb; False goes on from the present ones.
        legacy: Avalanche's shares in the default memory: places that a small class cannot fill stay empty.

    Raises:
        ConfigError: if `mem_size` is not the size of `buffer`, or a class-balanced memory has fewer places than there
            are classes; for `legacy` beside `buffer`, which has a key of its own.
    """

    division = 'shard'
    is_cumulative = True

    @classmethod
    def samples_at_most(cls, options: Options) -> int:
        return (options.get('buffer') or {}).get('max_size') or options.get('mem_size') or DEFAULT_SIZE

    def __init__(self, *, mem_size: int | None = None, buffer: ExemplarsBuffer | None = None, reset: bool = True,
                 legacy: bool = False, **kwargs):
        if legacy and buffer is not None:
            raise ConfigError('legacy is about the default memory; set it in buffer, or leave it out.')
        size = memory_size(mem_size, buffer, 'buffer')
        super().__init__(mem_size=size, **kwargs)
        plugin = (GDumbPlugin if reset else KeepWeightsPlugin)(size, legacy=legacy)
        replace_plugin(self, AvalancheGDumbPlugin, lambda _: plugin)
        if buffer is not None:
            plugin.storage_policy = buffer
        check_buffer_size(plugin.storage_policy, getattr(self.model, 'num_classes', None), 'buffer')
