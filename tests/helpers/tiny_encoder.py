"""An encoder by contract, small enough for tests, and folders of images to encode."""

import hashlib
import time

import numpy as np
import torch
from PIL import Image
from torch import nn

from clear.models.towers.image import Preprocess


class TinyEncoder(nn.Module):
    """One convolution, averaged. Counts its forward passes; `pause_s` makes a pass slow enough to be killed in."""

    def __init__(self, seed=0, embed_dim=6, crop=8, pause_s=0.0, scale=1.0, mean=0.5):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, embed_dim, 3, stride=2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * scale
        self.embed_dim = embed_dim
        self.map_channels = (embed_dim,) * 5
        self.preprocess = Preprocess(resize=crop, crop=crop, mean=(mean,) * 3, std=(0.25,) * 3)
        self.pause_s = pause_s
        self.num_forwards = 0
        self.requires_grad_(False)
        self.eval()

    def forward(self, images):
        self.num_forwards += 1
        time.sleep(self.pause_s)
        return self.conv(images).mean((2, 3))

    def feature_maps(self, images):
        fine = self.conv(images)
        return [nn.functional.avg_pool2d(fine, 1 + level % 3) for level in range(5)]

    def fingerprint(self):
        return hashlib.sha256(b''.join(p.numpy().tobytes() for p in self.parameters())).hexdigest()


def write_images(folder, count=20, size=12, classes=('bus', 'field hockey')):
    """PNG files `folder/<class>/<number>.png`, classes in turn; returns the folder."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / classes[number % len(classes)] / f'{number:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
    return folder


def content(folder):
    """Every file below a folder: relative path -> bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob('*'))
            if path.is_file()}
