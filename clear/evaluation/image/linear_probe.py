"""The linear probe: a grid of linear classifiers on frozen features, chosen on validation, tested once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.errors import ConfigError, TrainingError
from clear.evaluation.image.grid.points import GridPoint, Setting, drawn_pairs, expand_grid
from clear.evaluation.image.grid.stacked import INITS
from clear.evaluation.image.grid.training import TrainedGrid, check_training, train_grid
from clear.evaluation.image.rows import ProbeData, check_select, read_splits, sample_shots, seed_list
from clear.evaluation.image.scaling import Scaler, check_scale, fit_scale
from clear.evaluation.image.sweep import SEARCHES, peak_stages, spaced_values
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
    the grid) is tested once per seed: mean and sample standard deviation. A setting of which any seed left the finite
    numbers is marked as diverged and never chosen. With nothing to choose no rows are set aside for validation.

    All columns see the same batches: seeds differ in their first weights. The modes of other code bases are settings of
    this class, see docs/probing.md and `configs/_base_/tasks/itra.py`.

    Args:
        weight_decays: a list, or `dict(lowest=1e-6, highest=1e2, count=97)`, evenly spaced on a log scale.
        draws: instead of learning rates x weight decays, so many random pairs of both, see `drawn_pairs`.
        search: 'grid' trains every setting, all in one pass; 'peak' those that `peak_search` asks for, as
            CLIP_benchmark does, those of a span in one pass: of 97 weight decays no more than 15.
        seeds: how many (seed, seed + 1, ...), or a list.
        epochs, batch_size: the last, smaller batch of an epoch is used.
        momentum: of SGD.
        shuffle: False takes the training rows in their order, as ITRA does.
        init: 'uniform' as torch's, or 'normal' of standard deviation 0.01 with a bias of 0.
        choose_epoch: score every epoch on validation and keep each column's best (the first of equals), not its last.
        shots: train on so many rows of each class, drawn by `seed` from those that validation leaves.
        refit: train the chosen setting again, on training and validation rows together, and test that.
        scale: 'none', 'l2' or 'standard', fitted on the training rows; 'standard' makes one range of learning rates
            serve encoders of different scale.
        val_fraction: share of each training class that is set aside where there is no 'val' bank.
        select: 'val'; or, with `legacy=True`, 'test': chosen on the rows that are reported, which is how some published
            numbers came about, and too good.
        seed: of the validation split, the draws, the batch order and the first of `seeds`.
        device: where to train, e.g. 'cuda'.

    Raises:
        ConfigError: for values that make no grid, or that contradict each other.

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

    def __init__(self, *, lrs: Sequence[float] = (1e-3, 1e-2, 1e-1),
                 weight_decays: Sequence[float] | Mapping[str, float] = (0.0,), draws: int | None = None,
                 optimizers: Sequence[str] = ('sgd',), schedules: Sequence[str | dict] = ('cosine',),
                 search: str = 'grid', seeds: int | Sequence[int] = 3, epochs: int = 50, batch_size: int = 256,
                 momentum: float = 0.9, shuffle: bool = True, init: str = 'uniform', choose_epoch: bool = False,
                 shots: int | None = None, refit: bool = False, scale: str = 'standard', val_fraction: float = 0.1,
                 select: str = 'val', legacy: bool = False, seed: int = 0, device: str = 'cpu'):
        self.seeds = seed_list(seeds, seed)
        pairs = [([lr], [decay]) for lr, decay in drawn_pairs(draws, seed)] if draws is not None else \
            [(lrs, spaced_values('weight_decays', weight_decays))]
        self.points = [point for rates, decays in pairs
                       for point in expand_grid(rates, decays, optimizers, schedules, self.seeds)]
        check_training(epochs, batch_size, momentum)
        self.training = dict(epochs=epochs, batch_size=batch_size, momentum=momentum, order_seed=seed,
                             shuffle=check_flag('shuffle', shuffle), init=check_choice('init', init, INITS))
        self.search = check_choice('search', search, SEARCHES)
        self.choose_epoch, self.refit = check_flag('choose_epoch', choose_epoch), check_flag('refit', refit)
        self.shots = shots if shots is None else check_whole('shots', shots, 1)
        self.select = check_select(select, legacy)
        self._check_together()
        self.scale = check_scale(scale)
        self.val_fraction, self.seed, self.device = val_fraction, seed, device

    def _check_together(self) -> None:
        decays = [point.weight_decay for point in self.points[::len(self.seeds)]]
        if self.search == 'peak' and any(low >= high for low, high in zip(decays, decays[1:])):
            raise ConfigError("search='peak' goes through ascending weight_decays of one learning rate, optimizer and "
                              f'schedule; got {self.num_settings} settings of which these differ otherwise.')
        reasons = dict(choose_epoch=self.choose_epoch, shots=self.shots is not None, select=self.select == 'test')
        wrong = [name for name, given in reasons.items() if given]
        if self.refit and wrong:
            raise ConfigError(f'refit trains on the validation rows too, which does not go with {" and ".join(wrong)}'
                              '. Leave one of them out.')

    @property
    def num_settings(self) -> int:
        return len(self.points) // len(self.seeds)

    @property
    def chooses(self) -> bool:
        """Whether there is something to choose on validation."""
        return self.num_settings > 1 or self.choose_epoch

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Train, select and test on the banks 'train', 'val' (optional) and 'test'.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`), or a class of fewer rows than `shots`.
            TrainingError: if every setting diverged.
        """
        return self.fit(read_splits(data.bank, self.device), data.encoder_name).result

    def fit(self, data: ProbeData, name: str = 'features') -> FittedProbe:
        """The same on tensors; also returns the heads of the selected setting."""
        if self.chooses:
            data = data.for_choosing(self.select, self.val_fraction, self.seed)
        if self.shots is not None:
            rows = sample_shots(data.train.labels, self.shots, self.seed, data.class_names)
            data = replace(data, train=data.train.take(rows))
        scale = fit_scale(self.scale, data.train.features)
        best, tried, extras = self._choose(data, scale, name)
        chosen, points = tried[best], self._points_of(best)
        weight, bias = chosen.weight, chosen.bias
        if chosen.epochs is not None:
            extras['best_epochs'] = chosen.epochs
        if self.refit:
            data = data.with_all_for_training()
            scale = fit_scale(self.scale, data.train.features)
            grid = self._train(data, scale, points)
            if grid.diverged.any():
                raise TrainingError(f'linear probe on {name}: the chosen setting diverged when it was trained again on '
                                    'training and validation rows. Lower lrs.')
            weight, bias = grid.weight, grid.bias
        extras |= seed_extras(self._test(weight, bias, data, scale))
        extras.update(selected=points[0].setting(), seeds=self.seeds, grid=[tried[setting].entry for setting in
                                                                            sorted(tried)], **data.sizes())
        result = TaskResult('top1', extras['metrics']['top1'], True, extras)
        return FittedProbe(result, weight, bias, scale)

    def _points_of(self, setting: int) -> list[GridPoint]:
        """The columns of a setting, one for each seed."""
        return self.points[setting * len(self.seeds):(setting + 1) * len(self.seeds)]

    def _train(self, data: ProbeData, scale: Scaler, points: list[GridPoint],
               after_epoch: Callable[[int, TrainedGrid], None] | None = None) -> TrainedGrid:
        return train_grid(scale(data.train.features), data.train.labels, data.num_classes, points, **self.training,
                          after_epoch=after_epoch)

    def _choose(self, data: ProbeData, scale: Scaler, name: str) -> tuple[int, dict[int, Candidate], dict[str, object]]:
        """The setting to test, all that were trained, and what there is to say about the search."""
        if self.search == 'grid' or self.num_settings == 1:
            tried = self._try(range(self.num_settings), data, scale)
            return select([tried[setting].entry for setting in range(self.num_settings)], name), tried, {}
        tried = {}
        stages = peak_stages(self.num_settings)
        _, places = next(stages)
        try:
            while True:
                tried |= self._try(sorted({*places} - {*tried}), data, scale)
                _, places = stages.send([tried[place].entry['val_top1'] or 0.0 for place in places])
        except StopIteration as ended:
            found = ended.value
        if tried[found.index].entry['diverged']:
            raise TrainingError(f'linear probe on {name}: the search ended at a setting that diverged. Lower lrs.')
        return found.index, tried, dict(visited=list(found.visited))

    def _try(self, settings: Sequence[int], data: ProbeData, scale: Scaler) -> dict[int, Candidate]:
        """Train settings in one pass, and see what validation says of each, where there is something to choose."""
        if not settings:
            return {}
        best_epochs = BestEpochs(scale(data.val.features), data.val.labels) if self.choose_epoch else None
        points = [point for setting in settings for point in self._points_of(setting)]
        grid = self._train(data, scale, points, best_epochs)
        grid = grid if best_epochs is None else best_epochs.grid
        num_seeds, found = len(self.seeds), {}
        accuracy, loss = grid.evaluate(scale(data.val.features), data.val.labels) if self.chooses else (None, None)
        for place, setting in enumerate(settings):
            columns = slice(place * num_seeds, (place + 1) * num_seeds)
            entry = Entry(**points[columns][0].setting(), diverged=bool(grid.diverged[columns].any()), val_top1=None,
                          val_loss=None)
            if accuracy is not None:
                # Finite weights may still overflow in the logits; NaN if any seed diverged.
                entry['diverged'] |= not bool(accuracy[columns].isfinite().all())
                if not entry['diverged']:
                    entry.update(val_top1=accuracy[columns].mean().item(), val_loss=loss[columns].mean().item())
            epochs = None if best_epochs is None else best_epochs.epochs[columns].tolist()
            # Copies, as a view would keep the heads of all settings.
            found[setting] = Candidate(entry, grid.weight[columns].clone(), grid.bias[columns].clone(), epochs)
        return found

    def _test(self, weight: Tensor, bias: Tensor, data: ProbeData, scale: Scaler) -> dict[int, dict]:
        """Seed -> test metrics of its head."""
        features = scale(data.test.features)
        return {seed: classification_metrics(torch.addmm(own_bias, features, own_weight.T), data.test.labels)
                for seed, own_weight, own_bias in zip(self.seeds, weight, bias)}


@dataclass(frozen=True)
class Candidate:
    """A setting that was trained: what is known of it, its heads (S, C, D) and (S, C), and their epochs if chosen."""

    entry: Entry
    weight: Tensor
    bias: Tensor
    epochs: list[int] | None


class BestEpochs:
    """The heads of a grid at the epoch of their highest accuracy on some rows; call it after every epoch.

    Attributes:
        grid: each column as it was then; a column that was never finite is diverged.
        epochs: (G,) that epoch, from 1; 0 for a column that was never finite.
    """

    def __init__(self, features: Tensor, labels: Tensor):
        self.features, self.labels = features, labels
        self.grid: TrainedGrid | None = None

    def __call__(self, epoch: int, grid: TrainedGrid) -> None:
        accuracy, _ = grid.evaluate(self.features, self.labels)
        if self.grid is None:
            self.grid = replace(grid, diverged=torch.ones_like(grid.diverged))
            self.accuracy = torch.full_like(accuracy, -1)
            self.epochs = torch.zeros_like(accuracy, dtype=torch.int64)
        better = accuracy > self.accuracy  # never of a diverged column, whose accuracy is NaN
        self.accuracy[better], self.epochs[better] = accuracy[better], epoch
        self.grid.weight[better], self.grid.bias[better] = grid.weight[better], grid.bias[better]
        self.grid.diverged[better] = False


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
