"""Runners, loops and hooks. Names are imported when they are asked for: a continual run needs nothing of the others."""

import importlib
from typing import Any

_HOME = {
    'clear.engine.continual_runner': ('ContinualRunner',),
    'clear.engine.hooks': ('CheckpointHook', 'NaNGuardHook', 'OnlineKNNHook', 'OnlineLinearHook', 'ParamSchedulerHook',
                           'ProgressHook', 'ResultsHook', 'RuntimeInfoHook'),
    'clear.engine.loops': ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
    'clear.engine.lars': ('PublishedLARS',),
    'clear.engine.optim': ('AmpOptimWrapper', 'QuarterCosineLR'),
    'clear.engine.probe_runner': ('ProbeRunner',),
    'clear.engine.runner': ('Runner',),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
