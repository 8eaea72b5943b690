"""The splits of a pixelwise task: their tables, how samples are prepared, which rows are samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from clear.core.errors import ConfigError, DataError
from clear.datasets.dense.recipe import DenseRecipe
from clear.datasets.dense.samples import DenseSample, DenseSamples, Normalisation
from clear.datasets.dense.targets import DenseTable
from clear.datasets.images.decode import UnreadableImage
from clear.evaluation.dense.inputs.map_cache import Storable, can_store
from clear.evaluation.image.rows import check_splits, shuffled
from clear.evaluation.task import TaskData


class Splits:
    """Training, validation and test images; without a split 'val' a part of the training images validates.

    Args:
        tables: see `checked_tables`.
        recipes: of training, and of evaluation.
        val_fraction: of the training images, where there is no table 'val'.
        legacy: nothing validates.

    Attributes:
        samples: split -> how its images are prepared. Those that validate are prepared like those of the test. Flow is
            compared at the size of its frames, in their pixels, whatever size the encoder sees.
        rows: split -> rows of its table that are samples.

    Raises:
        DataError: if no image is left to learn from.
    """

    def __init__(self, tables: Mapping[str, DenseTable], preprocess: Normalisation,
                 recipes: tuple[DenseRecipe, DenseRecipe], *, val_fraction: float, seed: int, legacy: bool,
                 max_bad_fraction: float):
        self.tables = tables
        if tables['train'].target_kind == 'flow':
            recipes = recipes[0], replace(recipes[1].for_eval(), target_at='original')
        splits = ('train', 'test') if legacy else ('train', 'val', 'test')
        self.samples = {split: DenseSamples(tables.get(split, tables['train']), recipes[split != 'train'], preprocess,
                                            train=split == 'train', seed=seed, max_bad_fraction=max_bad_fraction)
                        for split in splits}
        self.rows = {split: samples.rows.tolist() for split, samples in self.samples.items()}
        if self._is_held_out:
            everything = self.rows['train']
            order = shuffled(len(everything), seed, 'pixelwise validation').tolist()
            held = {*order[:max(1, round(val_fraction * len(everything)))]}
            self.rows['val'] = [row for place, row in enumerate(everything) if place in held]
            self.rows['train'] = [row for place, row in enumerate(everything) if place not in held]
        empty = [split for split, rows in self.rows.items() if not rows]
        if empty:
            raise DataError(f'{tables["train"].root}: no image is left for {" and ".join(empty)}; there are '
                            f'{len(self.samples["train"])} training and {len(self.samples["test"])} test images'
                            + (f', and val_fraction = {val_fraction:g} of the former validate.' if self._is_held_out
                               else '.'))

    @property
    def _is_held_out(self) -> bool:
        return 'val' in self.samples and 'val' not in self.tables

    def first(self, split: str) -> DenseSample:
        """The first sample that can be read.

        Raises:
            DataError: if there is none.
        """
        for row in self.rows[split]:
            with suppress(UnreadableImage):
                return self.samples[split].sample(row)
        raise DataError(f'{self.samples[split].table.root}: none of {len(self.rows[split])} images can be read.')

    def to_store(self, splits: Sequence[str]) -> dict[str, Storable]:
        """Split -> its images, of those splits whose recipe leaves them the same in every epoch and of one size.

        Images that validate are stored with the others of their table where both are prepared in the same way.
        """
        found: dict[str, Storable] = {}
        for split in self.rows:
            samples = self.samples[split]
            if split not in splits or not can_store(samples.recipe):
                continue
            rows = np.arange(len(samples.table))
            if split == 'val' and self._is_held_out:
                if 'train' in found and self.samples['train'].recipe == samples.recipe:
                    found[split] = found['train']
                    continue
                rows = (np.array(self.rows[split])[:, None] + np.arange(samples.frames)).ravel()
            found[split] = Storable(samples, rows)
        return found


def checked_tables(data: TaskData, legacy: bool) -> dict[str, DenseTable]:
    """The tables of targets by split.

    Raises:
        ConfigError: for missing splits, or images without targets.
        DataError: for splits whose targets are of different kinds or classes.
    """
    tables = {split: table for split, table in data.images.items() if not (legacy and split == 'val')}
    check_splits(tables, ('train', 'test'), 'images')
    for split, table in tables.items():
        if not isinstance(table, DenseTable):
            raise ConfigError(f"The images of '{split}' are read by '{table.kind}', which knows no target for every "
                              'pixel.')
        if (table.target_kind, [*table.target_names]) != (tables['train'].target_kind, [*tables['train'].target_names]):
            raise DataError(f"The targets of '{split}' are {_targets(table)}, those of 'train' "
                            f"{_targets(tables['train'])}.")
    return tables


def _targets(table: DenseTable) -> str:
    names = [*table.target_names]
    return f"'{table.target_kind}'" + (f' ({len(names)}: {", ".join(names[:4])} ...)' if names else '')
