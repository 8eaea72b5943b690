"""What libraries call the same tensors of a family of networks: a table each, read either way.

Where a tensor itself differs, beyond axes of one element, `translate_value` says how.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from torch import Tensor

# 'original' is the code of the paper where it has names of its own: Microsoft's Swin, Facebook's ConvNeXt, OpenAI's
# CLIP (and open_clip).
LIBRARIES = ('mmpretrain', 'timm', 'torchvision', 'original')

# Beginnings of names in that order, '{}' for a number; None, or nothing at the end of a row, where a library has no
# such part.
_RESNET = (
    ('head.fc.', 'fc.', 'fc.'),
    ('', '', ''),
)
_VIT = (
    ('cls_token', 'cls_token', 'class_token', 'class_embedding'),
    ('dist_token', 'dist_token'),
    ('pos_embed', 'pos_embed', 'encoder.pos_embedding', 'positional_embedding'),
    ('patch_embed.projection.', 'patch_embed.proj.', 'conv_proj.', 'conv1.'),
    ('pre_norm.', 'norm_pre.', None, 'ln_pre.'),
    *((f'layers.{{}}.{ours}', f'blocks.{{}}.{timm}', theirs and f'encoder.layers.encoder_layer_{{}}.{theirs}',
       original and f'transformer.resblocks.{{}}.{original}')
      for ours, timm, theirs, original in (
          ('ln1.', 'norm1.', 'ln_1.', 'ln_1.'), ('ln2.', 'norm2.', 'ln_2.', 'ln_2.'),
          ('attn.qkv.', 'attn.qkv.', 'self_attention.in_proj_', 'attn.in_proj_'),
          ('attn.proj.', 'attn.proj.', 'self_attention.out_proj.', 'attn.out_proj.'),
          ('ffn.layers.0.0.', 'mlp.fc1.', 'mlp.0.', 'mlp.c_fc.'),
          ('ffn.layers.1.', 'mlp.fc2.', 'mlp.3.', 'mlp.c_proj.'),
          ('attn.gamma1.weight', 'ls1.gamma', None, None), ('ffn.gamma2.weight', 'ls2.gamma', None, None))),
    ('ln1.', 'norm.', 'encoder.ln.', 'ln_post.'),
    ('ln2.', 'fc_norm.'),
    # DINOv2's own names of SwiGLU; timm's are those of an ordinary MLP.
    ('layers.{}.ffn.w12.', 'blocks.{}.mlp.w12.'), ('layers.{}.ffn.w3.', 'blocks.{}.mlp.w3.'),
    ('head.layers.pre_logits.', 'pre_logits.fc.', 'heads.pre_logits.'),
    ('head.layers.head.', 'head.', 'heads.head.'),
    ('head.layers.head_dist.', 'head_dist.'),
)
_CONVNEXT = (
    ('downsample_layers.0.', 'stem.', 'features.0.', 'downsample_layers.0.'),
    *((f'downsample_layers.{i}.', f'stages.{i}.downsample.', f'features.{2 * i}.', f'downsample_layers.{i}.')
      for i in range(1, 4)),
    *((f'stages.{i}.{{}}.{ours}', f'stages.{i}.blocks.{{}}.{timm}', theirs and f'features.{2 * i + 1}.{{}}.{theirs}',
       f'stages.{i}.{{}}.{original}')
      for i in range(4) for ours, timm, theirs, original in (
          ('depthwise_conv.', 'conv_dw.', 'block.0.', 'dwconv.'), ('norm.', 'norm.', 'block.2.', 'norm.'),
          ('gamma', 'gamma', 'layer_scale', 'gamma'),
          ('pointwise_conv1.', 'mlp.fc1.', 'block.3.', 'pwconv1.'),
          ('pointwise_conv2.', 'mlp.fc2.', 'block.5.', 'pwconv2.'),
          ('grn.gamma', 'mlp.grn.weight', None, 'grn.gamma'), ('grn.beta', 'mlp.grn.bias', None, 'grn.beta'))),
    ('norm3.', 'head.norm.', 'classifier.0.', 'norm.'),
    ('head.fc.', 'head.fc.', 'classifier.2.', 'head.'),
)
# Blocks of both versions of Swin.
_SWIN_BLOCKS = tuple(
    (f'stages.{i}.blocks.{{}}.{ours}', f'layers.{i}.blocks.{{}}.{timm}', f'features.{2 * i + 1}.{{}}.{theirs}',
     f'layers.{i}.blocks.{{}}.{timm}')
    for i in range(4) for ours, timm, theirs in (
        ('norm1.', 'norm1.', 'norm1.'), ('norm2.', 'norm2.', 'norm2.'), ('attn.w_msa.', 'attn.', 'attn.'),
        ('ffn.layers.0.0.', 'mlp.fc1.', 'mlp.0.'), ('ffn.layers.1.', 'mlp.fc2.', 'mlp.3.')))
_SWIN_ENDS = (
    ('patch_embed.projection.', 'patch_embed.proj.', 'features.0.0.', 'patch_embed.proj.'),
    ('patch_embed.norm.', 'patch_embed.norm.', 'features.0.2.', 'patch_embed.norm.'),
    ('absolute_pos_embed', None, None, 'absolute_pos_embed'),
    ('norm3.', 'norm.', 'norm.', 'norm.'),
    ('head.fc.', 'head.fc.', 'head.', 'head.'),
)
# timm merges patches at the start of a stage, all others (and its earlier releases) at the end of the one before;
# mmpretrain does so in version 1 alone.
_SWIN = (*_SWIN_ENDS, *_SWIN_BLOCKS, *(
    (f'stages.{i}.downsample.', f'layers.{i + 1}.downsample.', f'features.{2 * i + 2}.', f'layers.{i}.downsample.')
    for i in range(3)))
# torchvision's version 2 has one bias for query, key and value, and is not here.
_SWIN_V2 = tuple((ours, timm, None, original) for ours, timm, _, original in (*_SWIN_ENDS, *_SWIN_BLOCKS, *(
    (f'stages.{i}.downsample.', f'layers.{i}.downsample.', None, f'layers.{i - 1}.downsample.') for i in range(1, 4))))
# Blocks of timm, whose names count from one, as if from zero.
_REGNET = (
    ('conv1.', 'stem.conv.', 'stem.0.'), ('bn1.', 'stem.bn.', 'stem.1.'),
    *((f'layer{i}.{{}}.{ours}', f's{i}.b{{}}.{timm}', f'trunk_output.block{i}.block{i}-{{}}.{theirs}')
      for i in range(1, 5) for ours, timm, theirs in (
          ('conv1.', 'conv1.conv.', 'f.a.0.'), ('bn1.', 'conv1.bn.', 'f.a.1.'),
          ('conv2.', 'conv2.conv.', 'f.b.0.'), ('bn2.', 'conv2.bn.', 'f.b.1.'),
          ('conv3.', 'conv3.conv.', 'f.c.0.'), ('bn3.', 'conv3.bn.', 'f.c.1.'),
          ('downsample.0.', 'downsample.conv.', 'proj.0.'), ('downsample.1.', 'downsample.bn.', 'proj.1.'))),
    ('head.fc.', 'head.fc.', 'fc.'),
)
# Blocks of MobileNetV2's seven stages (Sandler et al. 2018, arXiv:1801.04381, table 2); torchvision numbers them
# through.
_PLACES = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1)) for block in range(count)]
_MOBILENET_V2 = (
    ('conv1.conv.', 'conv_stem.', 'features.0.0.'), ('conv1.bn.', 'bn1.', 'features.0.1.'),
    ('conv2.conv.', 'conv_head.', 'features.18.0.'), ('conv2.bn.', 'bn2.', 'features.18.1.'),
    *((f'layer{stage + 1}.{block}.conv.{ours}', f'blocks.{stage}.{block}.{timm}', f'features.{index}.conv.{theirs}')
      for index, (stage, block) in enumerate(_PLACES, 1) for ours, timm, theirs in (
          # the first block does not expand
          (('0.conv.', 'conv_dw.', '0.0.'), ('0.bn.', 'bn1.', '0.1.'), ('1.conv.', 'conv_pw.', '1.'),
           ('1.bn.', 'bn2.', '2.')) if index == 1 else
          (('0.conv.', 'conv_pw.', '0.0.'), ('0.bn.', 'bn1.', '0.1.'), ('1.conv.', 'conv_dw.', '1.0.'),
           ('1.bn.', 'bn2.', '1.1.'), ('2.conv.', 'conv_pwl.', '2.'), ('2.bn.', 'bn3.', '3.')))),
    ('head.fc.', 'classifier.', 'classifier.1.'),
)
# torchvision counts the layers of a block, so that a name depends on whether it expands (all but the first) and
# squeezes.
_MOBILENET_V3 = tuple((ours, None, theirs) for ours, theirs in (
    *((f'layer1.{ours}.{part}.', f'features.1.block.{theirs}.{number}.') for ours, theirs in (
        ('depthwise_conv', 0), ('linear_conv', 1), ('linear_conv', 2)) for number, part in enumerate(('conv', 'bn'))),
    *((f'layer{{}}.{ours}.{part}.', f'features.{{}}.block.{theirs}.{number}.') for ours, theirs in (
        ('expand_conv', 0), ('depthwise_conv', 1), ('linear_conv', 2), ('linear_conv', 3))
      for number, part in enumerate(('conv', 'bn'))),
    *((f'layer{{}}.se.conv{number}.conv.', f'features.{{}}.block.{theirs}.fc{number}.')
      for theirs in (1, 2) for number in (1, 2)),
    ('layer{}.conv.', 'features.{}.0.'), ('layer{}.bn.', 'features.{}.1.'),
    ('head.layers.0.fc.', 'classifier.0.'), ('head.layers.1.fc.', 'classifier.3.')))
FAMILIES = {'resnet': _RESNET, 'vit': _VIT, 'convnext': _CONVNEXT, 'swin': _SWIN, 'swin_v2': _SWIN_V2,
            'regnet': _REGNET, 'mobilenet_v2': _MOBILENET_V2, 'mobilenet_v3': _MOBILENET_V3}
# Tensors with the channels of four patches; the norm of version 2 comes after the reduction.
_MERGING = {'swin': re.compile(r'stages\.\d+\.downsample\.(?:norm\.weight|norm\.bias|reduction\.weight)'),
            'swin_v2': re.compile(r'stages\.\d+\.downsample\.reduction\.weight')}


def translate(name: str, family: str, source: str, target: str) -> str | None:
    """A library's name for what another calls `name`, without `backbone.` in front.

    Args:
        family: a key of `FAMILIES`.
        source, target: of `LIBRARIES`.

    Returns:
        None if the family has no such tensor in one of the two.
    """
    for pattern, template in _rules(family, LIBRARIES.index(source), LIBRARIES.index(target)):
        found = pattern.match(name)
        if found:
            return None if template is None else template.format(*found.groups()) + name[found.end():]
    return None


def translate_value(name: str, value: Tensor, family: str, source: str, target: str) -> Tensor:
    """The tensor as `target` keeps it.

    mmpretrain's Swin orders the channels of four merged patches by channel, row, column; all others by column, row,
    channel. torchvision's ConvNeXt scales maps, with axes for their height and width, and its Swin has a flat index.

    Args:
        name: mmpretrain's.
    """
    if family == 'convnext' and name.endswith('.gamma'):
        return value.reshape((-1, 1, 1) if target == 'torchvision' else -1)
    if name.endswith('.relative_position_index'):
        return value.flatten() if target == 'torchvision' else value.reshape((math.isqrt(value.numel()), -1))
    if family not in ('swin', 'swin_v2') or (source == 'mmpretrain') == (target == 'mmpretrain'):
        return value
    if not _MERGING[family].fullmatch(name) or not value.ndim or not value.numel() or value.shape[-1] % 4:
        return value  # one of another shape is refused for that later on
    sizes = (2, 2, -1) if target == 'mmpretrain' else (-1, 2, 2)
    return value.unflatten(-1, sizes).transpose(-1, -3).flatten(-3)


@lru_cache
def _rules(family: str, source: int, target: int) -> list[tuple[re.Pattern, str | None]]:
    rows = [(*row, *(None,) * (len(LIBRARIES) - len(row))) for row in FAMILIES[family]]
    return [(re.compile(re.escape(row[source]).replace(r'\{\}', r'(\d+)')), row[target])
            for row in rows if row[source] is not None]
