"""The image side of an encoder in parts: its tower, its head, its last projection, how it is shown an image."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.alignment.pair import TowerPair


def image_tower(encoder: nn.Module) -> nn.Module:
    """The image tower of a pair; an encoder of images alone is its own."""
    return encoder.model.tower('image') if isinstance(encoder, TowerPair) else encoder


def image_head(encoder: nn.Module) -> nn.Module | None:
    """The head behind the image tower of a pair."""
    return encoder.model.head('image') if isinstance(encoder, TowerPair) else None


def pretrained_log_scale(encoder: nn.Module) -> float | None:
    """The logarithm of what an encoder's own training multiplied cosines by; None where it says nothing."""
    if not isinstance(encoder, TowerPair):
        return None
    learnt = getattr(encoder.model, 'logit_scale', None)  # of an alignment, as a logarithm
    if learnt is not None:
        return float(learnt)
    scale = getattr(encoder.model.tower('text'), 'logit_scale', None)
    return None if scale is None else math.log(scale)


def squashing(encoder: nn.Module) -> nn.Module:
    """The same encoder, shown each image whole in a square, whatever its shape."""
    other = copy.copy(encoder)
    other.preprocess = replace(encoder.preprocess, squash=True)
    return other


def without_projection(encoder: nn.Module) -> tuple[nn.Module, Tensor]:
    """A copy of an encoder whose image tower stops in front of its last projection, and that projection (D, E).

    Raises:
        ConfigError: if the image tower does not end in a projection `proj`, or a head follows it.
    """
    if image_head(encoder) is not None:
        raise ConfigError('merge_projection merges the projection at the end of the image tower into the classifier; '
                          'a head follows that tower.')
    projection = getattr(getattr(image_tower(encoder), 'model', None), 'proj', None)
    if not isinstance(projection, nn.Parameter) or projection.ndim != 2:
        raise ConfigError('merge_projection needs an image tower that ends in a projection, such as '
                          f'OpenCLIPImageEncoder of a ViT; got {type(image_tower(encoder)).__name__}.')
    other = copy.deepcopy(encoder)
    tower = image_tower(other)
    tower.model.proj = None
    tower.embed_dim = other.embed_dim = len(projection)
    return other, projection.detach().clone()
