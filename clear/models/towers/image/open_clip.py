"""Encoders made from the image towers of open_clip."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from clear.core.errors import ConfigError, nearest
from clear.models.towers.image.base import ImageEncoder, building
from clear.models.towers.image.preprocess import Preprocess
from clear.registry import MODELS

# What OpenAI's CLIP, and every model of open_clip that says nothing else, was trained with.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@MODELS.register_module()
class OpenCLIPImageEncoder(ImageEncoder):
    """The image tower of an open_clip model with its projection, e.g. `OpenCLIPImageEncoder('ViT-B-32')`.

    The embedding is in the space shared with text and is not normalised.

    Args:
        arch: a name of `open_clip.list_models()`.
        weights: see `ImageEncoder`; a file of the whole model will do.
        preprocess: values that replace some of those that open_clip evaluates the model with. A model that squashes
            or pads images to a square (SigLIP) is read as resize and central crop, as with `TimmEncoder`.
        quick_gelu: the activation of OpenAI's own weights; None does as the model's config says.
    """

    def __init__(self, arch: str, weights: str | Path | Mapping | None = None,
                 preprocess: Mapping[str, Any] | Preprocess | None = None, quick_gelu: bool | None = None):
        config = _config(arch)
        quick_gelu = bool(config.get('quick_gelu', False)) if quick_gelu is None else quick_gelu
        model = _build_tower(arch, config, quick_gelu)
        super().__init__(model, preprocess=_published_preprocess(config).changed(preprocess), weights=weights,
                         classifier=None, identity=dict(arch=arch, quick_gelu=quick_gelu))


def _config(arch: str) -> dict:
    import open_clip

    config = open_clip.get_model_config(arch)
    if config is None:
        near = nearest(arch, open_clip.list_models()) or 'none; see open_clip.list_models()'
        raise ConfigError(f"open_clip has no model '{arch}'. Nearest: {near}.")
    return copy.deepcopy(config)


def _build_tower(arch: str, config: Mapping[str, Any], quick_gelu: bool) -> nn.Module:
    # The tower alone: the whole model would also build a text tower, some of which ask the network for a config.
    from open_clip.model import _build_vision_tower

    vision = {**config['vision_cfg'], 'timm_model_pretrained': False, 'output_tokens': False}
    with building(f"open_clip's '{arch}'"):
        return _build_vision_tower(config['embed_dim'], vision, quick_gelu)


def _published_preprocess(config: Mapping[str, Any]) -> Preprocess:
    size = config['vision_cfg'].get('image_size', 224)
    size = size if isinstance(size, int) else size[0]
    said = config.get('preprocess_cfg', {})
    return Preprocess(resize=size, crop=size, interpolation=said.get('interpolation', 'bicubic'),
                      mean=tuple(said.get('mean', CLIP_MEAN)), std=tuple(said.get('std', CLIP_STD)))
