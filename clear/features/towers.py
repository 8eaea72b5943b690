"""Banks of what a locked tower gives in training: of fixed images, or of texts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.core.seeding import seeded_draws
from clear.datasets.loaders.stored import FixedImages, FixedTransform, StoredRows
from clear.features.extract import extract
from clear.features.identity import Identity, bank_path, fingerprint_of, identity_of
from clear.features.texts import extract_texts, text_identity

if TYPE_CHECKING:
    from clear.core.types import Plain
    from clear.features.bank import FeatureBank
    from clear.models.towers.base import Tower


class PreparedTower(nn.Module):
    """An image tower whose images are prepared as a data set prepares them, not as the tower would."""

    def __init__(self, tower: Tower, transform: FixedTransform):
        super().__init__()
        self.tower = tower
        self.preprocess = transform
        self.embed_dim = tower.embed_dim
        self.config: dict[str, Plain] | None = tower.config

    def forward(self, images: Tensor) -> Tensor:
        return self.tower(images)

    def fingerprint(self) -> str:
        """That of the tower; the transform is another part of a bank's identity."""
        return self.tower.fingerprint()


@dataclass(eq=False)
class TowerBank:
    """The bank, in float32, of what a tower gives for inputs that are the same in every epoch.

    Attributes:
        place: the folder, named by the fingerprint, so that other weights or inputs have another one.
    """

    tower: Tower
    inputs: FixedImages | list[str]
    identity: Identity
    place: Path

    @classmethod
    def of(cls, tower: Tower, inputs: FixedImages | list[str], root: str | Path) -> TowerBank:
        """Name the bank; hashes the weights and the inputs, encodes nothing."""
        if isinstance(inputs, FixedImages):
            identity = identity_of(PreparedTower(tower, inputs.transform), inputs.table, dtype='float32',
                                   data_hash=inputs.fingerprint)
            return cls(tower, inputs, identity, bank_path(tower, inputs.table, identity, root))
        identity = text_identity(tower, inputs)
        place = Path(root) / f'texts_{type(tower).__name__}_{fingerprint_of(identity)[:16]}'
        return cls(tower, inputs, identity, place)

    def __len__(self) -> int:
        return len(self.inputs.table if isinstance(self.inputs, FixedImages) else self.inputs)

    def describe(self) -> str:
        """Where it is, and what it takes if it is not there."""
        if self.place.is_dir():
            state = 'found again'
        else:
            size = len(self) * self.tower.embed_dim * np.dtype(np.float32).itemsize / 2**20
            begun = ', begun already' if Path(f'{self.place}.partial').is_dir() else ''
            unit = 'images' if isinstance(self.inputs, FixedImages) else 'distinct texts'
            state = f'{len(self)} {unit} to encode{begun}, {size:,.1f} MiB'
        return f'{self.place} ({state})'

    def make(self, device: torch.device, num_workers: int = 0) -> StoredRows:
        """Make it, or open it if it is there; no generator of the caller moves. Every process calls this.

        Raises:
            DataError: see `extract`.
        """
        logger.info('features  %s', self.describe())
        with seeded_draws(0), evaluation_mode(self.tower):
            bank = self._extract(device, num_workers)
        return StoredRows(bank.features, {record['row']: record['reason'] for record in bank.bad_samples()})

    def _extract(self, device: torch.device, num_workers: int) -> FeatureBank:
        if isinstance(self.inputs, FixedImages):
            return extract(PreparedTower(self.tower, self.inputs.transform), self.inputs.table, self.place,
                           identity=self.identity, device=device, num_workers=num_workers,
                           max_bad_fraction=self.inputs.max_bad_fraction)
        return extract_texts(self.tower.to(device), self.inputs, self.place, identity=self.identity)
