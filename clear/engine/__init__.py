"""Runners, loops and hooks. Names are imported when they are asked for: a continual run needs nothing of the others."""

import importlib
from collections.abc import Callable

_HOME = {
    'clear.engine.continual.runner': ('ContinualRunner',),
    'clear.engine.training.hooks': (
        'CheckpointHook', 'NaNGuardHook', 'ParamSchedulerHook', 'ProgressHook', 'ResultsHook', 'RuntimeInfoHook'),
    'clear.engine.training.loops': ('EpochBasedTrainLoop', 'IterBasedTrainLoop'),
    'clear.engine.training.lars': ('PublishedLARS',),
    'clear.engine.training.optimisation': ('AmpOptimWrapper', 'QuarterCosineLR'),
    'clear.engine.probing.runner': ('ProbeRunner',),
    'clear.engine.training.runner': ('Runner',),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> type | Callable:
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
