"""Avalanche's methods that train on a memory, and those that read class means from one, mended."""

from clear.continual.repairs.rehearsal.class_incremental import IL2M, BiC, BiCPlugin, ICaRL, IL2MPlugin
from clear.continual.repairs.rehearsal.class_means import FeCAMOracle, MemoryFeCAMUpdate, MemoryNCMUpdate
from clear.continual.repairs.rehearsal.feature_replay import FeatureReplay
from clear.continual.repairs.rehearsal.replay import (
    MIR,
    GDumbPlugin,
    GSS_greedy,
    GSS_greedyPlugin,
    MIRPlugin,
    RARPlugin,
    ReplayPlugin,
)
from clear.continual.repairs.rehearsal.replay_losses import DER, ER_ACE, ER_AML

__all__ = ['BiC', 'BiCPlugin', 'DER', 'ER_ACE', 'ER_AML', 'FeCAMOracle', 'FeatureReplay', 'GDumbPlugin', 'GSS_greedy',
           'GSS_greedyPlugin', 'ICaRL', 'IL2M', 'IL2MPlugin', 'MIR', 'MIRPlugin', 'MemoryFeCAMUpdate',
           'MemoryNCMUpdate', 'RARPlugin', 'ReplayPlugin']
