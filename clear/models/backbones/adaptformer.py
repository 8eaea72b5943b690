"""A Vision Transformer with a small trainable adapter beside the MLP of every block."""

from __future__ import annotations

import math

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from clear.registry import MODELS

_NORMS = (None, 'in', 'out')
_PLACES = ('parallel', 'sequential')
_INITS = ('lora', 'default')
# What `legacy=True` puts in place of the options of the published form.
_LEGACY = dict(dropout=0.0, scale=1.0, learn_scale=True, layer_norm='out', place='parallel', init='default')


class Adapter(BaseModule):
    """A(x) = [LN] scale * up(dropout(relu(down([LN] x)))), at most one of the two LayerNorms.

    Args:
        embed_dims: D, width of the tokens.
        bottleneck: width between `down` and `up`.
        scale: factor of the output; its start if `learn_scale`.
        layer_norm: None, `'in'` (on the input) or `'out'` (on the result, which makes `scale` nearly a no-op).
        init: `'lora'`, as in the authors' models/adapter.py: Kaiming uniform with a = sqrt(5) for the weights of
            `down`, zeros for those of `up` and for both biases, so A(x) = 0 at the start; `'default'` leaves torch's.

    Shape:
        x: (..., D)   returns: (..., D)
    """

    def __init__(self, embed_dims: int, bottleneck: int = 64, *, dropout: float = 0.1, scale: float = 0.1,
                 learn_scale: bool = False, layer_norm: str | None = None, init: str = 'lora'):
        super().__init__()
        _check('layer_norm', layer_norm, _NORMS)
        _check('init', init, _INITS)
        if bottleneck < 1:
            raise ValueError(f'AdaptFormer: bottleneck is {bottleneck}, expected at least 1.')
        self.down = nn.Linear(embed_dims, bottleneck)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, embed_dims)
        self.norm = nn.Identity() if layer_norm is None else nn.LayerNorm(embed_dims)
        self.scale = nn.Parameter(torch.full((1,), float(scale))) if learn_scale else float(scale)
        self.layer_norm = layer_norm
        self.init = init
        self._reset()

    @property
    def added_tensors(self) -> tuple[str, ...]:
        """Names of the tensors that weights of a plain Vision Transformer do not have: all."""
        return tuple(self.state_dict())

    def init_weights(self) -> None:
        super().init_weights()
        self._reset()  # The model's own rule for Linear layers would undo the zeros.

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x) if self.layer_norm == 'in' else x
        x = self.up(self.dropout(torch.relu(self.down(x)))) * self.scale
        return self.norm(x) if self.layer_norm == 'out' else x

    def _reset(self) -> None:
        if self.init == 'default':
            return
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)


class AdaptedEncoderLayer(TransformerEncoderLayer):
    """A block of the Vision Transformer with an adapter; takes over the parts of the given block, names included.

    Args:
        num_prompts: learned tokens that are put in front of the sequence and taken off behind the block.

    Shape:
        x: (N, L, D)   returns: (N, L, D)
    """

    added_tensors = ('prompts',)

    def __init__(self, layer: TransformerEncoderLayer, adapter: Adapter, place: str = 'parallel',
                 num_prompts: int = 0):
        BaseModule.__init__(self, init_cfg=layer.init_cfg)
        _check('place', place, _PLACES)
        self.embed_dims = layer.embed_dims
        self.ln1, self.attn, self.ln2, self.ffn = layer.ln1, layer.attn, layer.ln2, layer.ffn
        self.adapter = adapter
        self.place = place
        self.prompts = None
        if num_prompts:
            self.prompts = nn.Parameter(torch.empty(1, num_prompts, self.embed_dims))
            nn.init.xavier_uniform_(self.prompts)

    def forward(self, x: Tensor) -> Tensor:
        if self.prompts is None:
            return self._block(x)
        prompts = self.prompts.expand(len(x), -1, -1)
        return self._block(torch.cat([prompts, x], dim=1))[:, prompts.shape[1]:]

    def _block(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        if self.place == 'parallel':
            return self.ffn(self.ln2(x), identity=x) + self.adapter(x)
        change = self.ffn(self.ln2(x), identity=x.new_zeros(()))  # The MLP alone, without its shortcut.
        return x + change + self.adapter(change)


@MODELS.register_module()
class AdaptFormer(VisionTransformer):
    """Vision Transformer with adapters: x' = x + Attn(LN x); out = x' + MLP(LN x') + A(x').

    AdaptFormer (Chen et al. 2022, arXiv:2205.13535): only the adapters and the head are trained. `up` starts at
    zero, so a pretrained network gives the same output as without adapters until training moves them. Tensors of
    the plain network keep their names; weights for it load, the adapters being allowed to be missing. Which parts
    train is said by the config, as for every model:

        frozen = ['backbone.patch_embed', 'backbone.cls_token', 'backbone.pos_embed', 'backbone.ln1',
                  'backbone.layers.*.ln?', 'backbone.layers.*.attn', 'backbone.layers.*.ffn']

    Defaults are those of the authors' code (github.com/ShoufaChen/AdaptFormer): main_image.py sets a bottleneck
    (`ffn_num`) of 64, scalar 0.1, layernorm option none, init option lora and option parallel; models/custom_modules.py
    a dropout of 0.1.

    Args:
        arch: as in `VisionTransformer`, whose other arguments `kwargs` takes too (`img_size`, `patch_size` ...).
        bottleneck: width of the adapters.
        dropout: between the two layers of an adapter.
        scale, learn_scale: factor of the adapters, fixed or learned from there.
        layer_norm: None (the authors' `none`), or LayerNorm before (`'in'`) or behind (`'out'`) the adapter.
        place: `'parallel'` to the MLP, or `'sequential'`: out = x' + y + A(y) with y = MLP(LN x').
        init: `'lora'` (zero at the start) or `'default'` (torch's, which disturbs a pretrained network).
        num_prompts: learned tokens in front of every block's sequence (deep visual prompts, Jia et al. 2022,
            arXiv:2203.12119); 0 for none. They change the output from the start.
        legacy: the adapters of this framework's predecessor: LN(scale * up(relu(down(x)))) with a learned scale
            from 1, no dropout and torch's initialisation. Not zero at the start, so a pretrained network is
            disturbed; its LayerNorm cancels the scale.

    Shape:
        x: (N, C, H, W)   returns: a tuple as `VisionTransformer`'s, by default one (N, D) class token

    Raises:
        ValueError: if an option is unknown, or set beside `legacy`.
    """

    def __init__(self, arch: str | dict = 'base', *, bottleneck: int = 64, dropout: float = 0.1, scale: float = 0.1,
                 learn_scale: bool = False, layer_norm: str | None = None, place: str = 'parallel',
                 init: str = 'lora', num_prompts: int = 0, legacy: bool = False, **kwargs):
        super().__init__(arch=arch, **kwargs)
        options = dict(dropout=dropout, scale=scale, learn_scale=learn_scale, layer_norm=layer_norm, place=place,
                       init=init)
        if legacy:
            published = AdaptFormer.__init__.__kwdefaults__
            changed = sorted(name for name, value in options.items() if value != published[name])
            if changed or num_prompts:
                raise ValueError(f'AdaptFormer: legacy=True fixes {", ".join(changed or ["num_prompts"])}; leave it '
                                 'out.')
            options = dict(_LEGACY)
        place = options.pop('place')
        if num_prompts < 0:
            raise ValueError(f'AdaptFormer: num_prompts is {num_prompts}, expected at least 0.')
        for i, layer in enumerate(self.layers):
            adapter = Adapter(self.embed_dims, bottleneck, **options)
            self.layers[i] = AdaptedEncoderLayer(layer, adapter, place, num_prompts)


def _check(name: str, value: str | None, known: tuple) -> None:
    if value not in known:
        raise ValueError(f'AdaptFormer: {name} is {value!r}, expected one of {", ".join(map(repr, known))}.')
