"""What is seen of a grid while it trains: the best epoch of each column, and the history of every setting."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from clear.core.files import write_text
from clear.evaluation.image.grid.training import TrainedGrid
from clear.evaluation.image.rows import LabelledRows

HISTORY_FILE = 'history.jsonl'


class EpochWatch:
    """Scores a grid on some rows; call it after every epoch.

    Args:
        rows: to score on; None notes what training says alone.
        keep_best: keep each column as it is at the epoch of its highest accuracy.

    Attributes:
        grid: the kept columns; one that was never finite is diverged.
        epochs: (G,) their epochs, from 1; 0 for a column that was never finite.
        seen: of every epoch, name -> (G,): `train_loss`, `train_metric` of a grid that tracks them, `val_loss`,
            `val_metric`; NaN of a diverged column.
    """

    def __init__(self, rows: LabelledRows | None, keep_best: bool):
        self.rows, self.keep_best = rows, keep_best
        self.grid: TrainedGrid | None = None
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self, epoch: int, grid: TrainedGrid) -> None:
        now = {} if grid.train_loss is None else dict(train_loss=grid.train_loss, train_metric=grid.train_top1)
        if self.rows is not None:
            accuracy, loss = grid.evaluate(self.rows.features, self.rows.labels)
            now |= dict(val_loss=loss, val_metric=accuracy)
            if self.keep_best:
                self._keep(epoch, grid, accuracy)
        self.seen.append(now)

    def _keep(self, epoch: int, grid: TrainedGrid, accuracy: Tensor) -> None:
        if self.grid is None:
            self.grid = replace(grid, heads=grid.heads.clone(), diverged=torch.ones_like(grid.diverged))
            self.accuracy = torch.full_like(accuracy, -1)
            self.epochs = torch.zeros_like(accuracy, dtype=torch.int64)
        better = accuracy > self.accuracy  # never of a diverged column, whose accuracy is NaN
        self.accuracy[better], self.epochs[better] = accuracy[better], epoch
        self.grid.heads.take_from(grid.heads, better)
        self.grid.diverged[better] = False

    def history(self, labels: list[str], is_test: bool) -> list[dict[str, object]]:
        """A line for every setting and epoch: the means over its columns, None where one diverged.

        Args:
            labels: of the settings; each has equally many columns, next to each other.
            is_test: the rows were those of 'test'.
        """
        def rename(name: str) -> str:
            return name.replace('val', 'test') if is_test else name

        epochs = [{rename(name): values.view(len(labels), -1).mean(1).tolist() for name, values in now.items()}
                  for now in self.seen]
        return [dict(setting=label, epoch=epoch, **{name: _finite(values[place]) for name, values in now.items()})
                for place, label in enumerate(labels) for epoch, now in enumerate(epochs, start=1)]


def curves(history: Iterable[Mapping[str, object]]) -> dict[str, dict[str, list[object]]]:
    """Setting -> name -> its value in each epoch, to five digits."""
    found: dict[str, dict[str, list[object]]] = {}
    for line in history:
        setting = found.setdefault(line['setting'], {})
        for name, value in line.items():
            if name not in ('setting', 'epoch'):
                setting.setdefault(name, []).append(value if value is None else float(f'{value:.5g}'))
    return found


def write_history(folder: Path, history: Iterable[Mapping[str, object]]) -> None:
    """Write `history.jsonl`, one JSON object a line, atomically."""
    write_text(folder / HISTORY_FILE, ''.join(json.dumps(line, allow_nan=False) + '\n' for line in history))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
