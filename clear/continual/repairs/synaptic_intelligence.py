"""Avalanche 0.6's Synaptic Intelligence, repaired. `legacy=True` keeps what it did."""

from __future__ import annotations

from avalanche.training.plugins.synaptic_intelligence import SynapticIntelligencePlugin
from avalanche.training.supervised import SynapticIntelligence as AvalancheSynapticIntelligence

from clear.registry import PLUGINS, STRATEGIES


@PLUGINS.register_module(name='SynapticIntelligencePlugin')
class RepairedSynapticIntelligencePlugin(SynapticIntelligencePlugin):
    """Synaptic Intelligence (Zenke et al. 2017, arXiv:1703.04200) that also works on a CPU.

    Avalanche 0.6 keeps old and new weights as views of the live parameters when these are on the CPU: the path
    integral is then always 0 and training equals Naive. Here they are copies. Importances are also clamped at 0
    from below: a negative one would reward moving away from the old weights.
    """

    def before_training_exp(self, strategy, **kwargs):
        super().before_training_exp(strategy, **kwargs)
        _own_memory(self.ewc_data[0])

    def before_training_iteration(self, strategy, **kwargs):
        super().before_training_iteration(strategy, **kwargs)
        _own_memory(self.syn_data['old_theta'])

    def after_training_exp(self, strategy, **kwargs):
        super().after_training_exp(strategy, **kwargs)
        for importance in self.ewc_data[1].values():
            importance.data = importance.data.clamp(min=0)


def _own_memory(params: dict) -> None:
    for param in params.values():
        param.data = param.data.clone()


@STRATEGIES.register_module()
class SynapticIntelligence(AvalancheSynapticIntelligence):
    """Avalanche's strategy with the repaired plugin.

    Args:
        legacy: keep Avalanche's plugin as it is.
    """

    def __init__(self, *, legacy: bool = False, **kwargs):
        super().__init__(**kwargs)
        if not legacy:
            self.plugins = [_repaired(plugin) if type(plugin) is SynapticIntelligencePlugin else plugin
                            for plugin in self.plugins]


def _repaired(plugin: SynapticIntelligencePlugin) -> RepairedSynapticIntelligencePlugin:
    return RepairedSynapticIntelligencePlugin(si_lambda=plugin.si_lambda, eps=plugin.eps,
                                              excluded_parameters=plugin.excluded_parameters, device=plugin._device)
