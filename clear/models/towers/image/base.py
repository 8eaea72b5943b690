"""The contract of every image encoder: images in, one embedding each or five maps out, frozen or trainable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.modes import evaluation_mode
from clear.models.towers.base import Tower, load_tower_weights
from clear.models.towers.image.maps import MapSource, collect, find_maps
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.image.strip import fitting_images, pool, strip_classifier

if TYPE_CHECKING:
    from clear.core.types import Options, Plain


class ImageEncoder(Tower):
    """An image network without its classifier. The makers below it differ only in where they get the network.

    `fingerprint()` names the network and its weights, wherever the file lay that they came from; whether they train
    is no part of it.

    Args:
        model: images (N, 3, H, W) -> logits, embedding or maps.
        preprocess: what to do to an image first.
        weights: a file; `dict(path=..., source=..., prefix_map=..., min_matched=...)` with the options of
            `load_weights`, and `origin`, where to get the file if it is missing; `'package:efficientnet-lite0'`; or
            None for random ones. Nothing is ever downloaded.
        classifier: see `strip_classifier`.
        identity: what makes the network besides its weights, in plain values without paths.
        trainable: False for a frozen network: no gradients, in eval mode whatever `train()` says. True for one that
            trains (alignment, fine-tuning); it begins in eval mode. A dict locks a part: see `Tower.set_trainable`.

    Attributes:
        config: what `build_encoder` built it from, in plain values; None if something else did. Of weights it has only
            the file's name, since it travels with feature banks.
        augmentation: what `train_transform` draws if nothing else is said.

    Shape:
        images: (N, 3, H, W), prepared as `preprocess` says   returns: (N, embed_dim), float32

    Raises:
        ConfigError: if the classifier cannot be taken off.
        CheckpointError: if the weights do not fit.
    """

    augmentation = 'crop_flip'

    def __init__(self, model: nn.Module, *, preprocess: Preprocess, weights: str | Path | Mapping | None = None,
                 classifier: str | Iterable[str] | None = 'auto', identity: Options,
                 trainable: bool | Options = False):
        super().__init__()
        self.preprocess = preprocess
        stripped = strip_classifier(model, preprocess.crop, classifier=classifier)
        self.embed_dim = stripped.embed_dim
        self.removed = stripped.removed
        self.load_report = load_tower_weights(model, weights, stripped.removed)
        self.model = model
        self._identity = dict(identity, removed=list(self.removed), preprocess=preprocess.to_dict())
        self._sources: tuple[MapSource, ...] | None = None
        self.set_trainable(trainable)

    def forward(self, images: Tensor) -> Tensor:
        pooled = pool(self.model(images))
        return pooled.to(torch.promote_types(pooled.dtype, torch.float32))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Five maps (N, C_i, H_i, W_i), strides 2, 4, 8, 16 and 32, float32; `map_channels` has their C_i.

        Where they are taken from is found at the first call, by one image of random pixels (see `find_maps`).

        Raises:
            ConfigError: if the network has no maps.
        """
        return collect(self.model, images, self.map_sources)

    def native_maps(self, images: Tensor) -> list[Tensor]:
        """The same maps, each at the stride at which the network has it: every token of a plain transformer.

        Raises:
            ConfigError: if the network has no maps.
        """
        return collect(self.model, images, self.map_sources, resampled=False)

    def train_transform(self, augmentation: str | None = None) -> dict[str, Plain]:
        """Config of the transform to train with: `TowerAugment` with this tower's size, interpolation, mean and std.

        Args:
            augmentation: `'none'`, `'crop'`, `'crop_flip'` or `'light'`; None is `self.augmentation`.
        """
        spec = self.preprocess
        return dict(type='TowerAugment', crop=spec.crop, resize=spec.resize, interpolation=spec.interpolation,
                    mean=spec.mean, std=spec.std, channel_order=spec.channel_order,
                    augmentation=augmentation or self.augmentation)

    def _probe(self) -> Tensor:
        return self(fitting_images(self.model, self.preprocess.crop))

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the five maps, fine to coarse."""
        return tuple(source.channels for source in self.map_sources)

    @property
    def map_sources(self) -> tuple[MapSource, ...]:
        """Which module gives each map."""
        if self._sources is None:
            images = torch.randn(1, 3, self.preprocess.crop, self.preprocess.crop,
                                 generator=torch.Generator().manual_seed(0))
            value = next(self.model.parameters(), images)
            with evaluation_mode(self.model):  # BatchNorm must not learn from noise.
                self._sources = find_maps(self.model, images.to(value.device, value.dtype))
        return self._sources
