"""The head of one side: what a tower's embedding passes before it is compared with the other side's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from clear.core.configs.signatures import accepted_arguments
from clear.core.errors import ConfigError
from clear.models.necks import DINOHead
from clear.models.selfsup.parts.encoder import build_part
from clear.registry import MODELS


def build_head(side: str, head: Mapping | nn.Module | None, in_channels: int, joint_dim: int | None,
               needs_prototypes: bool = False) -> nn.Module | None:
    """The head of a config; a module is taken as it is.

    Args:
        side: 'image' or 'text', for messages.
        in_channels: width of the tower, where the config leaves it open.
        joint_dim: width that the head ends in, where the config leaves it open; None if nothing says it.
        needs_prototypes: a `DINOHead` must end in directions.

    Raises:
        ConfigError: if it is no head, or its width is open.
    """
    if head is None:
        return None
    if isinstance(head, nn.Module):
        if not isinstance(getattr(head, 'out_channels', None), int):
            raise ConfigError(f'{side}_head is a {type(head).__name__} without the attribute out_channels, the '
                              'width of what it gives.')
        return head
    if not isinstance(head, Mapping):
        raise ConfigError(f"{side}_head is {head!r}; expected a head such as dict(type='ProjectionMLP').")
    options = dict(head)
    kind = MODELS.require(options['type']) if isinstance(options.get('type'), str) else options.get('type')
    accepted = accepted_arguments(kind) if isinstance(kind, type) else set()
    if 'in_channels' in accepted:
        options.setdefault('in_channels', in_channels)
    # DINOHead ends on a sphere of that width, or in directions on it.
    width = 'bottleneck_channels' if 'bottleneck_channels' in accepted else 'out_channels'
    if joint_dim is not None:
        options.setdefault(width, joint_dim)
    if width == 'bottleneck_channels' and not needs_prototypes:
        options.setdefault('out_channels', None)
    if width in accepted and width not in options and kind is not DINOHead:
        raise ConfigError(f'{side}_head.{width} is open, and no tower without a head says it: set joint_dim.')
    return build_part(f'{side}_head', options)
