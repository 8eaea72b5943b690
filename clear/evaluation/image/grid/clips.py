"""Clips as rows of a task: the features of a clip's frames side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import DataError
from clear.core.logs import logger
from clear.datasets.clips import whole_clips
from clear.evaluation.image.rows import Bank, BucketRows, clip_length_of

if TYPE_CHECKING:
    from clear.features import FeatureBank


@dataclass(frozen=True)
class ClipRows:
    """The clips of a bank, with the part of a bank's interface that tasks read.

    Args:
        features: (M, S * D) float32.
        labels: (M,) int64.
        incomplete: how many clips are left out, since a frame could not be read.
    """

    features: Tensor
    labels: Tensor
    class_names: list[str]
    incomplete: int

    def tensors(self) -> tuple[Tensor, Tensor]:
        return self.features, self.labels


def join_clips(banks: Mapping[str, Bank]) -> tuple[dict[str, Bank], int]:
    """The splits of a task with a row for every clip, and how many images a clip has; single images stay as they are.

    Raises:
        DataError: for splits with clips of different lengths, or one bucket of a bank of clips.
    """
    lengths = {split: clip_length_of(bank) for split, bank in banks.items()}
    if len({*lengths.values()}) > 1:
        raise DataError('The splits have clips of different lengths: '
                        f'{", ".join(f"{split} {length}" for split, length in lengths.items())}.')
    return {split: _joined(bank, split) if lengths[split] > 1 else bank for split, bank in banks.items()}, \
        max(lengths.values(), default=1)


def incomplete_clips(banks: Mapping[str, Bank]) -> dict[str, dict[str, int]]:
    """`dict(incomplete=...)`, split -> clips left out, for `TaskResult.extras`; empty where none was."""
    counts = {split: bank.incomplete for split, bank in banks.items() if isinstance(bank, ClipRows) and bank.incomplete}
    return dict(incomplete=counts) if counts else {}


def _joined(bank: FeatureBank | BucketRows, split: str) -> ClipRows:
    if isinstance(bank, BucketRows):
        raise DataError(f"The clips of '{split}' are of one bucket of a bank; give all of its images.")
    rows, incomplete = whole_clips(bank.valid, bank.clip_length)
    if incomplete:
        logger.warning('%s: %d of %d clips are left out, since a frame could not be read.', split, incomplete,
                       incomplete + len(rows))
    features, _ = bank.tensors(rows.reshape(-1))
    labels = torch.from_numpy(np.asarray(bank.labels)[rows[:, 0]])
    return ClipRows(features.reshape(len(rows), -1), labels, bank.class_names, incomplete)
