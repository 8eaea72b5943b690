"""Several random views of one PIL image, as self-supervised methods want them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter
from torch import Tensor

from clear.core.errors import ConfigError
from clear.datasets.transforms.build import ImageTransform, build_transform
from clear.datasets.transforms.clsa_augment import CLSAStrongAugment
from clear.datasets.transforms.view_recipes import View, build_views
from clear.registry import TRANSFORMS

if TYPE_CHECKING:
    from clear.core.types import Options

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@TRANSFORMS.register_module()
class PILGaussianBlur:
    """PIL's Gaussian blur with sigma drawn from a range, in pixels; MoCo v2's, and not torchvision's, which cuts the
    kernel to a given size. Draws from the global generator of `random`.
    """

    is_random = True

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0)):
        if len(sigma) != 2 or not 0 <= sigma[0] <= sigma[1]:
            raise ValueError(f'sigma is {sigma!r}, expected (low, high) with 0 <= low <= high.')
        self.sigma = tuple(sigma)

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))

    def __repr__(self) -> str:
        return f'PILGaussianBlur(sigma={self.sigma})'


@TRANSFORMS.register_module()
class MultiCrop:
    """An RGB PIL image to a list of views, float32 (3, size, size), in the order of the recipe.

    Every view has its own crop and draws. All come from the global generators, which the data sets here seed for
    every sample; PIL and torchvision do the work, in their order. `BatchedMultiCrop` draws the same distribution
    faster.

    Args:
        recipe: 'moco_v1', 'moco_v2', 'simclr', 'byol', 'swav', 'dino', 'clsa' or 'clsa_multi', or a list of views.
        options: of the named recipe, e.g. `dict(size=32)`.
        changes: values set in every view, e.g. `dict(blur_prob=0.0)`.
        mean, std: per channel, for values in [0, 1].

    Raises:
        ConfigError: if the recipe or a value is wrong.
    """

    is_random = True

    def __init__(self, recipe: str | Sequence[View | Mapping] = 'moco_v2', options: Options | None = None,
                 changes: Options | None = None, mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD):
        check_normalisation(mean, std)
        self.views = build_views(recipe, options, changes)
        self.transforms = [view_transform(view, mean, std) for view in self.views]

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [transform(image) for transform in self.transforms]

    def __repr__(self) -> str:
        lines = '\n'.join(f'  {transform},' for transform in self.transforms)
        return f'MultiCrop(\n{lines}\n)'


def view_transform(view: View, mean: Sequence[float], std: Sequence[float]) -> ImageTransform:
    """The transforms of one view in turn, on a PIL image; steps of probability 0 are left out."""
    brightness, contrast, saturation, hue = view.jitter
    jitter = dict(type='ColorJitter', brightness=brightness, contrast=contrast, saturation=saturation, hue=hue)
    colours = [_maybe(jitter, view.jitter_prob)] if view.jitter_prob and any(view.jitter) else []
    grey = [dict(type='RandomGrayscale', p=view.grayscale_prob)] if view.grayscale_prob else []
    configs = [dict(type='RandomResizedCrop', size=view.size, scale=view.scale, ratio=view.ratio,
                    interpolation=view.interpolation)]
    configs += grey + colours if view.grayscale_first else colours + grey
    if view.blur_prob:
        configs.append(_maybe(dict(type='PILGaussianBlur', sigma=view.blur_sigma), view.blur_prob))
    if view.solarize_prob:
        configs.append(dict(type='RandomSolarize', threshold=view.solarize_threshold, p=view.solarize_prob))
    if view.flip_prob:
        configs.append(dict(type='RandomHorizontalFlip', p=view.flip_prob))
    steps: list[Callable] = build_transform(configs, 'view').steps
    if view.strong_ops:
        steps.append(CLSAStrongAugment(view.strong_ops, view.strong_max_level, view.strong_prob))
    last = build_transform([dict(type='ToTensor'), dict(type='Normalize', mean=list(mean), std=list(std))], 'view')
    return ImageTransform([*steps, *last.steps], is_random=True)


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Raise ConfigError unless mean and std have a usable number for each of three channels."""
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError(f'mean is {mean} and std {std}; expected three numbers each, std above 0.')


def _maybe(config: dict, probability: float) -> dict:
    return config if probability == 1 else dict(type='RandomApply', transforms=[config], p=probability)
