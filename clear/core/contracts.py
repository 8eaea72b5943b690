"""What the engine asks of other parts, as Protocols. They stand here because some of those parts lie below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@runtime_checkable
class PreparesModel(Protocol):
    """A strategy's plugin that needs the model to show more than logits, e.g. its features."""

    def prepare_model(self, model: nn.Module) -> Any:
        """Change the strategy's model where it stands; raises ConfigError where that is not possible."""


@runtime_checkable
class Stateful(Protocol):
    """An object that says itself what of it belongs into a checkpoint: a memory, a plugin, or what these hold.

    It is built anew from the config before a resume, and then given what it had returned. Modules of torch have
    methods of these names too and are saved with their modes and flags besides.
    """

    def state_dict(self) -> Mapping[str, Any]:
        """Tensors, arrays, numbers, text, None, Avalanche data sets, and lists, tuples, sets and dicts of these."""

    def load_state_dict(self, state: Mapping[str, Any]) -> Any:
        """Take over what `state_dict` returned; its tensors are on the CPU."""
