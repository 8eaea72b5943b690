"""What files of targets hold, kind by kind. Each is made of plain values, which a bank's fingerprint can cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from clear.core.errors import DataError
from clear.datasets.dense.raster import Raster, grey_pixels, stored_pixels
from clear.datasets.dense.targets import VOID, Target, TargetDecoder
from clear.datasets.images.decode import decode_image

_IDS = ('grey', 'palette')  # an index into a palette is an id; its colour is for the eye
_LOSSY = ('JPEG', 'WEBP')
_NO_CLASS = -1
_FLOW_ZERO, _FLOW_SCALE = 32768, 64.0  # KITTI 2015


@dataclass(frozen=True)
class ClassIds(TargetDecoder):
    """Class ids of one channel of at most 8 bits, or the indices of a palette.

    Args:
        ids: the class of each of 256 values: `VOID` where none counts, -1 where there is no such value.
    """

    expects: ClassVar[str] = 'one channel of at most 8 bits (class ids, or a palette), stored without loss,'
    ids: tuple[int, ...]

    @classmethod
    def of(cls, ids: Mapping[int, int]) -> Self:
        """From stored value to class, of those values that there are; `VOID` stands for itself."""
        return cls(tuple({VOID: VOID, **ids}.get(value, _NO_CLASS) for value in range(256)))

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels in _IDS and raster.bits <= 8 and raster.format not in _LOSSY

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster)
        values = np.array(self.ids, np.int16)[stored]
        _refuse(stored, values == _NO_CLASS, 'which is the id of no class')
        return Target(values.astype(np.uint8), values != VOID)


@dataclass(frozen=True)
class MaskOfIds(TargetDecoder):
    """A mask from stored ids: those in it, those outside, and those that do not count; there are no others."""

    expects: ClassVar[str] = ClassIds.expects
    inside: tuple[int, ...]
    outside: tuple[int, ...]
    void: tuple[int, ...] = ()

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels in _IDS and raster.bits <= 8 and raster.format not in _LOSSY

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster)
        known = (*self.inside, *self.outside, *self.void)
        _refuse(stored, ~np.isin(stored, known), f'expected {", ".join(map(str, sorted(known)))}')
        return Target(np.isin(stored, self.inside).astype(np.uint8), ~np.isin(stored, self.void))


@dataclass(frozen=True)
class NonZero(TargetDecoder):
    """A mask of all that is not 0, in any channel. Every pixel counts."""

    expects: ClassVar[str] = 'grey, a palette or RGB of whole numbers, stored without loss,'

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels in (*_IDS, 'RGB') and raster.format not in _LOSSY

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster) != 0
        values = stored if stored.ndim == 2 else stored.any(2)
        return Target(values.astype(np.uint8), np.ones(values.shape, bool))


@dataclass(frozen=True)
class FloatDepth(TargetDecoder):
    """Depth in metres as floating-point numbers. What is finite, above 0 and at most `most` counts.

    Values that do not count are 0.
    """

    expects: ClassVar[str] = 'one channel of floats (metres)'
    most: float | None = None

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels == 'float'

    def decode(self, content: bytes, raster: Raster) -> Target:
        values = stored_pixels(content, raster).astype(np.float32)
        valid = np.isfinite(values) & (values > 0)
        if self.most is not None:
            valid &= values <= self.most
        return Target(np.where(valid, values, np.float32(0)), valid)


@dataclass(frozen=True)
class WholeDepth(TargetDecoder):
    """Depth as whole numbers of 16 bits. 0 and `invalid` do not count; their values are 0.

    Args:
        per_metre: what a metre is stored as.
    """

    expects: ClassVar[str] = 'one channel of 16-bit whole numbers'
    per_metre: float
    invalid: int | None = None

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels == 'grey' and raster.bits == 16

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster)
        valid = stored > 0
        if self.invalid is not None:
            valid &= stored != self.invalid
        return Target(np.where(valid, stored / np.float32(self.per_metre), 0).astype(np.float32), valid)


@dataclass(frozen=True)
class RelativeDepth(TargetDecoder):
    """Depth as whole numbers of 16 bits, as a share of the largest of its image, from which the smallest share is taken
    off. What is above `most` counts as `most`, and every pixel counts.
    """

    expects: ClassVar[str] = WholeDepth.expects
    most: int

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels == 'grey' and raster.bits == 16

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster).clip(max=self.most)
        values = stored / np.float32(max(stored.max(), 1))
        return Target((values - values.min()).astype(np.float32), np.ones(values.shape, bool))


@dataclass(frozen=True)
class GreyLevels(TargetDecoder):
    """`(grey - shift) / scale`, grey from 0 to 1. Of an RGB file of 8 bits it is the luminance. Every pixel counts, or
    those above 0 (`positive`).
    """

    expects: ClassVar[str] = 'grey of 8 or 16 bits, or RGB of 8'
    shift: float = 0.0
    scale: float = 1.0
    positive: bool = False

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels == 'grey' and raster.bits in (8, 16) or raster.pixels == 'RGB' and raster.bits == 8

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = grey_pixels(content) if raster.pixels == 'RGB' else stored_pixels(content, raster)
        grey = stored / np.float32(2**raster.bits - 1)
        valid = grey > 0 if self.positive else np.ones(grey.shape, bool)
        return Target(((grey - self.shift) / self.scale).astype(np.float32), valid)


@dataclass(frozen=True)
class KittiFlow(TargetDecoder):
    """Optical flow as KITTI 2015 stores it (Menze and Geiger 2015): 16-bit RGB, u = (R - 32768) / 64, v = (G - 32768) /
    64, known where B is not 0. Elsewhere u and v are 0.
    """

    expects: ClassVar[str] = 'RGB of 16 bits (u, v, valid)'

    def accepts(self, raster: Raster) -> bool:
        return raster.pixels == 'RGB' and raster.bits == 16

    def decode(self, content: bytes, raster: Raster) -> Target:
        stored = stored_pixels(content, raster)
        valid = stored[..., 2] != 0
        flow = (stored[..., :2].astype(np.float32) - _FLOW_ZERO) / np.float32(_FLOW_SCALE)
        return Target(np.where(valid[..., None], flow, np.float32(0)), valid)


@dataclass(frozen=True)
class SameImage(TargetDecoder):
    """The image itself, by the rules of `decode_image`. Every pixel counts."""

    expects: ClassVar[str] = 'an image'

    def accepts(self, raster: Raster) -> bool:
        return True

    def decode(self, content: bytes, raster: Raster) -> Target:
        values = np.array(decode_image(content))
        return Target(values, np.ones(values.shape[:2], bool))


def _refuse(stored: np.ndarray, wrong: np.ndarray, why: str) -> None:
    if wrong.any():
        y, x = np.argwhere(wrong)[0]
        raise DataError(f'the pixel in column {x} of row {y} holds {stored[y, x]}, {why}.')
