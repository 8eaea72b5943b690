"""How other systems name the tensors of an image tower, a text tower, their heads and the factors of the cosines.

A rule gives the places that a tensor may have in an `ImageTextAlignment`, the likeliest first, each as tensors by our
names (a tensor may be cut into several). What no rule knows has no place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from clear.models.adapters.library import ADAPTERS, NAME

Place = dict[str, Tensor]
Rule = Callable[[str, Tensor], Iterator[Place]]

_SIDES = ('image', 'text')
_SCALES = ('logit_scale', 'logit_bias', 'logit_scale_proto')
# The weight norm of torch before 1.12 and since: lengths of the rows, and rows of any length.
_LENGTHS = ('weight_g', 'parametrizations.weight.original0')
_ROWS = ('weight_v', 'parametrizations.weight.original1')
_IMPLIED = re.compile(r'(.*\.)?(position_ids|attn_mask)|text_backbone\.logit_(scale|bias)')
_BLOCK = re.compile(r'transformer\.resblocks\.(\d+)\.(.+)')
# cn_clip's image tower -> that of transformers.
_CHINESE_BLOCK = {'ln_1': 'layer_norm1', 'ln_2': 'layer_norm2', 'mlp.c_fc': 'mlp.fc1', 'mlp.c_proj': 'mlp.fc2',
                  'attn.out_proj': 'self_attn.out_proj'}
_CHINESE = {'conv1.weight': 'embeddings.patch_embedding.weight', 'class_embedding': 'embeddings.class_embedding',
            'positional_embedding': 'embeddings.position_embedding.weight', 'ln_pre.weight': 'pre_layrnorm.weight',
            'ln_pre.bias': 'pre_layrnorm.bias', 'ln_post.weight': 'post_layernorm.weight',
            'ln_post.bias': 'post_layernorm.bias'}


def find_source(names: list[str]) -> str | None:
    """Whose names these are: a key of `PAIR_SOURCES`, or None."""
    if any(name.startswith(('image_backbone.', 'text_backbone.')) for name in names):
        return 'itra'
    if not any(name.startswith('visual.') for name in names):
        return None
    heads = tuple(f'{side}_projection_head.' for side in _SIDES)
    return 'protoclip' if any(name.startswith(heads) or name == 'logit_scale_proto' for name in names) else 'openclip'


def is_implied(name: str, tensor: Tensor) -> bool:
    """Whether a tensor says nothing: its network computes it, ITRA reads it in no loss that leaves it in its tower, or
    it is a length of one that rows of our heads have anyway."""
    return _IMPLIED.fullmatch(name) is not None or (name.endswith(_LENGTHS) and bool((tensor == 1).all()))


def _from_itra(name: str, tensor: Tensor) -> Iterator[Place]:
    """`image_backbone.`, `text_backbone.`, `image_projection_head.`, `text_projection_head.`, `prompt`, `logit_scale`.

    Towers are those of open_clip, transformers, sentence-transformers, torchvision and torch.hub under these
    libraries' names, in ITRA's code. Not confirmed by a file of its authors: what adapter-transformers, its library of
    adapters, called their parameters (taken to be what `adapters` calls them), and cn_clip's names.
    """
    part, _, rest = name.partition('.')
    side = next((side for side in _SIDES if part.startswith(f'{side}_')), None)
    if part in ('image_backbone', 'text_backbone'):
        for place in _tower(rest, tensor):
            yield {f'{side}_encoder.model.{key}': value for key, value in place.items()}
    elif name == 'prompt':
        yield {'text_encoder.model.prompt': tensor}
    else:
        if part == f'{side}_projection_head':
            yield from _head(f'{side}_head', rest, tensor)
        yield from _scale(name, tensor)


def _from_open_clip(name: str, tensor: Tensor) -> Iterator[Place]:
    """`visual.` and the text tower beside it or below `text.`; ProtoCLIP's heads and its second scale.

    Names are those of ProtoCLIP's published code. Its heads go where a `ProtoCLIP` has its further ones, else they are
    the heads of an `ImageTextAlignment`.
    """
    part, _, rest = name.partition('.')
    if part == 'visual':
        yield {f'image_encoder.model.{rest}': tensor}
    elif part in ('image_projection_head', 'text_projection_head'):
        side = part.partition('_')[0]
        yield from _head(f'{side}_proto_head', rest, tensor)
        yield from _head(f'{side}_head', rest, tensor)
    elif name in _SCALES:
        yield from _scale(name, tensor)
    else:
        yield {f'text_encoder.model.{name.removeprefix("text.")}': tensor}


def _tower(name: str, tensor: Tensor) -> Iterator[Place]:
    yield {name: tensor}
    yield {name.replace('0.auto_model.', '0.model.', 1): tensor}  # sentence-transformers before 5.7
    for kind in ADAPTERS:
        before, found, after = name.rpartition(f'.{kind}.')  # the last: there are modules of that name too
        if found:
            yield {f'{before}.{NAME}.{after}': tensor}
    yield from _chinese_clip(name, tensor)


def _head(head: str, rest: str, tensor: Tensor) -> Iterator[Place]:
    if rest.removeprefix('last_layer.') in _ROWS:
        yield {f'{head}.last_layer': tensor}
    elif rest.removeprefix('last_layer.') in _LENGTHS:
        yield {f'{head}.last_scale': tensor}
    else:
        # One layer alone is called `mlp`; several are numbered, with their activations, as ours; ProtoCLIP's are bare.
        layer = re.fullmatch(r'(?:mlp\.)?(\d+\.)?(\w+)', rest)
        if layer is not None:
            yield {f'{head}.mlp.layers.{layer[1] or "0."}{layer[2]}': tensor}


def _scale(name: str, tensor: Tensor) -> Iterator[Place]:
    if name in _SCALES and tensor.numel() == 1:
        yield {name: tensor.reshape(())}


def _chinese_clip(name: str, tensor: Tensor) -> Iterator[Place]:
    """Both towers of cn_clip as transformers names them: projections transposed, attention in three."""
    if name.startswith('bert.'):
        yield {f'text_model.{name.removeprefix("bert.")}': tensor}
    elif name in ('text_projection', 'proj') and tensor.ndim == 2:
        yield {'text_projection.weight' if name == 'text_projection' else 'visual_projection.weight': tensor.T}
    elif name in _CHINESE:
        yield {f'vision_model.{_CHINESE[name]}': tensor}
    block = _BLOCK.fullmatch(name)
    if block is None:
        return
    prefix, (layer, _, kind) = f'vision_model.encoder.layers.{block[1]}.', block[2].rpartition('.')
    if layer in _CHINESE_BLOCK:
        yield {f'{prefix}{_CHINESE_BLOCK[layer]}.{kind}': tensor}
    elif layer == 'attn' and kind.startswith('in_proj_'):
        yield {f'{prefix}self_attn.{each}_proj.{kind.removeprefix("in_proj_")}': value
               for each, value in zip('qkv', tensor.chunk(3))}


PAIR_SOURCES: Mapping[str, Rule] = {'itra': _from_itra, 'protoclip': _from_open_clip, 'openclip': _from_open_clip}
