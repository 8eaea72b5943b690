"""Parameter groups of two towers: what weight decay leaves out, and rates that fall towards the input."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from clear.core.checks import check_flag, check_number
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.models.alignment.image_text import ImageTextAlignment
from clear.models.towers.groups import depth_of_parameters
from clear.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper

    from clear.core.types import Options

SIDES = ('image', 'text')
# What a schedule tells groups apart by, as `group['part']`.
IMAGE_PART, REST_PART = 'image', 'rest'
# Parts of names of what no decay pulls to zero, however many dimensions it has: places, tokens, scales, heads that make
# clusters (ProtoCLIP).
_NOT_DECAYED = {'positional_embedding', 'class_embedding', 'pos_embedding', 'pos_embed', 'position_embedding',
                'position_embeddings', 'token_type_embeddings', 'class_token', 'cls_token', 'dist_token', 'reg_token',
                'mask_token', 'logit_scale', 'logit_bias', 'logit_scale_proto', 'image_proto_head', 'text_proto_head'}
_LEGACY_NOT_DECAYED = {'positional_embedding', 'class_embedding', 'logit_scale', 'bn', 'ln', 'bias'}
# Parts of names that ProtoCLIP lets off; its projection heads are called proto heads here.
_TWO_RATES_NOT_DECAYED = ('bn', 'ln', 'bias', 'logit_scale', 'projection_head', 'proto_head')
_LEGACY_BLOCK = re.compile(r'(?:^|\.)resblocks\.(\d+)\.')
_LEGACY_STAGE = re.compile(r'(?:^|\.)layer([1-4])\.')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class AlignmentOptimConstructor:
    """Build an optimiser for an `ImageTextAlignment`, with the weight decay of weights alone and rates by depth.

    No decay: tensors of fewer than two dimensions, biases, embeddings of positions, class tokens, the logit scale.

    In a tower with blocks 1 ... L, what comes before them has depth 0 and what comes after them L + 1. The rate is
    `lr * backbone_decay * layer_decay ** (L + 1 - depth)`; at depth L + 1, and outside the towers, it is `lr`. Stages
    are the blocks of a convolutional network. Tensors of an adapter have the depth of the block they are in.

    A config says `optim_wrapper=dict(constructor='AlignmentOptimConstructor', optimizer=...,
    paramwise_cfg=dict(layer_decay_image=0.7))`.

    Args:
        optim_wrapper_cfg: wrapper and `optimizer`, which needs an `lr` where rates differ.
        paramwise_cfg: `layer_decay_image`, `layer_decay_text` and `backbone_decay`, all 1 by default, above 0;
            `legacy=True` for what ITRA does: only the logit scale is spared by its name, embeddings of positions decay;
            transformers' embeddings get the full rate, those of Hugging Face altogether; a ResNet has six layers, its
            stem and the head beside it the rate of layer 1; `backbone_decay` is nothing without a layer decay.
            `two_rates=True` for the groups of ProtoCLIP, which `TwoRateCosineLR` tells apart: the image tower with its
            `image_head`, and the rest, whose rate is `lr_text` if that is given. No decay then: tensors of fewer than
            two dimensions, and those with 'bn', 'ln', 'bias', 'logit_scale' or a proto head in their names.

    Raises:
        ConfigError: for unknown keys or values, another model, a tower without blocks, or if nothing trains.
    """

    def __init__(self, optim_wrapper_cfg: Options, paramwise_cfg: Options | None = None):
        self.wrapper = dict(optim_wrapper_cfg)
        if not isinstance(self.wrapper.get('optimizer'), Mapping):
            raise ConfigError("AlignmentOptimConstructor needs optim_wrapper.optimizer=dict(type='AdamW', lr=...).")
        options = dict(paramwise_cfg or {})
        check_keys('optim_wrapper.paramwise_cfg', options,
                   {'layer_decay_image', 'layer_decay_text', 'backbone_decay', 'legacy', 'two_rates', 'lr_text'},
                   'AlignmentOptimConstructor')
        self.decays = {side: options.get(f'layer_decay_{side}', 1.0) for side in SIDES}
        self.backbone_decay = options.get('backbone_decay', 1.0)
        for name, value in [*((f'layer_decay_{side}', self.decays[side]) for side in SIDES),
                            ('backbone_decay', self.backbone_decay)]:
            check_number(f'optim_wrapper.paramwise_cfg.{name}', value, above=0)
        self.legacy = check_flag('optim_wrapper.paramwise_cfg.legacy', options.get('legacy', False))
        self.two_rates = check_flag('optim_wrapper.paramwise_cfg.two_rates', options.get('two_rates', False))
        self.lr_text = options.get('lr_text')
        if self.lr_text is not None:
            check_number('optim_wrapper.paramwise_cfg.lr_text', self.lr_text, 0)
            if not self.two_rates:
                raise ConfigError('optim_wrapper.paramwise_cfg.lr_text needs two_rates=True beside it.')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        wrapper = dict(self.wrapper)
        optimizer = dict(wrapper.pop('optimizer'))
        wrapper.setdefault('type', 'OptimWrapper')
        groups = self.groups(model.module if is_model_wrapper(model) else model, optimizer.get('lr'))
        # As default_args: a registry copies the config it is given, and an optimiser of copies would train nothing.
        built = OPTIMIZERS.build(optimizer, default_args=dict(params=groups))
        return OPTIM_WRAPPERS.build(wrapper, default_args=dict(optimizer=built))

    def groups(self, model: nn.Module, lr: float | None) -> list[dict[str, object]]:
        """Groups of an optimiser over all that trains, one for each scale, decay and part, full rate first."""
        if not isinstance(model, ImageTextAlignment):
            raise ConfigError(f'AlignmentOptimConstructor is for models of images and text; {type(model).__name__} is '
                              'none.')
        found: dict[tuple[float, bool, str], list[Tensor]] = defaultdict(list)
        scales = self.scales(model)
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                found[scales.get(name, 1.0), self.decays_weight(name, parameter), self.part(name)].append(parameter)
        if not found:
            raise ConfigError('Nothing trains: both towers are locked, and there is no head and no logit scale.')
        if lr is None and any(scale != 1 for scale, *_ in found):
            raise ConfigError('optim_wrapper.optimizer lacks lr, which rates by depth are fractions of.')
        groups = []
        for (scale, is_decayed, part), parameters in sorted(found.items(), reverse=True, key=lambda entry: entry[0]):
            group: dict[str, object] = dict(params=parameters)
            base = self.lr_text if part == REST_PART and self.lr_text is not None else lr
            if scale != 1 or base is not lr:
                group['lr'] = base * scale
            if not is_decayed:
                group['weight_decay'] = 0.0
            if part:
                group['part'] = part
            groups.append(group)
        return groups

    def decays_weight(self, name: str, parameter: Tensor) -> bool:
        """Whether weight decay holds for a parameter."""
        if self.two_rates:
            return parameter.ndim > 1 and not any(part in name for part in _TWO_RATES_NOT_DECAYED)
        if parameter.ndim == 1 or name.endswith('.bias') or 'relative_position_bias' in name:
            return False
        if self.legacy:
            return name not in _LEGACY_NOT_DECAYED
        return parameter.ndim > 1 and not _NOT_DECAYED & set(name.split('.'))

    def part(self, name: str) -> str:
        """'image' or 'rest', where both have a rate of their own; else nothing."""
        if not self.two_rates:
            return ''
        return IMAGE_PART if name.startswith(('image_encoder.', 'image_head.')) else REST_PART

    def scales(self, model: ImageTextAlignment) -> dict[str, float]:
        """Parameter names and the factors of their rates, where that is not 1."""
        if self.legacy:
            is_off = all(decay == 1 for decay in self.decays.values())
            return {} if is_off else dict(item for side in SIDES for item in self._legacy_scales(model, side))
        found = {}
        for side in SIDES:
            if model.is_locked(side) or self.decays[side] == self.backbone_decay == 1:
                continue
            try:
                depths, last = depth_of_parameters(model.tower(side).model)
            except ConfigError as error:
                raise ConfigError(f'optim_wrapper.paramwise_cfg: no rates by depth for the {side} tower, whose '
                                  f'{type(model.tower(side).model).__name__} has no chain of blocks.') from error
            found |= {f'{side}_encoder.model.{name}': self._scale(side, depth, last)
                      for name, depth in depths.items() if depth < last}
        return found

    def _scale(self, side: str, depth: int, last: int) -> float:
        return 1.0 if depth == last else self.backbone_decay * self.decays[side] ** (last - depth)

    def _legacy_scales(self, model: ImageTextAlignment, side: str) -> Iterator[tuple[str, float]]:
        names = [name for name, _ in model.named_parameters() if name.startswith((f'{side}_encoder.', f'{side}_head.'))]
        blocks = {name: int(match[1]) for name in names if (match := _LEGACY_BLOCK.search(name))}
        if blocks and 'attnpool' not in ' '.join(names):
            last = max(blocks.values()) + 2
            yield from ((name, self._scale(side, block + 1, last)) for name, block in blocks.items())
        elif any('attnpool' in name for name in names):  # a ResNet of open_clip: stem, four stages, attention pool
            for name in names:
                stage = _LEGACY_STAGE.search(name)
                depth = 7 if 'attnpool' in name else int(stage[1]) + 1 if stage else 1
                yield name, self._scale(side, depth, 7)
