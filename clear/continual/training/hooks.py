"""The callbacks of a training iteration, without those that nobody takes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avalanche.training.templates.base_sgd import BaseSGDTemplate


class Hooks:
    """The callbacks of a training iteration: of the plugins that override them, or of the strategy if it does.

    Args:
        strategy: its plugins stay the same for as long as this is used.
        kwargs: passed to every callback.
    """

    EVENTS = ('before_training_iteration', 'before_forward', 'after_forward', 'before_backward', 'after_backward',
              'before_update', 'after_update')

    def __init__(self, strategy: BaseSGDTemplate, kwargs: dict[str, object]):
        from avalanche.core import BaseSGDPlugin
        from avalanche.training.templates.base_sgd import BaseSGDTemplate

        self._kwargs = kwargs
        self._calls: dict[str, list[Callable[..., None]]] = {}
        for event in self.EVENTS:
            own = f'_{event}'
            if own in vars(strategy) or getattr(type(strategy), own) is not getattr(BaseSGDTemplate, own):
                self._calls[event] = [getattr(strategy, own)]
                continue
            methods = [getattr(plugin, event) for plugin in strategy.plugins if hasattr(plugin, event)]
            self._calls[event] = [functools.partial(method, strategy) for method in methods
                                  if getattr(method, '__func__', None) is not getattr(BaseSGDPlugin, event)]

    def listens(self, *events: str) -> bool:
        """True if anybody takes one of these callbacks."""
        return any(self._calls[event] for event in events)

    def call(self, event: str) -> None:
        for method in self._calls[event]:
            method(**self._kwargs)
