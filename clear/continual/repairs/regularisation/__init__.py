"""Avalanche's methods that hold on to weights, outputs or gradients, mended."""

from clear.continual.repairs.regularisation.lwf import LwF, LwFPlugin
from clear.continual.repairs.regularisation.memory_aware_synapses import MAS, MASPlugin
from clear.continual.repairs.regularisation.regularisers import (
    GEM,
    LFL,
    FeatureDistillationPlugin,
    LFLPlugin,
    RWalkPlugin,
)
from clear.continual.repairs.regularisation.synaptic_intelligence import (
    RepairedSynapticIntelligencePlugin,
    SynapticIntelligence,
)

__all__ = ['FeatureDistillationPlugin', 'GEM', 'LFL', 'LFLPlugin', 'LwF', 'LwFPlugin', 'MAS', 'MASPlugin',
           'RWalkPlugin', 'RepairedSynapticIntelligencePlugin', 'SynapticIntelligence']
