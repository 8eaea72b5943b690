"""Whether an encoder is the one that a bank was made with: some images are encoded again and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
import torch
from pyarrow import compute
from torch import nn
from torch.nn.functional import cosine_similarity

from clear.core.checks import check_whole
from clear.core.errors import DataError
from clear.core.files import write_json
from clear.datasets.images.decode import UnreadableImage
from clear.datasets.table import ImageTable
from clear.features.bank import META_FILE, FeatureBank

LEAST = 0.999
COUNT = 32


@dataclass(frozen=True)
class Agreement:
    """What came out of encoding images of a bank again.

    Attributes:
        ids: of the images.
        cosines: (N,) between what is stored and what came out.
    """

    ids: list[str]
    cosines: np.ndarray

    @property
    def holds(self) -> bool:
        """Whether all agree."""
        return bool((self.cosines > LEAST).all())

    def describe(self) -> str:
        """One line."""
        agree = int((self.cosines > LEAST).sum())
        return (f'{agree} of {len(self.cosines)} images agree (cosine > {LEAST}), the least '
                f"{self.cosines.min():.4f} of '{self.ids[int(self.cosines.argmin())]}'")


@torch.no_grad()
def agreement(bank: FeatureBank, encoder: nn.Module, images: ImageTable | str | Path, count: int = COUNT
              ) -> Agreement:
    """Encode images of a bank again, at even distances over its rows, one by one.

    Args:
        images: a table, in which they are found by id, or the folder that the bank's paths are relative to.
        count: how many; images that cannot be read are passed over.

    Raises:
        DataError: if the bank has fewer features, or fewer of its images can be read, or the width is another.
    """
    check_whole('count', count, 1)
    if bank.dim != encoder.embed_dim:
        raise DataError(f'{bank.path} holds {bank.dim} numbers an image, the encoder gives {encoder.embed_dim}.')
    table = images if isinstance(images, ImageTable) else _table_of(bank, Path(images))
    places = compute.index_in(bank.index['id'], table['id'].cast(bank.index['id'].type))
    places = places.fill_null(-1).to_numpy(zero_copy_only=False)
    known = np.flatnonzero(bank.valid & (places >= 0))
    transform = encoder.preprocess.build()
    device = next(encoder.parameters()).device
    ids, cosines, reason = [], [], ''
    for row in _spread(known, count):
        try:
            image = table.open_image(int(places[row]))
        except UnreadableImage as error:
            reason = f"; '{table.text('id', int(places[row]))}': {error}"
            continue
        found = encoder(transform(image)[None].to(device)).float().cpu()
        stored = torch.from_numpy(np.array(bank.features[row], np.float32))[None]
        cosines.append(cosine_similarity(found, stored).item())
        ids.append(bank.index['id'][int(row)].as_py())
        if len(ids) == count:
            return Agreement(ids, np.array(cosines))
    raise DataError(f'{bank.path}: {len(ids)} of its images could be read in {table.root}, {count} are needed'
                    f'{reason}.')


def verify_bank(bank: FeatureBank, encoder: nn.Module, images: ImageTable | str | Path, count: int = COUNT
                ) -> Agreement:
    """`agreement`; if it holds, the bank's `meta.json` says `verified`, and by which encoder.

    Raises:
        DataError: as `agreement` does, if it does not hold, or the bank is part of a stage, whose files do not change.
    """
    if (bank.path.parent / 'receipt.json').exists():
        raise DataError(f'{bank.path} is part of a finished stage, whose files do not change. Verify it where it is '
                        'made: encoder=... of the stage that imports it.')
    found = agreement(bank, encoder, images, count)
    if not found.holds:
        raise DataError(f'{bank.path} is not of this encoder, or its images have changed: {found.describe()}. It stays '
                        'unverified.')
    bank.meta.update(verified=True, verified_by=dict(encoder=encoder.fingerprint(), images=count))
    write_json(bank.path / META_FILE, bank.meta)
    return found


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    """Rows at even distances, then all others in order."""
    if len(rows) <= count:
        return rows
    first = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(np.int64))
    return np.concatenate([rows[first], np.delete(rows, first)])


def _table_of(bank: FeatureBank, root: Path) -> ImageTable:
    ids, paths = (bank.index[name].cast(pyarrow.large_string()) for name in ('id', 'path'))
    return ImageTable(root, pyarrow.table(dict(id=ids, path=paths)))
