"""Strategies and plugins of Avalanche 0.6, repaired and made to fit our models. Importing them registers them."""

from clear.continual.repairs.architectures import AR1, CWRStar, CWRStarPlugin, PackNet, PNNStrategy
from clear.continual.repairs.class_incremental import IL2M, BiC, BiCPlugin, ICaRL, IL2MPlugin
from clear.continual.repairs.class_means import FeCAMOracle, MemoryFeCAMUpdate, MemoryNCMUpdate
from clear.continual.repairs.early_stopping import EarlyStoppingPlugin
from clear.continual.repairs.embeddings import SCR, CoPE, CoPEPlugin, LearningToPrompt
from clear.continual.repairs.feature_replay import FeatureReplay
from clear.continual.repairs.generators import (
    AETraining,
    ExpertGatePlugin,
    ExpertGateStrategy,
    GenerativeReplay,
    GenerativeReplayPlugin,
    VAETraining,
)
from clear.continual.repairs.lwf import LwF, LwFPlugin
from clear.continual.repairs.memory_aware_synapses import MAS, MASPlugin
from clear.continual.repairs.meta_learning import MER, LaMAML, LaMAMLHigher, OnlineNaive
from clear.continual.repairs.quiet import quiet_avalanche
from clear.continual.repairs.regularisers import (
    GEM,
    LFL,
    FeatureDistillationPlugin,
    LFLPlugin,
    RWalkPlugin,
)
from clear.continual.repairs.replay import (
    MIR,
    GDumbPlugin,
    GSS_greedy,
    GSS_greedyPlugin,
    MIRPlugin,
    RARPlugin,
    ReplayPlugin,
)
from clear.continual.repairs.replay_losses import DER, ER_ACE, ER_AML
from clear.continual.repairs.synaptic_intelligence import RepairedSynapticIntelligencePlugin, SynapticIntelligence

__all__ = ['AETraining', 'AR1', 'BiC', 'BiCPlugin', 'CWRStar', 'CWRStarPlugin', 'CoPE', 'CoPEPlugin', 'DER', 'ER_ACE',
           'ER_AML', 'EarlyStoppingPlugin', 'ExpertGatePlugin', 'ExpertGateStrategy', 'FeCAMOracle',
           'FeatureDistillationPlugin', 'FeatureReplay', 'GDumbPlugin', 'GEM', 'GSS_greedy', 'GSS_greedyPlugin',
           'GenerativeReplay', 'GenerativeReplayPlugin', 'ICaRL', 'IL2M', 'IL2MPlugin', 'LFL', 'LFLPlugin', 'LaMAML',
           'LaMAMLHigher', 'LearningToPrompt', 'LwF', 'LwFPlugin', 'MAS', 'MASPlugin', 'MER', 'MIR', 'MIRPlugin',
           'MemoryFeCAMUpdate', 'MemoryNCMUpdate', 'OnlineNaive', 'PNNStrategy', 'PackNet', 'RARPlugin', 'RWalkPlugin',
           'RepairedSynapticIntelligencePlugin', 'ReplayPlugin', 'SCR', 'SynapticIntelligence', 'VAETraining',
           'quiet_avalanche']
