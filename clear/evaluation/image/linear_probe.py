"""The linear probe: a grid of linear classifiers on frozen features, chosen on validation, tested once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from clear.core.errors import TrainingError
from clear.evaluation.image.linear_grid import Setting, TrainedGrid, check_training, expand_grid, train_grid
from clear.evaluation.image.rows import ProbeData, read_splits, seed_list
from clear.evaluation.image.scaling import Scaler, check_scale, fit_scale
from clear.evaluation.task import TaskData, TaskResult, classification_metrics, seed_extras
from clear.registry import TASKS


class Entry(Setting):
    """A setting and what validation says of it: None where it was not asked, or the setting diverged."""

    diverged: bool
    val_top1: float | None
    val_loss: float | None


@TASKS.register_module()
class LinearProbe:
    """Train learning rates x weight decays x optimisers x schedules x seeds in one pass; report the best setting.

    The setting with the highest validation accuracy (mean over seeds; equal ones: lower cross-entropy, then first in
    the grid) is tested once per seed: mean and sample standard deviation. It is not trained again on training and
    validation rows together. A setting of which any seed left the finite numbers is marked as diverged and never
    chosen. With a single setting there is nothing to choose: no rows are set aside for validation.

    All columns see the same batches: seeds differ in their first weights.

    Args:
        seeds: how many (seed, seed + 1, ...), or a list.
        epochs, batch_size: the last, smaller batch of an epoch is used.
        momentum: of SGD.
        scale: 'none', 'l2' or 'standard', fitted on the training rows; 'standard' makes one range of learning rates
            serve encoders of different scale.
        val_fraction: share of each training class that is set aside where there is no 'val' bank.
        seed: of the validation split, the batch order and the first of `seeds`.
        device: where to train, e.g. 'cuda'.

    Raises:
        ConfigError: for values that make no grid.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> LinearProbe(lrs=[0.1], seeds=1, epochs=20).fit(data).result.value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True
    reads_grid: ClassVar = True

    def __init__(self, *, lrs: Sequence[float] = (1e-3, 1e-2, 1e-1), weight_decays: Sequence[float] = (0.0,),
                 optimizers: Sequence[str] = ('sgd',), schedules: Sequence[str | dict] = ('cosine',),
                 seeds: int | Sequence[int] = 3, epochs: int = 50, batch_size: int = 256, momentum: float = 0.9,
                 scale: str = 'standard', val_fraction: float = 0.1, seed: int = 0, device: str = 'cpu'):
        self.seeds = seed_list(seeds, seed)
        self.points = expand_grid(lrs, weight_decays, optimizers, schedules, self.seeds)
        check_training(epochs, batch_size, momentum)
        self.training = dict(epochs=epochs, batch_size=batch_size, momentum=momentum, order_seed=seed)
        self.scale = check_scale(scale)
        self.val_fraction, self.seed, self.device = val_fraction, seed, device

    @property
    def num_settings(self) -> int:
        return len(self.points) // len(self.seeds)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Train, select and test on the banks 'train', 'val' (optional) and 'test'.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`).
            TrainingError: if every setting diverged.
        """
        return self.fit(read_splits(data.bank, self.device), data.encoder_name).result

    def fit(self, data: ProbeData, name: str = 'features') -> FittedProbe:
        """The same on tensors; also returns the heads of the selected setting."""
        if self.num_settings > 1:
            data = data.with_validation(self.val_fraction, self.seed)
        scale = fit_scale(self.scale, data.train.features)
        grid = train_grid(scale(data.train.features), data.train.labels, data.num_classes, self.points, **self.training)
        table = self._table(grid, data, scale)
        best = select(table, name)
        columns = range(best * len(self.seeds), (best + 1) * len(self.seeds))
        per_seed = self._test(grid, columns, data, scale)
        extras = seed_extras(per_seed)
        extras.update(selected=self.points[columns[0]].setting(), seeds=self.seeds, grid=table, **data.sizes())
        result = TaskResult('top1', extras['metrics']['top1'], True, extras)
        return FittedProbe(result, grid.weight[list(columns)], grid.bias[list(columns)], scale)

    def _table(self, grid: TrainedGrid, data: ProbeData, scale: Scaler) -> list[Entry]:
        """One entry per setting: its hyper-parameters, whether it diverged, validation accuracy and loss."""
        shape = (self.num_settings, len(self.seeds))
        diverged = grid.diverged.view(shape).any(1)
        table = [{**point.setting(), 'diverged': bool(bad), 'val_top1': None, 'val_loss': None}
                 for point, bad in zip(self.points[::len(self.seeds)], diverged)]
        if data.val is None or self.num_settings == 1:
            return table
        accuracy, loss = grid.evaluate(scale(data.val.features), data.val.labels)
        accuracy, loss = accuracy.view(shape).mean(1), loss.view(shape).mean(1)  # NaN if any seed diverged
        for index, entry in enumerate(table):
            # Finite weights may still overflow in the logits.
            entry['diverged'] |= not bool(accuracy[index].isfinite())
            if not entry['diverged']:
                entry.update(val_top1=accuracy[index].item(), val_loss=loss[index].item())
        return table

    def _test(self, grid: TrainedGrid, columns: Sequence[int], data: ProbeData, scale: Scaler) -> dict[int, dict]:
        """Seed -> test metrics, of the selected columns alone."""
        logits = torch.cat([part for _, part in grid.logits(scale(data.test.features), list(columns))], 2)  # (S, C, N)
        return {seed: classification_metrics(scores.T, data.test.labels) for seed, scores in zip(self.seeds, logits)}


@dataclass(frozen=True)
class FittedProbe:
    """A tested probe: weight (S, C, D), bias (S, C) of the selected setting, a head per seed, on scaled features."""

    result: TaskResult
    weight: torch.Tensor
    bias: torch.Tensor
    scale: Scaler


def select(table: Sequence[Entry], name: str = 'features') -> int:
    """Index of the setting to test: highest `val_top1`, then lowest `val_loss`, then first; never a diverged one.

    Raises:
        TrainingError: if all diverged.
    """
    alive = [index for index, entry in enumerate(table) if not entry['diverged']]
    if not alive:
        raise TrainingError(f'linear probe on {name}: all {len(table)} settings diverged (weights or logits are not '
                            f"finite). Lower lrs (smallest: {min(entry['lr'] for entry in table):g}), or use "
                            "scale='standard'.")
    if len(table) == 1:
        return 0
    return max(alive, key=lambda index: (table[index]['val_top1'], -table[index]['val_loss'], -index))
