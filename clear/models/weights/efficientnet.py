"""Names of the `efficientnet_pytorch` package and its like, in timm's terms, for networks of B0's depth (B0, Lite0)."""

from __future__ import annotations

# Blocks in each of the seven stages (Tan and Le 2019, arXiv:1905.11946, table 1); the package numbers them through.
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_POSITIONS = [(stage, block) for stage, count in enumerate(_BLOCKS) for block in range(count)]
_OUTER = {'_conv_stem': 'conv_stem', '_bn0': 'bn1', '_conv_head': 'conv_head', '_bn1': 'bn2', '_fc': 'classifier'}
_SQUEEZE = {'_se_reduce': 'se.conv_reduce', '_se_expand': 'se.conv_expand'}
# The first stage does not expand, so its layers are one fewer and timm counts them from one earlier.
_FIRST = {'_depthwise_conv': 'conv_dw', '_bn1': 'bn1', '_project_conv': 'conv_pw', '_bn2': 'bn2', **_SQUEEZE}
_LATER = {'_expand_conv': 'conv_pw', '_bn0': 'bn1', '_depthwise_conv': 'conv_dw', '_bn1': 'bn2',
          '_project_conv': 'conv_pwl', '_bn2': 'bn3', **_SQUEEZE}


def from_efficientnet_pytorch(key: str) -> str | None:
    """timm's name of a tensor, or None for a name that the package does not use."""
    first, *rest = key.split('.')
    if first in _OUTER:
        return '.'.join([_OUTER[first], *rest])
    if first != '_blocks' or len(rest) < 3 or not rest[0].isdecimal() or int(rest[0]) >= len(_POSITIONS):
        return None
    stage, block = _POSITIONS[int(rest[0])]
    layer = (_FIRST if stage == 0 else _LATER).get(rest[1])
    return None if layer is None else '.'.join(['blocks', str(stage), str(block), layer, *rest[2:]])
