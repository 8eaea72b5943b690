"""The fourth stage of a residual network, found in an encoder of any make."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.core.modes import evaluation_mode
from clear.evaluation.dense.inputs.maps import GivesMaps
from clear.evaluation.heads.deeplab import can_dilate

_TOLERANCE = 1e-4


def fourth_stage(encoder: GivesMaps) -> nn.Module | None:
    """The module that makes the fifth map of the fourth, if it is a chain of residual blocks that can be dilated.

    It is known by what it does: an encoder of any library is asked for the maps of one image of noise, and the module
    is the one that gives the last of them for the one before.

    Returns:
        The encoder's own module, not a copy; None for a network without such a stage, as a transformer or a network of
        inverted bottlenecks whose last map comes of several stages.
    """
    crop = encoder.preprocess.crop
    value = next(encoder.parameters(), torch.zeros(1))
    images = torch.randn(1, 3, crop, crop, generator=torch.Generator().manual_seed(0)).to(value.device)
    with evaluation_mode(encoder):
        *_, before, last = encoder.feature_maps(images)
        stages = (module for module in encoder.modules() if can_dilate(module))
        return next((stage for stage in stages if _makes(stage, before, last)), None)


def _makes(stage: nn.Module, before: Tensor, last: Tensor) -> bool:
    first = next(layer for layer in stage.modules() if isinstance(layer, nn.Conv2d))
    if first.in_channels != before.shape[1]:
        return False
    try:
        made = stage(before)
    except (RuntimeError, TypeError):  # it takes something else than one map
        return False
    return made.shape == last.shape and torch.allclose(made.float(), last, rtol=_TOLERANCE, atol=_TOLERANCE)
