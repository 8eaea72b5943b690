"""What happens to an image and its target for pixels before an encoder sees them, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Self

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.errors import ConfigError, nearest
from clear.datasets.images.resize import INTERPOLATIONS, shorter_side_size

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

TARGETS_AT = ('input', 'original')


@dataclass(frozen=True)
class DenseRecipe:
    """Resize, scale, mirror, crop, colours, hole, in this order; what is None or 0 is left out.

    What is random is drawn once for a sample, so images and target move together; an image or a target is resized once.
    Colours change images alone, and the two frames of a pair in the same way.

    Args:
        size: (height, width) of every sample; or a whole number, the length of the shorter side.
        interpolation: of images, antialiased as PIL does it. Targets have rules of their own, see `geometry`.
        scale: (low, high) of a factor for both sides, drawn evenly.
        mirror: probability of left becoming right.
        crop: (height, width), or a side, of a random part after resizing. What lies beyond a smaller image is black,
            below and to the right, and never valid.
        crop_classes: `dict(least=2, tries=11)` draws a crop anew, at most `tries` times in all, until it has `least`
            classes.
        jitter: strengths of brightness, contrast, saturation and hue, as of torchvision's ColorJitter.
        gray: probability of grey, after the jitter.
        hole: (first, last): these rows and columns, `last` not among them, of the input become 0 after normalisation,
            which is the mean colour. The target keeps them.
        target_at: 'original' leaves the target at its own size, so that predictions are brought there; for evaluation.

    Raises:
        ConfigError: naming the key.
    """

    size: tuple[int, int] | int | None = None
    interpolation: str = 'bilinear'
    scale: tuple[float, float] | None = None
    mirror: float = 0.0
    crop: tuple[int, int] | None = None
    crop_classes: Mapping[str, int] | None = None
    jitter: tuple[float, float, float, float] | None = None
    gray: float = 0.0
    hole: tuple[int, int] | None = None
    target_at: str = 'input'

    def __post_init__(self):
        if isinstance(self.size, int):
            check_whole('recipe.size', self.size, 1)
        else:
            self._set('size', _sizes('size', self.size))
        self._set('crop', _sizes('crop', (self.crop, self.crop) if isinstance(self.crop, int) else self.crop))
        self._set('scale', _numbers('scale', self.scale, 2))
        self._set('jitter', _numbers('jitter', self.jitter, 4))
        self._set('hole', _numbers('hole', self.hole, 2))
        for name in ('mirror', 'gray'):
            self._set(name, check_number(f'recipe.{name}', getattr(self, name) or 0.0, 0, 1))
        check_choice('recipe.interpolation', self.interpolation, INTERPOLATIONS)
        check_choice('recipe.target_at', self.target_at, TARGETS_AT)
        self._check_ranges()
        if self.crop_classes is not None:
            self._set('crop_classes', dict(self.crop_classes))

    def _check_ranges(self) -> None:
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f'recipe.scale is {self.scale!r}; expected (low, high) with 0 < low <= high.')
        if self.jitter is not None and (min(self.jitter) < 0 or self.jitter[3] > 0.5):
            raise ConfigError(f'recipe.jitter is {self.jitter!r}; expected strengths of at least 0 of brightness, '
                              'contrast, saturation and hue, the last at most 0.5.')
        if self.hole is not None:
            low, high = (check_whole('recipe.hole', value, 0) for value in self.hole)
            if low >= high:
                raise ConfigError(f'recipe.hole is {self.hole!r}; expected (first, last) with first < last.')
            if self.is_one_size:
                self.check_hole(*(self.crop or self.size))
        if self.crop_classes is not None:
            if self.crop is None:
                raise ConfigError('recipe.crop_classes needs recipe.crop.')
            if not isinstance(self.crop_classes, Mapping) or {*self.crop_classes} != {'least', 'tries'}:
                raise ConfigError(f'recipe.crop_classes is {self.crop_classes!r}; expected dict(least=2, tries=11).')
            for key in ('least', 'tries'):
                check_whole(f'recipe.crop_classes.{key}', self.crop_classes[key], 1)
        if self.target_at == 'original' and (self.is_random or self.hole is not None):
            raise ConfigError("recipe.target_at='original' goes with recipe.size alone: a target cannot stay as it is "
                              'where its image is scaled, mirrored, cropped or has a hole.')

    def check_hole(self, height: int, width: int) -> None:
        """That the hole lies inside an image of this size.

        Raises:
            ConfigError: if it ends outside.
        """
        if self.hole is not None and self.hole[1] > min(height, width):
            raise ConfigError(f'recipe.hole is {self.hole!r}, which ends outside an image of {width} x {height} '
                              'pixels.')

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # lists come from configs and JSON

    @classmethod
    def of(cls, recipe: Options | DenseRecipe | None) -> Self:
        """From the dict of a config.

        Raises:
            ConfigError: for an unknown key or a value out of its range.
        """
        if isinstance(recipe, cls):
            return recipe
        if not isinstance(recipe or {}, Mapping):
            raise ConfigError(f'recipe is {recipe!r}; expected a dict.')
        known = [field.name for field in fields(cls)]
        for key in recipe or {}:
            if key not in known:
                raise ConfigError(f"recipe has no key '{key}'. Nearest: {nearest(key, known) or ', '.join(known)}.")
        return cls(**(recipe or {}))

    def to_dict(self) -> dict[str, Plain]:
        """What is not left out, as plain values; `DenseRecipe.of` gives an equal one back."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in plain.items() if value not in (None, 0.0)}

    @property
    def is_random(self) -> bool:
        """Whether a sample differs from epoch to epoch."""
        return any((self.scale, self.mirror, self.crop, self.jitter, self.gray))

    @property
    def is_one_size(self) -> bool:
        """Whether all samples have one size, whatever their images have."""
        return self.crop is not None or isinstance(self.size, tuple) and self.scale is None

    def for_eval(self) -> DenseRecipe:
        """The same without anything random: whole images, at `size` where there is one."""
        return replace(self, scale=None, mirror=0.0, crop=None, crop_classes=None, jitter=None, gray=0.0)

    def size_of(self, height: int, width: int, factor: float = 1.0) -> tuple[int, int]:
        """Height and width that an image is resized to, before a crop."""
        if isinstance(self.size, int):
            height, width = shorter_side_size(height, width, self.size)
        elif self.size is not None:
            height, width = self.size
        return (height, width) if factor == 1 else (max(1, round(height * factor)), max(1, round(width * factor)))


def _sizes(name: str, value: Sequence[int] | None) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ConfigError(f'recipe.{name} is {value!r}; expected (height, width), or one whole number.')
    return check_whole(f'recipe.{name}', value[0], 1), check_whole(f'recipe.{name}', value[1], 1)


def _numbers(name: str, value: Sequence[float] | None, count: int) -> tuple | None:
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or len(value) != count:
        raise ConfigError(f'recipe.{name} is {value!r}; expected {count} numbers.')
    return tuple(check_number(f'recipe.{name}', each) for each in value)
