"""What a head sees of images: maps of an encoder, those of its levels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from clear.evaluation.heads.pixelwise import NUM_MAPS
from clear.models.towers.image.preprocess import Preprocess

LAST = NUM_MAPS - 1


@runtime_checkable
class GivesMaps(Protocol):
    """An image encoder with five maps.

    Attributes:
        preprocess: what it wants done to an image first.
        map_channels: of the maps, fine to coarse.
    """

    preprocess: Preprocess
    map_channels: Sequence[int]

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> five maps (N, C_k, H_k, W_k)."""


@runtime_checkable
class GivesNativeMaps(Protocol):
    """An encoder some of whose maps are resampled, and that gives them as its network has them, too."""

    def native_maps(self, images: Tensor) -> list[Tensor]:
        """As `feature_maps`, without resampling."""


class MapEncoder(nn.Module):
    """The maps of an encoder that a head reads.

    Args:
        levels: 0 (fine) ... 4 (coarse).
        stage: makes another last map of the fourth, such as a dilated fourth stage; frozen.
        native: maps as the network has them, where the encoder `GivesNativeMaps`.

    Shape:
        images: (N, 3, H, W), or (N, S, 3, H, W) of clips   returns: five maps (N, C_k, H_k, W_k), or
        (N, S, C_k, H_k, W_k); None for a level that is not asked for
    """

    def __init__(self, encoder: GivesMaps, levels: Sequence[int], stage: nn.Module | None = None, *,
                 native: bool = False):
        super().__init__()
        self.native = native and isinstance(encoder, GivesNativeMaps)
        self.encoder, self.stage, self.levels = encoder, stage, tuple(sorted(levels))

    def forward(self, images: Tensor) -> list[Tensor | None]:
        clips = images.shape[:-3]
        give = self.encoder.native_maps if self.native else self.encoder.feature_maps
        maps: list[Tensor | None] = list(give(images.flatten(0, -4)))
        if self.stage is not None and LAST in self.levels:
            maps[LAST] = self.stage(maps[LAST - 1])
        return [value.unflatten(0, clips) if level in self.levels else None for level, value in enumerate(maps)]
