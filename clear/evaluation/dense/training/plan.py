"""What a training of pixels is made of, where it is, and what is known so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from clear.evaluation.dense.inputs.feeds import Feed
from clear.evaluation.dense.training.settings import Setting


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What a training is made of, apart from data and model.

    Args:
        legacy: as ViRB's code: the last epoch of each setting is tested, the setting chosen on the test images; what
            is left of an epoch behind the last full batch is dropped, at the test, too.
        checkpoint_every: iterations between two states within an epoch.
        amp: mixed precision.
    """

    settings: Sequence[Setting]
    epochs: int
    batch_size: int
    test_batch_size: int
    seed: int = 0
    legacy: bool = False
    checkpoint_every: int | None = None
    amp: bool = False
    device: torch.device = field(default_factory=lambda: torch.device('cpu'))


@dataclass(frozen=True)
class Part:
    """A split: where its batches come from, and the rows that are samples."""

    feed: Feed
    rows: Sequence[int]


@dataclass
class Position:
    """Where training is: what is to be done next."""

    setting: int = 0
    epoch: int = 0
    iteration: int = 0


@dataclass
class Progress:
    """What is known so far, in plain values.

    Attributes:
        curves: setting -> one of `CURVES` -> a number for each epoch, None where it is not finite.
        best: dict(setting, epoch, value), by number and from 0; None as long as there is none.
        diverged: setting -> epoch, from 1, in which the loss left the finite numbers.
        tests: setting -> what `PixelTraining.evaluate` found on the test images.
    """

    curves: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    diverged: dict[str, int] = field(default_factory=dict)
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
