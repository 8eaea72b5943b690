"""The linear probe of pixels: what maps hold before anything is learnt about their surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.evaluation.heads.pixelwise import check_channels, resized
from clear.registry import MODELS


@MODELS.register_module()
class LinearPixelHead(nn.Module):
    """BatchNorm and a 1 x 1 convolution on one map or several, then bilinear to the image (DINOv2, Oquab et al. 2023,
    arXiv:2304.07193, sec. 7.4).

    Several maps are resized to the finest of them and stand side by side. Maps are wanted as the network has them: of a
    plain transformer every token.

    Args:
        map_channels: of the five maps, fine to coarse.
        levels: which of them, 0 (fine) ... 4 (coarse).
        dropout: of whole channels, after the BatchNorm.

    Shape:
        maps: five of (N, C_k, H_k, W_k)   returns: (N, out_channels, H, W) for `size` (H, W)

    Raises:
        ConfigError: for levels that there are not.
    """

    native_maps = True

    def __init__(self, map_channels: Sequence[int], out_channels: int, levels: Sequence[int] = (4,),
                 dropout: float = 0.0):
        super().__init__()
        channels = check_channels(map_channels)
        self.levels = [check_whole('levels', level, 0, len(channels) - 1) for level in levels]
        if not self.levels or len({*self.levels}) != len(self.levels):
            raise ConfigError(f'levels is {levels!r}; expected some of 0 (fine) ... {len(channels) - 1}, none twice.')
        width = sum(channels[level] for level in self.levels)
        self.norm, self.dropout = nn.BatchNorm2d(width), nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, check_whole('out_channels', out_channels, 1), 1)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        finest = maps[min(self.levels)].shape[2:]
        value = torch.cat([resized(maps[level], finest) for level in self.levels], 1)
        return resized(self.classifier(self.dropout(self.norm(value))), size)
