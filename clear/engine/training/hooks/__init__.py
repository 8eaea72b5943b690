"""Hooks of the ordinary Runner; those that evaluate are in `clear.evaluation`."""

from clear.engine.training.hooks.checkpoint import CheckpointHook
from clear.engine.training.hooks.continuing import ImportanceHook, WeightInterpolationHook
from clear.engine.training.hooks.nan_guard import NaNGuardHook
from clear.engine.training.hooks.param_scheduler import ParamSchedulerHook
from clear.engine.training.hooks.progress import ProgressHook
from clear.engine.training.hooks.results import ResultsHook
from clear.engine.training.hooks.runtime_info import RuntimeInfoHook
from clear.engine.training.hooks.swav_queue import SwAVHook

__all__ = ['CheckpointHook', 'ImportanceHook', 'NaNGuardHook', 'ParamSchedulerHook', 'ProgressHook', 'ResultsHook',
           'RuntimeInfoHook', 'SwAVHook', 'WeightInterpolationHook']
