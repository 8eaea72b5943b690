"""A bucket whose small images lie in memory as one tensor and are cropped and flipped by batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from clear.datasets.images.decode import UnreadableImage
from clear.datasets.loaders.buckets import BucketDataset
from clear.datasets.transforms.batched_crops import batched_crops

# Images of more pixels cost more in one process than in the workers of a loader.
MAX_PIXELS = 2**14


class CroppedImages(BucketDataset):
    """A `BucketDataset` that also gives many samples at once, equal to its samples one by one.

    That is so for `cache='ram'` and a transform of fixed steps, random crops and flips (see `batched_crops`), where all
    images can be read and have one size, of at most 128 x 128 pixels.
    """

    @functools.cached_property
    def pixels(self) -> Tensor | None:
        """(N, C, H, W) uint8, behind the steps that are the same in every epoch; None where the bucket is of another
        kind. Decodes every image, once.
        """
        if self.cache != 'ram' or self._crops is None:
            return None
        fixed, pixels = self._crops[0], None
        for row in range(len(self)):
            try:
                image = fixed(self.read(row))
            except UnreadableImage:
                return None  # reported where it is asked for, and another one stands in
            if not isinstance(image, Image.Image):  # behind ToImage, say
                return None
            image = F.pil_to_tensor(image)
            if pixels is None:
                if image.dtype != torch.uint8 or image[0].numel() > MAX_PIXELS:
                    return None
                pixels = image.new_empty(len(self), *image.shape)
            if image.shape != pixels.shape[1:]:
                return None
            pixels[row] = image
        return pixels

    @functools.cached_property
    def _crops(self):
        return batched_crops(self.transform)

    def finish(self, pixels: Tensor, ids: Sequence[str]) -> Tensor:
        """The samples of these images, with the draws of their ids at this point of training.

        Shape:
            pixels: (B, C, H, W), of `pixels`   returns: (B, C, h, w)
        """
        return self._crops[1](pixels, [self.context.seed_of('augment', each) for each in ids])
