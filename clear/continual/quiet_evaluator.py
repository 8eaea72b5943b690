"""Avalanche's evaluator without the calls that nobody listens to."""

from __future__ import annotations

from avalanche.core import SupervisedPlugin
from avalanche.evaluation.metric_definitions import PluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin

HOOKS = ('before_', 'after_')


class QuietEvaluator(EvaluationPlugin):
    """An `EvaluationPlugin` that has only the hooks that a metric or a logger of its own overrides.

    Avalanche's calls every hook of every metric and logger about eight times per iteration, and copies the experience
    each time. The values and their order are the same.
    """

    is_saved_elsewhere = True

    def __init__(self, *args: object, **kwargs: object):
        super().__init__(*args, **kwargs)
        listeners = [*self.metrics, *self.loggers]
        self._hooks = frozenset(name for listener in listeners for name in dir(type(listener))
                                if name.startswith(HOOKS) and _overrides(listener, name))

    def __getattribute__(self, name: str) -> object:
        # Avalanche asks `hasattr` before it calls a hook.
        if name.startswith(HOOKS) and name not in object.__getattribute__(self, '__dict__').get('_hooks', ()):
            raise AttributeError(name)
        return super().__getattribute__(name)


def _overrides(listener: object, name: str) -> bool:
    own = getattr(type(listener), name)
    return all(own is not getattr(base, name, None) for base in (PluginMetric, BaseLogger, SupervisedPlugin))
