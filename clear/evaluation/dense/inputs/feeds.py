"""Where a head's input comes from: an encoder batch by batch, or maps that were stored before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clear.core.modes import evaluation_mode
from clear.datasets.dense.samples import DenseBatch, DenseSamples, batches
from clear.evaluation.dense.inputs.maps import MapEncoder
from clear.evaluation.dense.sliding import SlidingWindows
from clear.evaluation.heads.pixelwise import NUM_MAPS
from clear.features import FeatureBank


@dataclass(frozen=True, eq=False)
class Fed:
    """A batch on the device.

    Attributes:
        inputs: maps, see `MapEncoder`, or images.
        values: targets and valid: (B, H, W), pixels that count; see `DenseBatch`.
        rows: (B,) of the table.
    """

    inputs: list[Tensor | None] | Tensor
    values: Tensor
    valid: Tensor
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the targets."""
        return tuple(self.valid.shape[-2:])


class Feed(Protocol):
    """Batches of one split, and what a model makes of them."""

    def batches(self, rows: Sequence[int], epoch: int, batch_size: int, start: int = 0) -> Iterator[Fed]:
        """Samples in this order, from batch `start` on; the last batch is smaller."""

    def outputs(self, model: nn.Module, batch: Fed) -> Tensor:
        """(B, O, H, W)."""


class EncodedFeed:
    """Images, encoded when a model asks for them.

    Args:
        encode: a frozen encoder; None for a model that takes images.
        windows: that slide over images; None for whole images.
    """

    def __init__(self, samples: DenseSamples, encode: MapEncoder | None, device: torch.device, num_workers: int = 0,
                 windows: SlidingWindows | None = None):
        self.samples, self.encode, self.device, self.num_workers = samples, encode, device, num_workers
        self.windows = windows

    def batches(self, rows: Sequence[int], epoch: int, batch_size: int, start: int = 0) -> Iterator[Fed]:
        for batch in batches(self.samples, rows, epoch, batch_size, self.num_workers, start=start):
            yield _fed(batch.images.to(self.device, non_blocking=True), batch, self.device)

    def outputs(self, model: nn.Module, batch: Fed) -> Tensor:
        return self.predict(model, batch.inputs, batch.size)

    def predict(self, model: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
        """(B, O, H, W) for `size` (H, W) of images that are prepared."""
        outputs = self._whole(model, images, size) if self.windows is None else \
            self.windows.predict(partial(self._whole, model), images, size)
        return _in_pixels_of_target(outputs, self.samples, images.shape[-2:])

    def _whole(self, model: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
        if self.encode is None:
            return model(images, size)
        with evaluation_mode(self.encode):
            maps = self.encode(images)
        return model(maps, size)


class StoredFeed:
    """Maps that a bank holds; of the images' files none is opened.

    Args:
        samples: for targets alone.
        rows: (N,) rows of the table that the bank's rows are, ascending.
    """

    def __init__(self, samples: DenseSamples, bank: FeatureBank, rows: np.ndarray, device: torch.device,
                 num_workers: int = 0):
        self.samples, self.bank, self.rows = samples, bank, rows
        self.device, self.num_workers = device, num_workers

    def batches(self, rows: Sequence[int], epoch: int, batch_size: int, start: int = 0) -> Iterator[Fed]:
        for batch in batches(self.samples, rows, epoch, batch_size, self.num_workers, start=start):
            yield _fed(self._maps(batch.rows.numpy()), batch, self.device)

    def outputs(self, model: nn.Module, batch: Fed) -> Tensor:
        return _in_pixels_of_target(model(batch.inputs, batch.size), self.samples, self.samples.recipe.size)

    def readable(self, rows: Sequence[int]) -> list[int]:
        """The samples of which every image could be read when the bank was made."""
        valid = self.bank.valid[self._places(np.asarray(rows))].all(1)
        return np.asarray(rows)[valid].tolist()

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """(B, S) rows of the bank."""
        return np.searchsorted(self.rows, rows[:, None] + np.arange(self.samples.frames))

    def _maps(self, rows: np.ndarray) -> list[Tensor | None]:
        frames, maps = self.samples.frames, stored_maps(self.bank, self._places(rows).ravel(), self.device)
        return maps if frames == 1 else [None if value is None else value.unflatten(0, (-1, frames)) for value in maps]


class LabelFeed:
    """Maps that a bank holds, with the label of an image as the target of its only pixel."""

    def __init__(self, bank: FeatureBank, device: torch.device):
        self.bank, self.device = bank, device

    def batches(self, rows: Sequence[int], epoch: int, batch_size: int, start: int = 0) -> Iterator[Fed]:
        for first in range(start * batch_size, len(rows), batch_size):
            part = np.asarray(rows[first:first + batch_size])
            values = torch.from_numpy(self.bank.labels[part]).to(self.device)[:, None, None]
            yield Fed(stored_maps(self.bank, part, self.device), values, torch.ones_like(values, dtype=torch.bool),
                      torch.from_numpy(part))

    def outputs(self, model: nn.Module, batch: Fed) -> Tensor:
        return model(batch.inputs)[..., None, None]  # (B, num_classes, 1, 1)


def stored_maps(bank: FeatureBank, rows: np.ndarray, device: torch.device) -> list[Tensor | None]:
    """Rows of every level that a bank holds, in float32; None for the others."""
    maps: list[Tensor | None] = [None] * NUM_MAPS
    for level in map(int, bank.meta['maps']):
        # Mapped anew for each batch: pages that were read would count as memory of this process until the end.
        maps[level] = torch.from_numpy(np.asarray(bank.maps(level))[rows]).to(device, non_blocking=True).float()
    return maps


def _in_pixels_of_target(outputs: Tensor, samples: DenseSamples, input_size: Sequence[int]) -> Tensor:
    """(B, O, H, W) for targets of that size; of flow, which counts pixels of what the encoder saw, made into theirs."""
    size = outputs.shape[-2:]
    if samples.table.target_kind != 'flow' or tuple(size) == tuple(input_size):
        return outputs
    factors = outputs.new_tensor([size[1] / input_size[1], size[0] / input_size[0]], dtype=torch.float32)
    return outputs.float() * factors.view(2, 1, 1)


def _fed(inputs: list[Tensor | None] | Tensor, batch: DenseBatch, device: torch.device) -> Fed:
    values, valid = (each.to(device, non_blocking=True) for each in (batch.values, batch.valid))
    return Fed(inputs, values, valid, batch.rows)
