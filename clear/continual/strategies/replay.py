"""Experience replay with any memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche.training.plugins import ReplayPlugin as AvalancheReplayPlugin
from avalanche.training.supervised import Replay as AvalancheReplay

from clear.continual.buffers import check_buffer_size
from clear.continual.repairs.regularisation.regularisers import replace_plugin
from clear.continual.repairs.rehearsal.replay import ReplayPlugin
from clear.core.errors import ConfigError
from clear.registry import STRATEGIES

if TYPE_CHECKING:
    from avalanche.training.storage_policy import ExemplarsBuffer

# Avalanche's default of `mem_size` for Replay and GDumb.
DEFAULT_SIZE = 200


def memory_size(mem_size: int | None, buffer: ExemplarsBuffer | None, name: str) -> int:
    """The size of the memory, given directly, by the buffer, or by both alike.

    Raises:
        ConfigError: if the two differ.
    """
    if buffer is None:
        return DEFAULT_SIZE if mem_size is None else mem_size
    if mem_size not in (None, buffer.max_size):
        raise ConfigError(f'mem_size is {mem_size}, but {name} ({type(buffer).__name__}) has max_size='
                          f'{buffer.max_size}. Leave mem_size out, or make them equal.')
    return buffer.max_size


@STRATEGIES.register_module()
class Replay(AvalancheReplay):
    """Train on the current bucket and on a memory of earlier ones, in equal parts (Chaudhry et al. 2019,
    arXiv:1902.10486).

    Args:
        mem_size: samples in memory; left out where `storage_policy` says it, else 200.
        storage_policy: any buffer, as `dict(type='BiasedReservoirSamplingBuffer', max_size=3300)` in a config; by
            default equal shares per experience.
        batch_size_mem: memory samples in a batch; as many as new ones by default.
        task_balanced_dataloader: take equally many memory samples of each bucket.
        legacy: Avalanche's shares in the default memory: places that a small bucket cannot fill stay empty.

    Raises:
        ConfigError: if `mem_size` is not the size of `storage_policy`, or a class-balanced memory has fewer places
            than there are classes; for `legacy` beside `storage_policy`, which has a key of its own.
    """

    division = 'shard'
    lane_objective = 'cross-entropy'
    unmixed_batches = 'first'

    def __init__(self, *, mem_size: int | None = None, storage_policy: ExemplarsBuffer | None = None,
                 batch_size_mem: int | None = None, task_balanced_dataloader: bool = False, legacy: bool = False,
                 **kwargs):
        size = memory_size(mem_size, storage_policy, 'storage_policy')
        super().__init__(mem_size=size, **kwargs)
        plugin = ReplayPlugin(size, batch_size_mem=batch_size_mem, task_balanced_dataloader=task_balanced_dataloader,
                              storage_policy=storage_policy, legacy=legacy)
        replace_plugin(self, AvalancheReplayPlugin, lambda _: plugin)
        check_buffer_size(plugin.storage_policy, getattr(self.model, 'num_classes', None), 'storage_policy')
