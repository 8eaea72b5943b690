"""The training transform of an image tower: a random crop to its size, more or less colour, its own mean and std."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from clear.core.checks import check_choice, check_whole
from clear.registry import TRANSFORMS

AUGMENTATIONS = ('none', 'crop', 'crop_flip', 'light')


@TRANSFORMS.register_module()
class TowerAugment:
    """RGB image -> float tensor (3, crop, crop), drawn from torch's generator.

    | augmentation | what it draws |
    |---|---|
    | `none` | nothing: resize and central crop, as in evaluation |
    | `crop` | a crop of .9 ... 1 of the area (open_clip) |
    | `crop_flip` | that, and a flip for half of the images |
    | `light` | ProtoCLIP's: a crop of .5 ... 1 of the area, a flip, and what is below |

    `light` also draws, each for a fifth of the images: colour jitter of .8, .8, .8 and .2, grey, and a Gaussian blur of
    21 pixels with a sigma of .1 ... 2.

    An image tower's own values come from `encoder.train_transform()`.

    Args:
        crop: side of the output in pixels.
        augmentation: one of `AUGMENTATIONS`.
        resize: shorter side before the central crop of `none`; None is `crop`.
        interpolation: 'nearest', 'bilinear', 'bicubic' ... as PIL names them.
        mean, std: per channel in RGB order, for values 0 ... 1.
        channel_order: of the tensor, 'RGB' or 'BGR'.

    Raises:
        ConfigError: if a value is impossible.
    """

    def __init__(self, crop: int, augmentation: str = 'crop', resize: int | None = None,
                 interpolation: str = 'bicubic', mean: Sequence[float] = (0.48145466, 0.4578275, 0.40821073),
                 std: Sequence[float] = (0.26862954, 0.26130258, 0.27577711), channel_order: str = 'RGB'):
        from torchvision.transforms import InterpolationMode, v2

        check_whole('crop', crop, 1)
        check_choice('augmentation', augmentation, AUGMENTATIONS)
        check_choice('channel_order', channel_order, ('RGB', 'BGR'))
        self.augmentation, self.is_random = augmentation, augmentation != 'none'
        mode = InterpolationMode(interpolation)
        if augmentation == 'none':
            steps = [v2.Resize(resize or crop, mode), v2.CenterCrop(crop)]
        else:
            scale = (0.5, 1.0) if augmentation == 'light' else (0.9, 1.0)
            steps = [v2.RandomResizedCrop(crop, scale=scale, interpolation=mode)]
        if augmentation in ('crop_flip', 'light'):
            steps.append(v2.RandomHorizontalFlip())
        if augmentation == 'light':
            steps += [v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.2), v2.RandomGrayscale(0.2),
                      v2.RandomApply([v2.GaussianBlur(21)], 0.2)]
        self._steps = v2.Compose([*steps, v2.PILToTensor()])
        self._order = -1 if channel_order == 'BGR' else 1
        self._mean = torch.tensor(list(mean)[::self._order]).reshape(3, 1, 1)
        self._std = torch.tensor(list(std)[::self._order]).reshape(3, 1, 1)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        # RGB before the crop: a palette cannot be interpolated.
        pixels = self._steps(image.convert('RGB'))
        if self._order == -1:
            pixels = pixels.flip(0)
        return pixels.float().div_(255).sub_(self._mean).div_(self._std)

    def __repr__(self) -> str:
        return f'TowerAugment({self.augmentation})'
