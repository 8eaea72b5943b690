"""One run of `PixelwiseProbe`: from an encoder and tables of targets to a trained head and its numbers."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.config import to_plain
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.datasets.dense.targets import check_targets
from clear.evaluation.dense.examples import example_arrays
from clear.evaluation.dense.fine_tune import FineTuned
from clear.evaluation.dense.inputs.feeds import EncodedFeed, Feed, StoredFeed
from clear.evaluation.dense.inputs.map_cache import MapCache
from clear.evaluation.dense.inputs.maps import GivesMaps, MapEncoder
from clear.evaluation.dense.inputs.splits import Splits, checked_tables
from clear.evaluation.dense.inputs.stage4 import fourth_stage
from clear.evaluation.dense.making import OUT_CHANNELS, accepts, build_head, check_output, levels_of, reads_native
from clear.evaluation.dense.scores import PixelScores, pixel_scores
from clear.evaluation.dense.training.job_files import JobFiles
from clear.evaluation.dense.training.loop import PixelTraining
from clear.evaluation.dense.training.plan import Part, TrainingPlan
from clear.evaluation.dense.training.settings import Setting
from clear.evaluation.heads.deeplab import dilated
from clear.evaluation.metrics.pixel_losses import pixel_loss
from clear.evaluation.task import TaskData, TaskResult

if TYPE_CHECKING:
    from clear.evaluation.dense.pixelwise_probe import PixelwiseProbe

# Arguments that change where a number is made, not what it is.
_FREE = ('device', 'num_workers', 'checkpoint_every', 'budget_gb')


class PixelwiseJob:
    """What `PixelwiseProbe.run` does, in its order: look at everything, store maps, train, test.

    Raises:
        ConfigError, DataError: as `PixelwiseProbe.run`, before anything is encoded.
    """

    def __init__(self, task: PixelwiseProbe, encoder: nn.Module, data: TaskData):
        self.task, self.data = task, data
        self.device = torch.device(task.device)
        tables = checked_tables(data, task.legacy)
        table = tables['train']
        self.kind, self.classes = table.target_kind, list(table.target_names)
        self.new_scores()  # a ConfigError for a metric that is none of these targets
        if not isinstance(encoder, GivesMaps):
            raise ConfigError(f'{data.encoder_name} has no feature maps, which a task of pixels reads.')
        self.channels = list(encoder.map_channels)
        self.encoder = encoder.to(self.device)
        self._choose_stage()
        head = self._new_head()
        self.levels, self.native = levels_of(head), reads_native(head)
        self.encode = None if task.train_encoder else MapEncoder(self.encoder, self.levels, self.dilated,
                                                                 native=self.native).eval()
        self.splits = Splits(tables, encoder.preprocess, task.recipes, val_fraction=task.val_fraction, seed=task.seed,
                             legacy=task.legacy, max_bad_fraction=data.storage.get('max_bad_fraction', 0.01))
        for each in tables.values():
            check_targets(each)
        self._check_fit()

        self.unreadable: dict[str, int] = {}
        self.cached: list[str] = []

    # The model

    def _choose_stage(self) -> None:
        """Whether the head gets the fourth stage, or the encoder a dilated one, and how the result says it."""
        task = self.task
        self.stage, self.dilated, self.note = None, None, None
        if not accepts(task.head, 'stage4') or 'stage4' in task.head:
            return
        stage, trains = fourth_stage(self.encoder), task.head.get('train_block4')
        if stage is None:
            self.note = 'none: the encoder has no residual fourth stage, the head reads its last map'
        elif trains or trains is None and (task.legacy or task.train_encoder) or task.train_encoder:
            self.stage = stage
            self.note = 'dilated copy, frozen' if trains is False else 'dilated copy, trained'
        else:
            self.dilated = dilated(stage)
            self.note = 'dilated copy, frozen'

    def _new_head(self) -> nn.Module:
        task = self.task
        out_channels = task.out_channels or OUT_CHANNELS.get(self.kind) or len(self.classes)
        known: dict[str, Any] = dict(map_channels=self.channels, out_channels=out_channels, protocol=task.protocol,
                                     legacy=task.legacy)
        if self.stage is not None:
            known.update(stage4=self.stage, train_block4=True)
        return build_head(task.head, task.seed, **known)

    def build(self) -> nn.Module:
        """The model, with the same first weights in each call."""
        head = self._new_head()
        return (FineTuned(self.encoder, head, self.levels, native=self.native) if self.task.train_encoder
                else head).to(self.device)

    def groups(self, model: nn.Module, setting: Setting) -> list[dict[str, object]]:
        """Parameters with their rates."""
        if isinstance(model, FineTuned):
            return model.groups(setting, self.task.encoder_lr, self.task.layer_decay)
        return [dict(params=[value for value in model.parameters() if value.requires_grad], lr=setting.lr)]

    def _check_fit(self) -> None:
        """Refuse a head that does not fit the maps or the targets, or an encoder that does not take images of their
        size, on the first sample of the test and of training.

        Raises:
            ConfigError: with the reason.
        """
        if self.task.out_channels is None:
            channels = OUT_CHANNELS.get(self.kind) or len(self.classes)
        else:
            channels = check_whole('out_channels', self.task.out_channels, 1)
        model, seen = self.build(), []
        for split in ('test', 'train'):
            sample = self.splits.first(split)
            images, size = sample.images[None].to(self.device), tuple(sample.valid.shape)
            if (images.shape, size) in seen:
                continue
            seen.append((images.shape, size))
            try:
                with evaluation_mode(model):
                    outputs = self._encoded(split).predict(model, images, size)
                    pixel_loss(self.task.loss)(outputs.cpu(), sample.values[None], sample.valid[None])
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:  # timm asserts sizes
                frames, (height, width) = self.splits.samples[split].frames, images.shape[-2:]
                what = f'clips of {frames} images' if frames > 1 else 'single images'
                raise ConfigError(
                    f"head {self.task.head['type']}, the encoder or the loss does not fit: maps of {what} of {width} x "
                    f"{height} pixels ('{split}'), channels {self.channels}, targets of kind '{self.kind}'. {error}"
                ) from error
            check_output(outputs, (1, channels, *size), model)

    # Where maps come from

    def _encoded(self, split: str) -> Feed:
        windows = None if split == 'train' else self.task.windows
        return EncodedFeed(self.splits.samples[split], self.encode, self.device, self.task.num_workers, windows)

    def _parts(self) -> dict[str, Part]:
        """Split -> its feed and rows; maps are stored now.

        Raises:
            ConfigError: for `cache='maps'` where they do not fit into the budget.
        """
        task, parts = self.task, {}
        stored: dict[str, StoredFeed] = {}
        if task.cache != 'none' and not task.train_encoder:
            cache = MapCache(self.encode, self.device, task.cache_dtype, self.data.storage, task.num_workers)
            wanted = self.splits.to_store(('train',) if task.windows is not None else tuple(self.splits.rows))
            reason = cache.over_budget(wanted.values(), task.budget_gb)
            if reason and task.cache == 'maps':
                raise ConfigError(f"{self.data.encoder_name}: {reason} Raise it, or take cache='none'.")
            if reason:
                logger.info("%s: %s They are not stored; every batch is encoded.", self.data.encoder_name, reason)
            else:
                stored = cache.feeds(wanted, task.budget_gb)
        for split, rows in self.splits.rows.items():
            kept = stored[split].readable(rows) if split in stored else rows
            parts[split] = Part(stored.get(split) or self._encoded(split), kept)
            self.unreadable[split] = len(rows) - len(kept)
        self.cached = sorted(stored)
        return parts

    # Training

    def training(self) -> PixelTraining:
        """Everything that it takes to train; maps are stored now.

        Raises:
            ConfigError: for a budget that is too small.
        """
        task = self.task
        plan = TrainingPlan(settings=task.all_settings, epochs=task.epochs, batch_size=task.batch_size,
                            test_batch_size=task.test_batch_size, seed=task.seed, legacy=task.legacy,
                            checkpoint_every=task.checkpoint_every, amp=task.amp, device=self.device)
        parts = self._parts()
        files = JobFiles(self.data.folder, self._plan())
        return PixelTraining(plan, self.build, self.groups, train=parts['train'], val=parts.get('val'),
                             test=parts['test'], loss=pixel_loss(task.loss), new_scores=self.new_scores,
                             files=files, classes=self.classes, title=self.data.encoder_name)

    def run(self) -> TaskResult:
        """Train and test."""
        training = self.training()
        tested = training.run()
        value = tested['metrics'][training.metric]
        if value is None:
            raise DataError(f'{self.data.encoder_name}: {training.metric} of the test images is not finite: no pixel '
                            'of them counts.')
        if training.files.folder is not None:
            predict = partial(self._predict, training.chosen())
            training.files.write_examples(**example_arrays(self.splits.samples['test'], predict))
        return TaskResult(training.metric, value, training.higher_is_better, self._extras(training, tested))

    def new_scores(self) -> PixelScores:
        """Counters of the metric."""
        return pixel_scores(self.kind, len(self.classes) or None, self.task.metric, legacy=self.task.legacy,
                            **self.task.metric_options)

    def _plan(self) -> dict[str, Any]:
        if self.data.folder is None:
            return {}
        arguments = {name: value for name, value in asdict(self.task).items() if name not in _FREE}
        return dict(arguments=to_plain(arguments), encoder=self.encoder.fingerprint(), cached=self.cached,
                    rows={split: len(rows) for split, rows in self.splits.rows.items()})

    @torch.no_grad()
    def _predict(self, model: nn.Module, images: Tensor, size: tuple[int, int]) -> Tensor:
        return self._encoded('test').predict(model.eval(), images.to(self.device), size)

    def _extras(self, training: PixelTraining, tested: dict[str, Any]) -> dict[str, object]:
        progress, settings = training.progress, self.task.all_settings
        best = progress.best
        chosen = settings[best['setting']]
        unreadable = {split: self.unreadable.get(split, 0) + len(samples.bad)
                      for split, samples in self.splits.samples.items()}
        directions = self.new_scores().known()
        return dict(
            metrics={name: value for name, value in tested['metrics'].items() if value is not None},
            higher_is_better={name: up for name, up in directions.items()
                              if name in tested['metrics'] and up != training.higher_is_better},
            n_train=len(self.splits.rows['train']), n_val=len(self.splits.rows.get('val', ())), n_test=tested['count'],
            selected=dict(chosen.to_dict(), epoch=best['epoch'] + 1),
            chosen_on='test' if self.task.legacy else 'val',
            grid=[dict(setting.to_dict(), **_worth(progress.curves.get(setting.name), training),
                       diverged_in_epoch=progress.diverged.get(setting.name),
                       **({'test': progress.tests[setting.name]['metrics']} if self.task.legacy
                          and setting.name in progress.tests else {})) for setting in settings],
            curves=progress.curves, classes=self.classes, cache=self.cached, unreadable=unreadable,
            **({'stage4': self.note} if self.note else {}))


def _worth(curves: dict[str, list[float | None]] | None, training: PixelTraining) -> dict[str, float | int | None]:
    """The best value on validation, and its epoch."""
    column = (curves or {}).get('val_metric', ())
    values = [(value, epoch) for epoch, value in enumerate(column, 1) if value is not None]
    if not values:
        return dict(val=None, epoch=None)
    value, epoch = (max if training.higher_is_better else min)(values, key=lambda entry: entry[0])
    return dict(val=value, epoch=epoch)
