"""Features that somebody else's model gave for the pairs of a training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import ConfigError
from clear.datasets import ImageTextPairs
from clear.features.bank import FeatureBank

WHERE = 'PrototypeHook.external_teacher'


class ExternalTeacher:
    """A feature for each sample of a data set: a matrix in a `.npy` file, mapped into memory, or a feature bank.

    A file has a row for each sample, in the order of the data set. A bank is of its images, by their ids, or of its
    texts, if each sample has a single caption.

    Raises:
        ConfigError: if there is no such file or bank, it holds no matrix of floating-point numbers, or it lacks a row
            for a sample.
    """

    def __init__(self, path: str | Path, dataset: ImageTextPairs):
        self.path = Path(path)
        if self.path.is_dir():
            bank = FeatureBank.open(self.path)
            self._features, self._rows = bank.features, _rows_in(bank, dataset)
            return
        try:
            # Not np.load, which would take an archive of several matrices.
            self._features = np.lib.format.open_memmap(self.path, mode='r')
        except (OSError, ValueError) as error:
            raise ConfigError(f'{WHERE} {self.path} is neither a .npy file nor a feature bank: {error}') from error
        self._rows = np.arange(len(dataset))
        shape = self._features.shape
        if len(shape) != 2 or not np.issubdtype(self._features.dtype, np.floating):
            raise ConfigError(f'{WHERE} {self.path} holds {self._features.dtype} {tuple(shape)}, expected '
                              'floating-point numbers (samples, width).')
        if shape[0] != len(dataset):
            raise ConfigError(f'{WHERE} {self.path} has {shape[0]:,} rows, the training data {len(dataset):,} samples; '
                              'it needs a row for each, in their order.')

    def take(self, samples: Sequence[int]) -> Tensor:
        """(N, D) float32 of the given samples."""
        return torch.from_numpy(np.array(self._features[self._rows[np.asarray(samples)]], dtype=np.float32))


def _rows_in(bank: FeatureBank, dataset: ImageTextPairs) -> np.ndarray:
    """Which row of a bank each sample has."""
    rows = {name: row for row, name in enumerate(bank.column('id'))}
    ids = dataset.images.texts('id')
    if ids[0] in rows:
        return _looked_up(rows, [ids[row] for row in dataset.image_rows], bank, 'image')
    captions = dataset.own_captions()
    if captions is None:
        raise ConfigError(f"{WHERE} {bank.path} has no image '{ids[0]}', and as a bank of texts it cannot be read: "
                          'some images have several captions. every_caption=True makes each a sample.')
    return _looked_up(rows, captions, bank, 'image or text')


def _looked_up(rows: Mapping[str, int], names: Sequence[str], bank: FeatureBank, what: str) -> np.ndarray:
    missing = next((name for name in names if name not in rows), None)
    if missing is not None:
        raise ConfigError(f"{WHERE} {bank.path} has no {what} '{missing}', which the training data have.")
    return np.array([rows[name] for name in names])
