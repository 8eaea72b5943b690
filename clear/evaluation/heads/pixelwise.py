"""Heads that go from five feature maps of one image, or of two, back to its resolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.registry import MODELS

NUM_MAPS = 5
ALL_LEVELS = tuple(range(NUM_MAPS))  # what a head reads, as its `levels`; others may be None


class UpShuffle(nn.Sequential):
    """Twice the resolution: a 3 x 3 convolution to four times the channels, of which four each become 2 x 2 pixels."""

    def __init__(self, in_channels: int, out_channels: int, *, activation: bool = True):
        super().__init__(nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1), nn.PixelShuffle(2),
                         *([nn.LeakyReLU(0.01)] if activation else []))


@MODELS.register_module()
class PixelWiseHead(nn.Module):
    """ViRB's head for pixels (Kotar et al. 2021, arXiv:2103.14005, and its code): coarse to fine, each finer map added.

    The last map is doubled four times, each time resized to the next finer map and added to it, then once more. There
    is no normalisation.

    Args:
        map_channels: of the five maps, fine to coarse, as an encoder says.
        out_channels: numbers for each pixel.

    Shape:
        maps: five of (N, C_k, H_k, W_k), fine to coarse   returns: (N, out_channels, H, W) for `size` (H, W)

    Raises:
        ConfigError: unless there are five maps.
    """

    levels = ALL_LEVELS

    def __init__(self, map_channels: Sequence[int], out_channels: int):
        super().__init__()
        channels = check_channels(map_channels)
        check_whole('out_channels', out_channels, 1)
        for number in range(1, NUM_MAPS):
            self.add_module(f'up{number}', UpShuffle(channels[-number], channels[-number - 1]))
        self.up5 = UpShuffle(channels[0], out_channels, activation=False)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        value = maps[-1]
        for number in range(1, NUM_MAPS):
            finer = maps[-number - 1]
            value = resized(getattr(self, f'up{number}')(value), finer.shape[2:]) + finer
        return resized(self.up5(value), size)


@MODELS.register_module()
class SiameseHead(nn.Module):
    """The same for two images, such as frames of a video: at each level a 1 x 1 convolution makes one map of both.

    Shape:
        maps: five of (N, 2, C_k, H_k, W_k), fine to coarse   returns: (N, out_channels, H, W) for `size` (H, W)
    """

    levels = ALL_LEVELS

    def __init__(self, map_channels: Sequence[int], out_channels: int):
        super().__init__()
        channels = check_channels(map_channels)
        for number in range(1, NUM_MAPS + 1):
            width = channels[-number]
            self.add_module(f'fuse{number}', nn.Conv2d(2 * width, width, 1))
        self.pixels = PixelWiseHead(channels, out_channels)

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        fused = [getattr(self, f'fuse{NUM_MAPS - level}')(value.flatten(1, 2)) for level, value in enumerate(maps)]
        return self.pixels(fused, size)


def check_channels(map_channels: Sequence[int]) -> list[int]:
    """The channels of five maps.

    Raises:
        ConfigError: for another number, as of an encoder without maps.
    """
    if len(map_channels) != NUM_MAPS:
        raise ConfigError(f'map_channels is {list(map_channels)!r}; a head for pixels needs those of five maps, which '
                          'this encoder does not have.')
    return [check_whole('map_channels', width, 1) for width in map_channels]


def resized(value: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, H, W) at another size, bilinear; itself if it has it."""
    if tuple(value.shape[2:]) == tuple(size):
        return value
    return functional.interpolate(value, tuple(size), mode='bilinear', align_corners=False)
