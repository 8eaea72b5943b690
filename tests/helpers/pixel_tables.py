"""Small images with a target for every pixel that colours give away, and an encoder with five maps for them."""

import hashlib

import numpy as np
import torch
from PIL import Image
from torch import nn

from clear.datasets.dense.decoders import ClassIds, NonZero
from clear.datasets.dense.targets import DenseTable
from clear.models.towers.image import Preprocess

SIZE = 16
COLOURS = np.array([[40, 40, 40], [220, 60, 50], [50, 200, 80]], np.uint8)


class StridedEncoder(nn.Module):
    """Five maps of strides 2 ... 32, the first of the image itself. Counts the images that it sees."""

    def __init__(self, seed=0, width=4, crop=SIZE):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(width, 3, 2, 2, generator=generator), requires_grad=False)
        self.embed_dim, self.map_channels = width, (width,) * 5
        self.preprocess = Preprocess(resize=crop, crop=crop, mean=(0.5,) * 3, std=(0.25,) * 3)
        self.num_images = 0
        self.eval()

    def forward(self, images):
        return self.feature_maps(images)[0].mean((2, 3))

    def feature_maps(self, images):
        self.num_images += len(images)
        value = nn.functional.conv2d(images, self.weight, stride=2)
        return [nn.functional.adaptive_avg_pool2d(value, max(1, value.shape[2] // 2**level)) for level in range(5)]

    def fingerprint(self):
        return hashlib.sha256(self.weight.detach().numpy().tobytes()).hexdigest()


def class_table(root, count=12, kind='classes', size=SIZE, seed=0, frames=1):
    """Rectangles of two colours on a third one; `kind` is 'classes' (three, the last row void) or 'mask'."""
    rng = np.random.default_rng(seed)
    names = []
    for number in range(count):
        ids = np.zeros((size, size), np.uint8)
        for value in (1, 2):
            top, left = rng.integers(0, size // 2, 2)
            ids[top:top + size // 2, left:left + size // 2] = value
        noise = rng.integers(-20, 21, (size, size, 3))
        image = np.clip(COLOURS[ids].astype(int) + noise, 0, 255).astype(np.uint8)
        ids[-1] = 255 if kind == 'classes' else ids[-1]
        names.append(f'{number:03}.png')
        for folder, pixels in (('images', image), ('masks', ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / names[-1])
    columns = dict(path=[f'images/{name}' for name in names],
                   mask=[f'masks/{name}' if row % frames == 0 else None for row, name in enumerate(names)])
    if frames > 1:
        columns['clip'] = [f'clip {row // frames}' for row in range(count)]
    decode = ClassIds.of({0: 0, 1: 1, 2: 2}) if kind == 'classes' else NonZero()
    return DenseTable.from_columns(root, columns, target_kind=kind, decode=decode,
                                   target_names=('ground', 'red', 'green') if kind == 'classes' else ())
