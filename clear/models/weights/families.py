"""What libraries call the same tensors of ResNet, Vision Transformer and ConvNeXt: a table each, read either way.

Only names differ: no tensor changes on the way. Swin is not here, because timm and mmpretrain order the channels of its
downsampling differently; nor is ConvNeXt of torchvision, whose layer scale has another shape.
"""

from __future__ import annotations

import re
from functools import lru_cache

LIBRARIES = ('mmpretrain', 'timm', 'torchvision')

# Beginnings of names in that order, '{}' for a number; None where a library has no such part.
_RESNET = (
    ('head.fc.', 'fc.', 'fc.'),
    ('', '', ''),
)
_VIT = (
    ('cls_token', 'cls_token', 'class_token'),
    ('pos_embed', 'pos_embed', 'encoder.pos_embedding'),
    ('patch_embed.projection.', 'patch_embed.proj.', 'conv_proj.'),
    *((f'layers.{{}}.{ours}', f'blocks.{{}}.{timm}', theirs and f'encoder.layers.encoder_layer_{{}}.{theirs}')
      for ours, timm, theirs in (
          ('ln1.', 'norm1.', 'ln_1.'), ('ln2.', 'norm2.', 'ln_2.'),
          ('attn.qkv.', 'attn.qkv.', 'self_attention.in_proj_'),
          ('attn.proj.', 'attn.proj.', 'self_attention.out_proj.'),
          ('ffn.layers.0.0.', 'mlp.fc1.', 'mlp.0.'), ('ffn.layers.1.', 'mlp.fc2.', 'mlp.3.'),
          ('attn.gamma1.weight', 'ls1.gamma', None), ('ffn.gamma2.weight', 'ls2.gamma', None))),
    ('ln1.', 'norm.', 'encoder.ln.'),
    ('head.layers.head.', 'head.', 'heads.head.'),
)
_CONVNEXT = (
    ('downsample_layers.0.', 'stem.', None),
    ('downsample_layers.{}.', 'stages.{}.downsample.', None),
    *((f'stages.{{}}.{{}}.{ours}', f'stages.{{}}.blocks.{{}}.{timm}', None) for ours, timm in (
        ('depthwise_conv.', 'conv_dw.'), ('norm.', 'norm.'), ('gamma', 'gamma'),
        ('pointwise_conv1.', 'mlp.fc1.'), ('pointwise_conv2.', 'mlp.fc2.'),
        ('grn.gamma', 'mlp.grn.weight'), ('grn.beta', 'mlp.grn.bias'))),
    ('norm3.', 'head.norm.', None),
    ('head.fc.', 'head.fc.', None),
)
FAMILIES = {'resnet': _RESNET, 'vit': _VIT, 'convnext': _CONVNEXT}


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


@lru_cache
def _rules(family: str, source: int, target: int) -> list[tuple[re.Pattern, str | None]]:
    return [(re.compile(re.escape(row[source]).replace(r'\{\}', r'(\d+)')), row[target])
            for row in FAMILIES[family] if row[source] is not None]
