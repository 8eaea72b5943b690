"""Strategies and plugins of Avalanche 0.6, repaired and made to fit our models. Importing them registers them.

Complete: all of Avalanche's that needed it are here. A new strategy goes to `strategies`, a memory to `buffers`.
"""

from clear.continual.repairs.architectural import (
    AR1,
    SCR,
    AETraining,
    CoPE,
    CoPEPlugin,
    CWRStar,
    CWRStarPlugin,
    ExpertGatePlugin,
    ExpertGateStrategy,
    GenerativeReplay,
    GenerativeReplayPlugin,
    LearningToPrompt,
    PackNet,
    PNNStrategy,
    VAETraining,
)
from clear.continual.repairs.early_stopping import EarlyStoppingPlugin
from clear.continual.repairs.meta_learning import MER, LaMAML, LaMAMLHigher, OnlineNaive
from clear.continual.repairs.quiet import quiet_avalanche
from clear.continual.repairs.regularisation import (
    GEM,
    LFL,
    MAS,
    FeatureDistillationPlugin,
    LFLPlugin,
    LwF,
    LwFPlugin,
    MASPlugin,
    RepairedSynapticIntelligencePlugin,
    RWalkPlugin,
    SynapticIntelligence,
)
from clear.continual.repairs.rehearsal import (
    DER,
    ER_ACE,
    ER_AML,
    IL2M,
    MIR,
    BiC,
    BiCPlugin,
    FeatureReplay,
    FeCAMOracle,
    GDumbPlugin,
    GSS_greedy,
    GSS_greedyPlugin,
    ICaRL,
    IL2MPlugin,
    MemoryFeCAMUpdate,
    MemoryNCMUpdate,
    MIRPlugin,
    RARPlugin,
    ReplayPlugin,
)

__all__ = ['AETraining', 'AR1', 'BiC', 'BiCPlugin', 'CWRStar', 'CWRStarPlugin', 'CoPE', 'CoPEPlugin', 'DER', 'ER_ACE',
           'ER_AML', 'EarlyStoppingPlugin', 'ExpertGatePlugin', 'ExpertGateStrategy', 'FeCAMOracle',
           'FeatureDistillationPlugin', 'FeatureReplay', 'GDumbPlugin', 'GEM', 'GSS_greedy', 'GSS_greedyPlugin',
           'GenerativeReplay', 'GenerativeReplayPlugin', 'ICaRL', 'IL2M', 'IL2MPlugin', 'LFL', 'LFLPlugin', 'LaMAML',
           'LaMAMLHigher', 'LearningToPrompt', 'LwF', 'LwFPlugin', 'MAS', 'MASPlugin', 'MER', 'MIR', 'MIRPlugin',
           'MemoryFeCAMUpdate', 'MemoryNCMUpdate', 'OnlineNaive', 'PNNStrategy', 'PackNet', 'RARPlugin', 'RWalkPlugin',
           'RepairedSynapticIntelligencePlugin', 'ReplayPlugin', 'SCR', 'SynapticIntelligence', 'VAETraining',
           'quiet_avalanche']
