"""What an encoder wants done to an image before it sees it, as plain values and as a transform."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from clear.core.checks import check_choice, check_flag
from clear.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'lanczos', 'box', 'hamming')
# Without antialiasing torch does the resizing, which knows fewer ways.
_PLAIN_INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic')
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop and normalise, in the order in which torchvision's evaluation transforms do it.

    Args:
        resize: length of the shorter side in pixels before the crop; None leaves the image's size.
        crop: side of the central square in pixels, the size that the encoder gets. Smaller images are padded with
            black, which only `resize=None` can need.
        interpolation: one of `INTERPOLATIONS`.
        mean, std: per channel in RGB order, for values 0 ... 1.
        channel_order: of the tensor, 'RGB' or 'BGR'.
        antialias: whether shrinking averages over all pixels. PIL always does; False resizes with torch.
        squash: bring the whole image to the square of `crop`, whatever its shape, in place of resize and crop.

    Raises:
        ConfigError: if a value is impossible.
    """

    resize: int | None = 256
    crop: int = 224
    interpolation: str = 'bilinear'
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = 'RGB'
    antialias: bool = True
    squash: bool = False

    def __post_init__(self):
        for name in ('mean', 'std'):  # Lists come from configs and JSON.
            object.__setattr__(self, name, _three_numbers(name, getattr(self, name)))
        if not all(value > 0 for value in self.std):
            raise ConfigError(f'preprocess.std is {self.std}, expected numbers above 0.')
        if not _is_size(self.crop) or not (self.resize is None or _is_size(self.resize)):
            raise ConfigError(f'preprocess: resize is {self.resize!r} and crop {self.crop!r}, expected pixels '
                              '(resize may be None).')
        if self.resize is not None and self.resize < self.crop:
            raise ConfigError(f'preprocess: the crop of {self.crop} pixels is larger than the shorter side after '
                              f'resizing, {self.resize}: every image would get a black border.')
        known = INTERPOLATIONS if self.antialias else _PLAIN_INTERPOLATIONS
        if self.interpolation not in known:
            raise ConfigError(f'preprocess.interpolation is {self.interpolation!r}, expected one of {known} with '
                              f'antialias={self.antialias}.')
        check_choice('preprocess.channel_order', self.channel_order, ('RGB', 'BGR'))
        check_flag('preprocess.squash', self.squash)

    def to_dict(self) -> dict[str, Plain]:
        """Plain values for JSON; `Preprocess(**value)` gives an equal one back.

        `squash` is there where it is True: banks are named by these values, and older ones know nothing of it.
        """
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
                if key != 'squash' or value}

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the encoder gets."""
        return self.crop, self.crop

    def build(self) -> ApplyPreprocess:
        """The transform: RGB PIL image -> float tensor (3, crop, crop)."""
        return ApplyPreprocess(self)

    def changed(self, override: Options | Preprocess | None) -> Preprocess:
        """This one with some values replaced.

        Raises:
            ConfigError: if a key is unknown or a value impossible.
        """
        if override is None:
            return self
        if isinstance(override, Preprocess):
            return override
        if not isinstance(override, Mapping):
            raise ConfigError(f'preprocess must be a dict, got {override!r}.')
        known = [field.name for field in fields(self)]
        for key in override:
            if key not in known:
                raise ConfigError(f"preprocess has no key '{key}'. Nearest: {nearest(key, known) or known}.")
        return replace(self, **override)


class ApplyPreprocess:
    """The transform that a `Preprocess` describes; deterministic, and can be sent to worker processes."""

    is_random = False

    def __init__(self, spec: Preprocess):
        self.spec = spec
        order = -1 if spec.channel_order == 'BGR' else 1
        self._mean = torch.tensor(spec.mean[::order]).reshape(3, 1, 1)
        self._std = torch.tensor(spec.std[::order]).reshape(3, 1, 1)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        from torchvision.transforms import functional

        image = image.convert('RGB')
        image = self._resize(image if self.spec.antialias else functional.pil_to_tensor(image))
        image = functional.center_crop(image, [self.spec.crop, self.spec.crop])
        pixels = image if isinstance(image, torch.Tensor) else functional.pil_to_tensor(image)
        if self.spec.channel_order == 'BGR':
            pixels = pixels.flip(0)
        # In place: the same numbers without three more arrays per image.
        return pixels.float().div_(255).sub_(self._mean).div_(self._std)

    def __repr__(self) -> str:
        return f'ApplyPreprocess({self.spec})'

    def _resize(self, image: Image.Image | torch.Tensor) -> Image.Image | torch.Tensor:
        from torchvision.transforms import InterpolationMode, functional

        if self.spec.resize is None and not self.spec.squash:
            return image
        size = [self.spec.crop, self.spec.crop] if self.spec.squash else [self.spec.resize]
        return functional.resize(image, size, InterpolationMode(self.spec.interpolation),
                                 antialias=self.spec.antialias)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _three_numbers(name: str, values: object) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(math.isfinite(value) for value in numbers):
        raise ConfigError(f'preprocess.{name} is {values!r}, expected three numbers.')
    return numbers
