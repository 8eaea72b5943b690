"""Classes of images from a map: a head with surroundings in view, on banks that hold maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from clear.core.checks import check_number, check_whole
from clear.core.config import to_plain
from clear.core.errors import DataError
from clear.evaluation.dense.inputs.feeds import LabelFeed
from clear.evaluation.dense.making import build_head, check_head
from clear.evaluation.dense.scores import pixel_scores
from clear.evaluation.dense.training.job_files import JobFiles
from clear.evaluation.dense.training.loop import PixelTraining
from clear.evaluation.dense.training.plan import Part, TrainingPlan
from clear.evaluation.dense.training.settings import settings_of
from clear.evaluation.image.rows import check_splits, shuffled
from clear.evaluation.metrics.pixel_losses import pixel_loss
from clear.evaluation.task import TaskData, TaskResult
from clear.features import FeatureBank
from clear.registry import TASKS

# What one pixel an image makes of metrics of pixels.
_NAMES = dict(aacc='top1', macc='mean_per_class')


@TASKS.register_module()
@dataclass(kw_only=True)
class MapClassifier:
    """Train a head on the last map of images and their labels: ViRB's "Cls. DeepLabv3" (Kotar et al. 2021,
    arXiv:2103.14005), chosen on validation, tested once.

    It is trained as heads of `PixelwiseProbe` are, an image being one pixel.

    Args:
        head: type and arguments; `map_channels` and `num_classes` are filled in.
        settings: see `PixelwiseProbe`, as `lrs`, `optimizers`, `schedules`, `val_fraction`, `checkpoint_every`.

    Raises:
        ConfigError: for a value that is none.

    Example:
        >>> MapClassifier(lrs=[1e-4]).all_settings[0].optimizer
        'adam'
    """

    needs: ClassVar = ('maps',)
    levels: ClassVar = [4]
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True
    one_seed_per_job: ClassVar = True

    head: Mapping[str, Any] = field(default_factory=lambda: dict(type='DeepLabClassificationHead'))
    settings: Mapping[str, Mapping[str, Any]] | None = None
    lrs: Sequence[float] | None = None
    optimizers: Sequence[str] | None = None
    schedules: Sequence[str | dict] | None = None
    epochs: int = 100
    batch_size: int = 32
    test_batch_size: int = 64
    val_fraction: float = 0.1
    seed: int = 0
    checkpoint_every: int | None = None
    device: str = 'cpu'

    def __post_init__(self):
        check_head(self.head)
        for name in ('epochs', 'batch_size', 'test_batch_size'):
            check_whole(name, getattr(self, name), 1)
        check_number('val_fraction', self.val_fraction, above=0, below=1)
        if self.checkpoint_every is not None:
            check_whole('checkpoint_every', self.checkpoint_every, 1)
        self.all_settings = settings_of(self.settings, self.lrs, self.optimizers, self.schedules)

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Train and test on banks 'train', 'test' and, if there is one, 'val'.

        Raises:
            ConfigError: for more classes than a byte counts.
            DataError: for banks of other classes, or too few labelled images.
            TrainingError, Interrupted: as `PixelwiseProbe`.
        """
        banks = data.maps
        check_splits(banks, ('train', 'test'))
        classes = list(banks['train'].class_names)
        rows = {split: _labelled(bank, split, classes) for split, bank in banks.items()}
        if 'val' not in rows:
            order = shuffled(len(rows['train']), self.seed, 'map classifier validation').numpy()
            held = max(1, round(self.val_fraction * len(order)))
            rows['val'], rows['train'] = (rows['train'][np.sort(part)] for part in (order[:held], order[held:]))
        if not all(map(len, rows.values())):
            raise DataError(f'{data.encoder_name}: too few labelled images, '
                            + ', '.join(f'{len(found)} of {split}' for split, found in rows.items()) + '.')
        device = torch.device(self.device)
        parts = {split: Part(LabelFeed(banks.get(split, banks['train']), device), found.tolist())
                 for split, found in rows.items()}
        channels = [shape[0] if shape else 1 for shape in (banks['train'].meta['maps'].get(str(level))
                                                           for level in range(5))]
        training = PixelTraining(
            TrainingPlan(settings=self.all_settings, epochs=self.epochs, batch_size=self.batch_size,
                         test_batch_size=self.test_batch_size, seed=self.seed, device=device,
                         checkpoint_every=self.checkpoint_every),
            lambda: build_head(self.head, self.seed, map_channels=channels, num_classes=len(classes)).to(device),
            lambda model, setting: [dict(params=list(model.parameters()), lr=setting.lr)],
            **parts, loss=pixel_loss(dict(type='cross_entropy')),
            new_scores=lambda: pixel_scores('classes', len(classes), 'aacc'), classes=classes,
            files=JobFiles(data.folder, self._plan(banks)), title=data.encoder_name)
        found = training.run()['metrics']
        best = training.progress.best
        return TaskResult('top1', found['aacc'], True, dict(
            metrics={name: found[key] for key, name in _NAMES.items()}, classes=classes,
            **{f'n_{split}': len(kept) for split, kept in rows.items()}, curves=training.progress.curves,
            selected=dict(self.all_settings[best['setting']].to_dict(), epoch=best['epoch'] + 1)))

    def _plan(self, banks: Mapping[str, FeatureBank]) -> dict[str, Any]:
        arguments = {name: value for name, value in asdict(self).items() if name not in ('device', 'checkpoint_every')}
        return dict(arguments=to_plain(arguments), banks={split: bank.fingerprint for split, bank in banks.items()})


def _labelled(bank: FeatureBank, split: str, classes: list[str]) -> np.ndarray:
    """Rows that could be read and have a label.

    Raises:
        DataError: if the classes of the bank are others.
    """
    if list(bank.class_names) != classes:
        raise DataError(f"The classes of '{split}', {len(bank.class_names)}, are not those of 'train', {len(classes)}, "
                        'in their order.')
    return np.flatnonzero(bank.valid & (bank.labels >= 0))
