"""Which blocks of two encoders see images alike: linear CKA of every pair (Kornblith et al. 2019)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError, nearest
from clear.core.progress import progress
from clear.evaluation.metrics.cka import BlockCKA
from clear.features.build import make_encoder
from clear.features.loading import image_batches

if TYPE_CHECKING:
    from clear.datasets.table import ImageTable

BLOCKS = ('stem', 'stage 1', 'stage 2', 'stage 3', 'stage 4', 'embedding')


def pairs_of(cfg: dict, names: Sequence[str] | None = None) -> list[tuple[str, str]]:
    """Every pair of the encoders of a probing config, or of those that are named; one alone is its own pair.

    Raises:
        ConfigError: for a name that is none of them, or a name given twice.
    """
    known = cfg.get('encoders') or {}
    names = list(known) if names is None else list(names)
    for name in names:
        if name not in known:
            raise ConfigError(f"No encoder of the config is called '{name}'. Nearest: "
                              f'{nearest(name, known) or ", ".join(known) or "none"}.')
        if 'bank' in known[name]:
            raise ConfigError(f'encoders.{name} is a folder of banks; blocks are read from encoders.')
    if len({*names}) < len(names) or not names:
        raise ConfigError(f'encoders are {names}; expected different ones.')
    return list(itertools.combinations(names, 2)) if len(names) > 1 else [(names[0], names[0])]


class BlockComparison:
    """The alignments of two encoders over the images of a table, each prepared as the encoder wants it.

    Args:
        max_images: the first so many rows; None = all.

    Raises:
        ConfigError: for an encoder without maps.
    """

    def __init__(self, first: dict | nn.Module, second: dict | nn.Module, *, device: torch.device | str = 'cpu'):
        with building('An encoder'):
            self._encoders = [make_encoder(cfg).to(device) for cfg in (first, second)]
        self._device = device
        for encoder in self._encoders:
            encoder.map_channels  # noqa: B018 - found at the first look, and refused before any image is read

    @torch.no_grad()
    def run(self, images: ImageTable, *, batch_size: int = 64, max_images: int | None = None, num_workers: int = 0
            ) -> Tensor:
        """(6, 6) float64: blocks of the first by blocks of the second, in the order of `BLOCKS`.

        Raises:
            DataError: if fewer than two images can be read, or a block is the same for all.
        """
        count = len(images) if max_images is None else min(len(images), check_whole('max_images', max_images, 2))
        size = check_whole('batch_size', batch_size, 1)
        batches = [range(start, min(start + size, count)) for start in range(0, count, size)]
        streams = [image_batches(images, encoder.preprocess, batches, num_workers=num_workers)
                   for encoder in self._encoders]
        found, used = BlockCKA(), 0
        for parts in progress(zip(*streams), total=len(batches), desc='blocks'):
            good = [place for place, row in enumerate(parts[0].rows) if not any(row in each.reasons for each in parts)]
            if good:
                found.update(*(self._blocks(encoder, part.images[good]) for encoder, part in
                               zip(self._encoders, parts)))
                used += len(good)
        try:
            return found.values().cpu()
        except ValueError as error:
            raise DataError(f'{images.root}: of {used} images that can be read: {error}') from error

    def _blocks(self, encoder: nn.Module, images: Tensor) -> list[Tensor]:
        images = images.to(self._device)
        return [*encoder.feature_maps(images), encoder(images)]
