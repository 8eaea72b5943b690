"""Maps of a frozen encoder, stored once for all epochs, heads and settings, within a budget of disk space."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from clear.core.modes import evaluation_mode
from clear.core.types import Options
from clear.datasets.dense.recipe import DenseRecipe
from clear.datasets.dense.samples import DenseSamples
from clear.datasets.dense.targets import DenseTable
from clear.evaluation.dense.inputs.feeds import StoredFeed
from clear.evaluation.dense.inputs.map_room import hold, in_turn, make_room
from clear.evaluation.dense.inputs.maps import MapEncoder
from clear.features import FeatureBank, extract
from clear.features.identity import ROOT, Identity, bank_path, identity_of

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = 'pixel_maps'  # below the folder of banks


def can_store(recipe: DenseRecipe) -> bool:
    """Whether the images of a recipe are the same in every epoch, and of one size."""
    return not recipe.is_random and recipe.is_one_size


@dataclass(frozen=True, eq=False)
class Storable:
    """Images whose maps can be stored: how they are prepared, and which rows of the table they are, ascending."""

    samples: DenseSamples
    rows: np.ndarray

    @property
    def images(self) -> DenseTable:
        table = self.samples.table
        return table if len(self.rows) == len(table) else table.select(self.rows)


@dataclass(frozen=True)
class MapCache:
    """Finds or makes banks of maps.

    Args:
        encode: what to store.
        dtype: 'float16', or 'float32' for the very values that an encoder gives.
        storage: what a config says of banks: root, batch_size, max_bad_fraction.
    """

    encode: MapEncoder
    device: torch.device
    dtype: str = 'float16'
    storage: Options = field(default_factory=dict)
    num_workers: int = 0

    def over_budget(self, wanted: Iterable[Storable], budget_gb: float) -> str:
        """Why these images do not fit into a budget of 10^9 bytes; empty if they do. Nothing is encoded but one image.
        """
        different = {id(each): each for each in wanted}.values()
        needed = sum(self._bytes_of(each) for each in different) / 1e9
        if needed <= budget_gb:
            return ''
        count = sum(len(each.rows) for each in different)
        levels = ', '.join(map(str, self.encode.levels))
        return (f'the maps of {count:,} images, levels {levels} in {self.dtype}, take {needed:.3g} GB, more than '
                f'budget_gb = {budget_gb:g}.')

    def _bytes_of(self, wanted: Storable) -> int:
        images = torch.zeros(1, 3, *wanted.samples.recipe.size, device=self.device)
        with evaluation_mode(self.encode):
            maps = self.encode(images)
        per_image = sum(value.numel() for value in maps if value is not None)
        return len(wanted.rows) * per_image * np.dtype(self.dtype).itemsize

    def feeds(self, wanted: Mapping[str, Storable], budget_gb: float) -> dict[str, StoredFeed]:
        """The maps of these images, and targets that go with them; banks are made now unless they are there.

        Others that no process reads are deleted where all together would take more than the budget.

        Raises:
            DataError: as `clear.features.extract`.
            BusyError: if what others read takes the room, or they make the same bank now.
        """
        made = {id(each): self._planned(each) for each in wanted.values()}
        room = {plan.path: plan.size for plan in made.values()}
        self.root.mkdir(parents=True, exist_ok=True)
        with in_turn(self.root):
            make_room(self.root, room, round(budget_gb * 1e9))
        banks = {key: self._bank(plan) for key, plan in made.items()}
        feeds = {}
        for name, each in wanted.items():
            of = each.samples
            targets = DenseSamples(of.table, of.recipe, of.preprocess, train=False, targets_only=True,
                                   max_bad_fraction=of.max_bad_fraction)
            feeds[name] = StoredFeed(targets, banks[id(each)], each.rows, self.device, self.num_workers)
        return feeds

    def _planned(self, wanted: Storable) -> _Planned:
        encoder, images = RecipeEncoder(self.encode, wanted.samples), wanted.images
        identity = identity_of(encoder, images, dtype=self.dtype, maps=list(self.encode.levels))
        return _Planned(encoder, images, identity, bank_path(encoder, images, identity, self.root),
                        self._bytes_of(wanted))

    def _bank(self, plan: _Planned) -> FeatureBank:
        """The maps of images as samples have them, kept from being deleted as long as the bank is referred to.

        Raises:
            DataError: as `clear.features.extract`; for a bank of another encoder, recipe or data in its place, too.
        """
        options = {name: value for name, value in self.storage.items() if name not in ('root', 'dtype')}
        while True:
            bank = extract(plan.encoder, plan.images, root=self.root, identity=plan.identity, dtype=self.dtype,
                           maps=list(self.encode.levels), device=self.device, num_workers=self.num_workers, **options)
            with in_turn(self.root):
                if hold(bank, bank):
                    return bank

    @property
    def root(self) -> Path:
        """The folder of all banks of maps."""
        return Path(self.storage.get('root', ROOT)) / FOLDER


@dataclass(frozen=True)
class _Planned:
    """A bank that is to be there: what it is made of, where it lies, and the bytes of its maps."""

    encoder: RecipeEncoder
    images: DenseTable
    identity: Identity
    path: Path
    size: int


class RecipeEncoder(nn.Module):
    """An encoder that a bank of maps is made with: images are prepared by a recipe, and there is no embedding."""

    embed_dim = 1

    def __init__(self, encode: MapEncoder, samples: DenseSamples):
        super().__init__()
        self.encode = encode.eval()
        self.preprocess = _RecipePreprocess(samples)
        self.config = dict(type=type(encode.encoder).__name__, **self.preprocess.to_dict())

    def fingerprint(self) -> str:
        """That of the encoder, of what makes another last map, and of whether maps are resampled."""
        made = ('' if self.encode.stage is None else 'dilated fourth stage') + (' native' if self.encode.native else '')
        text = f'pixel maps {self.encode.encoder.fingerprint()} {made}'
        return f'sha256:{hashlib.sha256(text.encode()).hexdigest()}'

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), self.embed_dim)

    def feature_maps(self, images: Tensor) -> list[Tensor | None]:
        return self.encode(images)


class _RecipePreprocess:
    """How samples prepare an image, in the place of an encoder's own preparation."""

    resize = None  # of the shorter side, as a `Preprocess` has it

    def __init__(self, samples: DenseSamples):
        self.samples = samples

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of what the encoder gets."""
        return self.samples.recipe.size

    def build(self) -> Callable[[Image], Tensor]:
        """PIL image -> (3, H, W)."""
        return self.samples.prepared

    def to_dict(self) -> dict[str, object]:
        """Plain values, by which a bank is known; where a target goes is nothing to an image."""
        spec = self.samples.preprocess
        return dict(recipe=replace(self.samples.recipe, target_at='input').to_dict(), mean=list(spec.mean),
                    std=list(spec.std), channel_order=spec.channel_order)
