"""A trained pair of towers under its library's own names: a state dict of open_clip, a folder of transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.towers.hugging_face import config_identity
from clear.models.towers.image.huggingface import RESAMPLE, HuggingFaceImageEncoder, ImageSide
from clear.models.towers.image.open_clip import OpenCLIPImageEncoder
from clear.models.towers.text.huggingface import HuggingFaceTextEncoder
from clear.models.towers.text.open_clip import OpenCLIPTextEncoder
from clear.models.towers.text.two_towers import TextSide

if TYPE_CHECKING:
    from transformers import BaseImageProcessor

_ADDED = ('lora_up', 'lora_down', 'prompt')


def open_clip_state(image: OpenCLIPImageEncoder, text: OpenCLIPTextEncoder, *, logit_scale: float | None = None,
                    logit_bias: float | None = None, custom_text: bool | None = None) -> dict[str, Tensor]:
    """The weights of two towers as open_clip's model of both names them.

    Args:
        logit_scale, logit_bias: factor and bias of the cosines; None takes those that came with the text tower.
        custom_text: for open_clip's `CustomTextCLIP`, whose text tower lies below `text.`; `CLIP` has it at the top.
            None is what open_clip builds for this model.

    Raises:
        ConfigError: if a tower is not open_clip's or has parts that its model has no place for, or no model has both.
    """
    _check(image, OpenCLIPImageEncoder, 'image')
    _check(text, OpenCLIPTextEncoder, 'text')
    _check_one_model(image, text)
    prefix = 'text.' if (text.custom_text if custom_text is None else custom_text) else ''
    state = {f'visual.{name}': value for name, value in image.model.state_dict().items()}
    state |= {f'{prefix}{name}': value for name, value in text.model.state_dict().items()}
    scale, bias = _logits(text, logit_scale, logit_bias)
    state['logit_scale'] = torch.tensor(scale)
    if bias is not None:
        state['logit_bias'] = torch.tensor(bias)
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def save_hugging_face(image: HuggingFaceImageEncoder, text: HuggingFaceTextEncoder, folder: str | Path, *,
                      logit_scale: float | None = None, logit_bias: float | None = None) -> None:
    """Write two towers that came from a two-tower model of transformers as one folder that transformers reads.

    With weights, config and tokenizer goes the image processor that does as `image.preprocess` says.

    Args:
        logit_scale, logit_bias: as in `open_clip_state`.

    Raises:
        ConfigError: if the towers are not the two sides of one model, or have parts, or a `preprocess`, that it has no
            place for.
    """
    _check(image, HuggingFaceImageEncoder, 'image')
    _check(text, HuggingFaceTextEncoder, 'text')
    if not (isinstance(image.model, ImageSide) and isinstance(text.model, TextSide)):
        raise ConfigError('save_hugging_face: towers of CLIP, SigLIP, AltCLIP or Chinese-CLIP make a model together; '
                          'save others one by one.')
    if text.adapter is not None:
        raise ConfigError(f"save_hugging_face: the text tower has adapter='{text.adapter}'. Write it with "
                          'save_merged() first, where it can be merged.')
    if config_identity(image.model.config) != config_identity(text.model.config):
        raise ConfigError('save_hugging_face: the towers come from models with different configs.')
    processor = _processor(image)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(folder)
    text.model.config.save_pretrained(folder)
    text.tokenizer.save_pretrained(folder)
    state = {**image.model.state_dict(), **text.model.state_dict()}
    scale, bias = _logits(text, logit_scale, logit_bias)
    state['logit_scale'] = torch.full(text.model.scale_shape, scale)
    if bias is not None and text.model.bias is not None:
        state['logit_bias'] = torch.full(text.model.scale_shape, bias)
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()},
              folder / 'model.safetensors', metadata={'format': 'pt'})


def _check(tower: nn.Module, kind: type, side: str) -> None:
    if not isinstance(tower, kind):
        raise ConfigError(f'the {side} tower is {type(tower).__name__}, expected {kind.__name__}.')
    extra = [name for name, _ in tower.model.named_parameters() if name.rpartition('.')[2] in _ADDED]
    if extra:
        raise ConfigError(f'the {side} tower has {extra[0]}, for which the library has no place. Put LoRA into the '
                          'weights first (clear.models.adapters.merged_copy); prompt vectors cannot be exported.')


def _check_one_model(image: OpenCLIPImageEncoder, text: OpenCLIPTextEncoder) -> None:
    if image.embed_dim != text.embed_dim:
        raise ConfigError(f'the image tower ends in {image.embed_dim} channels and the text tower in '
                          f'{text.embed_dim}: open_clip has no model of both. Write one at a time.')
    quick = _has_quick_gelu(image), _has_quick_gelu(text)
    if set(quick) == {True, False}:
        raise ConfigError(f'quick_gelu is {quick[0]} in the image tower and {quick[1]} in the text tower: open_clip '
                          'has no model of both. Write one at a time.')


def _has_quick_gelu(tower: OpenCLIPImageEncoder | OpenCLIPTextEncoder) -> bool | None:
    """None for networks that know no such choice: ResNets, and those of timm and transformers."""
    from open_clip.transformer import QuickGELU, ResidualAttentionBlock

    kinds = {type(module) for module in tower.model.modules()}
    return QuickGELU in kinds if ResidualAttentionBlock in kinds else None


def _processor(image: HuggingFaceImageEncoder) -> BaseImageProcessor:
    import transformers

    spec = image.preprocess
    if spec.channel_order != 'RGB' or not spec.antialias:
        raise ConfigError(f'save_hugging_face: an image processor cannot say channel_order={spec.channel_order!r}, '
                          f'antialias={spec.antialias}, which preprocess of the image tower does.')
    said = dict(do_resize=spec.resize is not None, resample=RESAMPLE.index(spec.interpolation),
                image_mean=list(spec.mean), image_std=list(spec.std))
    kind, crop = image.model.config.model_type, dict(height=spec.crop, width=spec.crop)
    if kind == 'siglip' and spec.resize == spec.crop:  # its own squashes, and cuts nothing out
        return transformers.SiglipImageProcessor(size=crop, **said)
    side = spec.resize or spec.crop
    if kind == 'chinese_clip':  # its own, which AutoProcessor takes whatever is written, fails on a shortest_edge
        return transformers.ChineseCLIPImageProcessor(size=dict(height=side, width=side), crop_size=crop, **said)
    return transformers.CLIPImageProcessor(size=dict(shortest_edge=side), crop_size=crop, **said)


def _logits(text: OpenCLIPTextEncoder | HuggingFaceTextEncoder, scale: float | None,
            bias: float | None) -> tuple[float, float | None]:
    """Logarithm of the factor, and the bias."""
    scale = text.logit_scale if scale is None else scale
    return math.log(1 / 0.07 if scale is None else scale), text.logit_bias if bias is None else bias
