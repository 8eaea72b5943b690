"""Avalanche's plugins that classify by means and covariances of a memory, with those of the present encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avalanche.training.plugins import FeCAMOracle as AvalancheFeCAMOracle
from avalanche.training.plugins import MemoryFeCAMUpdate as AvalancheMemoryFeCAMUpdate
from avalanche.training.plugins import MemoryNCMUpdate as AvalancheMemoryNCMUpdate

from clear.continual.buffers import ClassBalancedBuffer
from clear.registry import PLUGINS

if TYPE_CHECKING:
    from avalanche.training.storage_policy import ExemplarsBuffer


@PLUGINS.register_module()
class MemoryNCMUpdate(AvalancheMemoryNCMUpdate):
    """Means of the classes in a memory, anew after every experience, classify in evaluation (Rebuffi et al. 2017,
    arXiv:1611.07725, Algorithm 1).

    Args:
        mem_size: samples in memory, in equal shares per class; 2000 by default.
        storage_policy: any memory.
        legacy: Avalanche's shares in the default memory.
    """

    eval_classifier = 'ncm'

    def __init__(self, mem_size: int = 2000, storage_policy: ExemplarsBuffer | None = None, *, legacy: bool = False):
        super().__init__(mem_size, storage_policy or ClassBalancedBuffer(mem_size, legacy=legacy))


class FreshFeCAM:
    """Comes before a FeCAM plugin of Avalanche's, which averages the means and covariances by the present encoder 1:1
    with those by earlier ones. Here those of the present one stand (Goswami et al. 2023, arXiv:2309.14062).
    """

    eval_classifier = 'fecam'
    method_version = 2
    method_remedy = 'legacy=True of the plugin brings the averages back'
    legacy = False

    def after_training_exp(self, strategy, **kwargs):
        if not self.legacy:
            classifier = strategy.model.eval_classifier
            classifier.class_means_dict, classifier.class_cov_dict = {}, {}
        super().after_training_exp(strategy, **kwargs)


@PLUGINS.register_module()
class MemoryFeCAMUpdate(FreshFeCAM, AvalancheMemoryFeCAMUpdate):
    """FeCAM on a memory (see `FreshFeCAM`).

    Args:
        mem_size: samples in memory, in equal shares per class; 2000 by default.
        storage_policy: any memory.
        legacy: Avalanche's averages, and its shares in the default memory.
    """

    def __init__(self, mem_size: int = 2000, storage_policy: ExemplarsBuffer | None = None, *, legacy: bool = False):
        super().__init__(mem_size, storage_policy or ClassBalancedBuffer(mem_size, legacy=legacy))
        self.legacy = legacy
        if legacy:
            self.method_version = 1


@PLUGINS.register_module()
class FeCAMOracle(FreshFeCAM, AvalancheFeCAMOracle):
    """FeCAM on all samples so far, an upper bound (see `FreshFeCAM`).

    Args:
        legacy: Avalanche's averages.
    """

    def __init__(self, *, legacy: bool = False):
        super().__init__()
        self.legacy = legacy
        if legacy:
            self.method_version = 1
