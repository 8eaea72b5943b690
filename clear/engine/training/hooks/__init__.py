"""Hooks of the ordinary Runner."""

from clear.engine.training.hooks.checkpoint import CheckpointHook
from clear.engine.training.hooks.nan_guard import NaNGuardHook
from clear.engine.training.hooks.online_evaluation import OnlineKNNHook, OnlineLinearHook
from clear.engine.training.hooks.param_scheduler import ParamSchedulerHook
from clear.engine.training.hooks.progress import ProgressHook
from clear.engine.training.hooks.results import ResultsHook
from clear.engine.training.hooks.runtime_info import RuntimeInfoHook
from clear.engine.training.hooks.task_evaluation import TaskHook

__all__ = ['CheckpointHook', 'NaNGuardHook', 'OnlineKNNHook', 'OnlineLinearHook', 'ParamSchedulerHook',
           'ProgressHook', 'ResultsHook', 'RuntimeInfoHook', 'TaskHook']
