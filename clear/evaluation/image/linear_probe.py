"""The linear probe: a grid of linear classifiers on frozen features, chosen on validation, tested once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_whole
from clear.core.errors import ConfigError, TrainingError
from clear.evaluation.image.grid.head_file import SavedHeads
from clear.evaluation.image.grid.points import GridPoint, Setting, drawn_pairs, expand_grid, named_points
from clear.evaluation.image.grid.protocols import check_protocol, prepared, protocol_defaults
from clear.evaluation.image.grid.stacked import INITS, StackedHeads
from clear.evaluation.image.grid.training import TrainedGrid, check_training, train_grid
from clear.evaluation.image.grid.watch import EpochWatch, curves, write_history
from clear.evaluation.image.rows import LabelledRows, ProbeData, check_select, read_splits, sample_shots, seed_list
from clear.evaluation.image.scaling import Scaler, check_scale, fit_scale
from clear.evaluation.image.sweep import SEARCHES, peak_stages, spaced_values
from clear.evaluation.task import TaskData, TaskResult, classification_metrics, seed_extras
from clear.registry import TASKS

_MOST_NUMBERS = 2**27  # weights that are trained at once: with their state no more than 2 GB


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
    this class, see docs/probing.md and `configs/_base_/tasks/itra.py`. Where the run keeps files, the chosen heads are
    in `head.pth` of the job's folder and every epoch of every setting in its `history.jsonl`.

    Args:
        settings: instead of lists that are crossed, name -> `dict(lr=...)` with `optimizer`, `schedule`, `weight_decay`
            and `momentum`.
        protocol: 'strict'; or 'virb', what Kotar et al. 2021 (arXiv:2103.14005) mean: features rounded to float16, no
            scale, Adam at a constant rate of 1e-4, 100 epochs of batches of 32, no decay or momentum, one seed. Each of
            these may be given; None leaves it to the protocol.
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
        legacy: with `protocol='virb'` also what its code does, as its published numbers were made: schedules that never
            step, the last, smaller batch dropped, of the test rows too, and no validation.
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
    title: ClassVar = 'linear probe'
    hidden: int | None = None  # width of a hidden layer, of which linear heads have none

    def __init__(self, *, lrs: Sequence[float] | None = None,
                 weight_decays: Sequence[float] | Mapping[str, float] | None = None, draws: int | None = None,
                 optimizers: Sequence[str] | None = None, schedules: Sequence[str | dict] | None = None,
                 settings: Mapping[str, Mapping[str, object]] | None = None, protocol: str = 'strict',
                 search: str = 'grid', seeds: int | Sequence[int] | None = None, epochs: int | None = None,
                 batch_size: int | None = None, momentum: float | None = None, shuffle: bool = True,
                 init: str = 'uniform', choose_epoch: bool = False, shots: int | None = None, refit: bool = False,
                 scale: str | None = None, val_fraction: float = 0.1, select: str = 'val', legacy: bool = False,
                 seed: int = 0, device: str = 'cpu'):
        self.protocol = check_protocol(protocol)
        values = protocol_defaults(protocol, lrs=lrs, weight_decays=weight_decays, optimizers=optimizers,
                                   schedules=schedules, seeds=seeds, epochs=epochs, batch_size=batch_size,
                                   momentum=momentum, scale=scale)
        self.seeds = seed_list(values['seeds'], seed)
        crossed = dict(lrs=lrs, weight_decays=weight_decays, draws=draws, optimizers=optimizers, schedules=schedules)
        self.points = self._points(settings, {name: value for name, value in crossed.items() if value is not None},
                                   values, seed)
        self.as_published = check_flag('legacy', legacy) and protocol == 'virb'
        self.training = dict(epochs=values['epochs'], batch_size=values['batch_size'], momentum=values['momentum'],
                             order_seed=seed, shuffle=check_flag('shuffle', shuffle),
                             init=check_choice('init', init, INITS), drop_last=self.as_published,
                             steps=not self.as_published)
        check_training(values['epochs'], values['batch_size'], values['momentum'])
        self.search = check_choice('search', search, SEARCHES)
        self.choose_epoch, self.refit = check_flag('choose_epoch', choose_epoch), check_flag('refit', refit)
        self.shots = shots if shots is None else check_whole('shots', shots, 1)
        self.select = check_select('test' if self.as_published else select, legacy)
        self._check_together()
        self.scale = check_scale(values['scale'])
        self.val_fraction, self.seed, self.device = val_fraction, seed, device

    def _points(self, settings: Mapping | None, crossed: Mapping[str, object], values: Mapping, seed: int
                ) -> list[GridPoint]:
        if settings is not None:
            if crossed:
                raise ConfigError(f'settings says all of each setting, so that {" and ".join(crossed)} would do '
                                  'nothing. Give one or the other.')
            return named_points(settings, self.seeds, values['optimizers'][0], values['schedules'][0])
        pairs = [([lr], [decay]) for lr, decay in drawn_pairs(crossed['draws'], seed)] if 'draws' in crossed else \
            [(values['lrs'], spaced_values('weight_decays', values['weight_decays']))]
        return [point for rates, decays in pairs
                for point in expand_grid(rates, decays, values['optimizers'], values['schedules'], self.seeds)]

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
        return self.fit(read_splits(data.bank, self.device), data.encoder_name, data.folder).result

    def fit(self, data: ProbeData, name: str = 'features', folder: Path | None = None, num_images: int = 1
            ) -> FittedProbe:
        """The same on tensors; also returns the heads of the selected setting.

        Args:
            folder: where heads and history are written; None keeps nothing.
            num_images: how many images stand side by side in a row.
        """
        if self.protocol == 'virb':
            data = prepared(data, self.training['batch_size'] if self.as_published else None)
        if self.chooses or self.as_published:
            data = data.for_choosing(self.select, self.val_fraction, self.seed)
        if self.shots is not None:
            rows = sample_shots(data.train.labels, self.shots, self.seed, data.class_names)
            data = replace(data, train=data.train.take(rows))
        scale = fit_scale(self.scale, data.train.features)
        search = Search(self, data, scale, name, track=folder is not None)
        best, tried, extras = search.run()
        chosen, points = tried[best], self.points_of(best)
        heads = chosen.heads
        if chosen.epochs is not None:
            extras['best_epochs'] = chosen.epochs
        if self.refit:
            data = data.with_all_for_training()
            scale = fit_scale(self.scale, data.train.features)
            grid = self.train(data, scale, points)
            if grid.diverged.any():
                raise TrainingError(f'{self.title} on {name}: the chosen setting diverged when it was trained again on '
                                    'training and validation rows. Lower lrs.')
            heads = grid.heads
        extras |= seed_extras(self._test(heads, data, scale))
        extras.update(selected=points[0].setting(), seeds=self.seeds, grid=[tried[setting].entry for setting in
                                                                            sorted(tried)], **data.sizes())
        if self.protocol != 'strict':
            extras.update(protocol=self.protocol, legacy=self.as_published)
        if self.as_published:
            extras['n_val'] = 0
        if folder is not None:
            extras['curves'] = curves(search.history)
            write_history(folder, search.history)
            seen = {*data.train.labels.unique().tolist()}
            SavedHeads(heads, self.seeds, data.class_names, points[0].setting(), scale, num_images,
                       rounds=self.protocol == 'virb',
                       unseen=[name for index, name in enumerate(data.class_names) if index not in seen]).save(folder)
        result = TaskResult('top1', extras['metrics']['top1'], True, extras)
        return FittedProbe(result, heads, scale)

    def points_of(self, setting: int) -> list[GridPoint]:
        """The columns of a setting, one for each seed."""
        return self.points[setting * len(self.seeds):(setting + 1) * len(self.seeds)]

    def train(self, data: ProbeData, scale: Scaler, points: list[GridPoint], watch: EpochWatch | None = None,
              track: bool = False) -> TrainedGrid:
        """Train some columns in one pass."""
        return train_grid(scale(data.train.features), data.train.labels, data.num_classes, points, **self.training,
                          hidden=self.hidden, track=track, after_epoch=watch)

    def _test(self, heads: StackedHeads, data: ProbeData, scale: Scaler) -> dict[int, dict]:
        """Seed -> test metrics of its head."""
        features = scale(data.test.features)
        return {seed: classification_metrics(heads[place:place + 1].logits(features)[0].T, data.test.labels)
                for place, seed in enumerate(self.seeds)}


@dataclass(frozen=True)
class Candidate:
    """A setting that was trained: what is known of it, its heads, one for each seed, and their epochs if chosen."""

    entry: Entry
    heads: StackedHeads
    epochs: list[int] | None


class Search:
    """Trains settings of a probe and chooses among them.

    Attributes:
        history: a line for every setting and epoch, where that is kept track of.
    """

    def __init__(self, probe: LinearProbe, data: ProbeData, scale: Scaler, name: str, track: bool):
        self.probe, self.data, self.scale, self.name, self.track = probe, data, scale, name, track
        self.history: list[dict[str, object]] = []

    def run(self) -> tuple[int, dict[int, Candidate], dict[str, object]]:
        """The setting to test, all that were trained, and what there is to say about the search."""
        probe, tried = self.probe, {}
        if probe.search == 'grid' or probe.num_settings == 1:
            tried = self._try(range(probe.num_settings))
            return select([tried[setting].entry for setting in range(probe.num_settings)], self.name,
                          probe.title), tried, {}
        stages = peak_stages(probe.num_settings)
        _, places = next(stages)
        try:
            while True:
                tried |= self._try(sorted({*places} - {*tried}))
                _, places = stages.send([tried[place].entry['val_top1'] or 0.0 for place in places])
        except StopIteration as ended:
            found = ended.value
        if tried[found.index].entry['diverged']:
            raise TrainingError(f'{probe.title} on {self.name}: the search ended at a setting that diverged. Lower '
                                'lrs.')
        return found.index, tried, dict(visited=list(found.visited))

    def _try(self, settings: Sequence[int]) -> dict[int, Candidate]:
        """Train settings, as many at once as memory allows, and see what validation says of each."""
        widths = [self.data.dim, *([] if self.probe.hidden is None else [self.probe.hidden]), self.data.num_classes]
        numbers = sum(one * other for one, other in itertools.pairwise(widths)) * len(self.probe.seeds)
        size = max(1, _MOST_NUMBERS // numbers)
        found = {}
        for start in range(0, len(settings), size):
            found |= self._try_together(settings[start:start + size])
        return found

    def _try_together(self, settings: Sequence[int]) -> dict[int, Candidate]:
        probe, num_seeds, found = self.probe, len(self.probe.seeds), {}
        points = [point for setting in settings for point in probe.points_of(setting)]
        rows = None if self.data.val is None else \
            LabelledRows(self.scale(self.data.val.features), self.data.val.labels)
        watch = EpochWatch(rows, probe.choose_epoch) if probe.choose_epoch or self.track else None
        grid = probe.train(self.data, self.scale, points, watch, self.track)
        grid = watch.grid if probe.choose_epoch else grid
        if self.track:
            labels = [probe.points_of(setting)[0].label() for setting in settings]
            self.history += watch.history(labels, is_test=probe.select == 'test')
        accuracy, loss = (None, None) if rows is None or not probe.chooses else \
            grid.evaluate(rows.features, rows.labels)
        for place, setting in enumerate(settings):
            columns = slice(place * num_seeds, (place + 1) * num_seeds)
            entry = Entry(**points[columns][0].setting(), diverged=bool(grid.diverged[columns].any()), val_top1=None,
                          val_loss=None)
            if accuracy is not None:
                # Finite weights may still overflow in the logits; NaN if any seed diverged.
                entry['diverged'] |= not bool(accuracy[columns].isfinite().all())
                if not entry['diverged']:
                    entry.update(val_top1=accuracy[columns].mean().item(), val_loss=loss[columns].mean().item())
            epochs = watch.epochs[columns].tolist() if probe.choose_epoch else None
            found[setting] = Candidate(entry, grid.heads[columns].clone(), epochs)
        return found


@dataclass(frozen=True)
class FittedProbe:
    """A tested probe: the heads of the selected setting, one for each seed, on scaled features."""

    result: TaskResult
    heads: StackedHeads
    scale: Scaler

    @property
    def weight(self) -> Tensor:
        """(S, C, D) of linear heads, of others that of the last layer."""
        return self.heads.weights[-1]

    @property
    def bias(self) -> Tensor:
        """(S, C) of the last layer."""
        return self.heads.biases[-1]


def select(table: Sequence[Entry], name: str = 'features', title: str = 'linear probe') -> int:
    """Index of the setting to test: highest `val_top1`, then lowest `val_loss`, then first; never a diverged one.

    Raises:
        TrainingError: if all diverged.
    """
    alive = [index for index, entry in enumerate(table) if not entry['diverged']]
    if not alive:
        raise TrainingError(f'{title} on {name}: all {len(table)} settings diverged (weights or logits are not '
                            f"finite). Lower lrs (smallest: {min(entry['lr'] for entry in table):g}), or use "
                            "scale='standard'.")
    if len(table) == 1:
        return 0
    return max(alive, key=lambda index: (table[index]['val_top1'], -table[index]['val_loss'], -index))
