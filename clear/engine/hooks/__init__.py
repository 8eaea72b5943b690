"""Hooks of the ordinary Runner."""

from clear.engine.hooks.checkpoint import CheckpointHook
from clear.engine.hooks.nan_guard import NaNGuardHook
from clear.engine.hooks.online_evaluation import OnlineKNNHook, OnlineLinearHook
from clear.engine.hooks.param_scheduler import ParamSchedulerHook
from clear.engine.hooks.progress import ProgressHook
from clear.engine.hooks.results import ResultsHook
from clear.engine.hooks.runtime_info import RuntimeInfoHook

__all__ = ['CheckpointHook', 'NaNGuardHook', 'OnlineKNNHook', 'OnlineLinearHook', 'ParamSchedulerHook',
           'ProgressHook', 'ResultsHook', 'RuntimeInfoHook']
