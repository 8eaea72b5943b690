"""What a layout is: a folder, its parts, and a writer of one sample that depends on nothing but the sample's number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """What is to be drawn and where it goes.

    Attributes:
        root: folder of the layout.
        split: the layout's own name of the part; '' where one folder holds all.
        number: of the sample in its part.
        edge: height of the pictures in pixels.
        rng: its own randomness.
    """

    root: Path
    split: str
    number: int
    edge: int
    rng: np.random.Generator

    def choose(self, names: Sequence[Any]) -> Any:
        """By turns, so that classes are as frequent as can be."""
        return names[self.number % len(names)]

    @property
    def size(self) -> tuple[int, int]:
        return self.edge, self.edge


@dataclass(frozen=True)
class Layout:
    """The folders and files of one data set.

    Attributes:
        folder: below the root of all.
        write: writes the files of a sample; what it returns is handed to `finish`.
        train, test: names of the parts; None where there is none of these.
        finish: writes the lists of a part from (root, split, what `write` returned).
        least: samples that the part needs to be what its readers expect.
    """

    folder: str
    write: Callable[[Sample], object]
    train: str | None = 'train'
    test: str | None = 'val'
    finish: Callable[[Path, str, list], None] | None = None
    least: int = 1
