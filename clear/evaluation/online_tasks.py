"""Evaluation tasks on the model that trains, every few epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from mmengine.hooks import EMAHook
from torch import Tensor

from clear.core import dist
from clear.core.checks import check_flag
from clear.core.configs.building import building
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.errors import ConfigError, DataError
from clear.core.programs.startup import choose_device
from clear.datasets.clips import clip_length
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.evaluation.online import EveryFewEpochs
from clear.evaluation.task import (
    ReadsFiles,
    Task,
    TaskData,
    TaskResult,
    check_images,
    encodes_by_itself,
    needs_of,
    reads_text_alone,
)
from clear.features.loading import image_batches
from clear.models import ImageTextAlignment
from clear.models.alignment.weight_averages import check_wise_ft, interpolate, other_weights
from clear.registry import HOOKS, TASKS

if TYPE_CHECKING:
    from clear.evaluation.online import Trains


class FeatureRows:
    """Features of the images of a table, with the part of a bank's interface that tasks read."""

    def __init__(self, images: ImageTable, features: Tensor, valid: Tensor):
        self.class_names = list(images.class_names)
        self._images, self._features, self._valid = images, features, valid
        self._labels = torch.from_numpy(images.label_array())

    @property
    def valid(self) -> np.ndarray:
        """(N,) bool, which images could be read."""
        return self._valid.numpy()

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, -1 = no label."""
        return self._labels.numpy()

    @property
    def clip_length(self) -> int:
        """How many rows that follow each other make a clip; 1 of single images."""
        return clip_length(self._images)

    def subset_rows(self) -> np.ndarray:
        """Rows (M,) int64 of readable images."""
        return self._valid.nonzero().squeeze(1).numpy()

    def rows_of(self, ids: Iterable[str]) -> np.ndarray:
        """Rows (N,) int64 of images by id, in the order of `ids`, unreadable ones included.

        Raises:
            DataError: naming the first id that is not there.
        """
        places = {name: row for row, name in enumerate(self._images.cells('id'))}
        try:
            return np.array([places[name] for name in ids], dtype=np.int64)
        except KeyError as error:
            raise DataError(f'{self._images.root}: there is no image {error}.') from None

    def tensors(self, rows: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Features (M, D) float32 and labels (M,) int64 of the readable images among `rows` (None: all)."""
        rows = torch.as_tensor(self.subset_rows() if rows is None else np.asarray(rows))
        rows = rows[self._valid[rows]]
        return self._features[rows], self._labels[rows]

    def captions(self) -> list[list[str]] | None:
        """Those of every row; None if the images have none."""
        images = self._images
        return [images.captions(row) for row in range(len(images))] if 'caption' in images else None

    def of_bucket(self, name: str) -> FeatureRows:
        """The rows of one bucket; the classes are still those of all."""
        images, places = self._images.in_buckets()
        rows = slice(places[name].start, places[name].stop)
        return FeatureRows(images.select(rows), self._features[rows], self._valid[rows])


@HOOKS.register_module()
class TaskHook(EveryFewEpochs):
    """Tasks such as `ZeroShot` and `ImageTextRetrieval`, or a probe, on an `ImageTextAlignment` while it trains.

    Features are those after the image's head, of images prepared as the image tower evaluates them. Images that cannot
    be read are left out. A task on text alone, such as `SentenceSimilarity`, needs no data. The value of a task is
    called by its `name` or type, other metrics `<name>_<metric>`.

    A locked image tower encodes each image once; what it gives stays in memory (float32), and later measurements run
    the head alone.

    Args:
        tasks: list of `dict(type=TASK, ...)`, with a `name` where two are of one type; any that reads no maps and
            does not encode images by itself.
        data: split ('train', 'val', 'test') -> `dict(type=READER, ...)`.
        interval, at_start, batch_size: see `EveryFewEpochs`.
        num_workers: processes that read images.
        ema: measure the average that an `EMAHook` keeps, instead of the weights that train.
        wise_ft: measure `(1 - wise_ft) * start + wise_ft * weights`, `start` being what the model was before it trained
            (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
        buckets: names of buckets in time, each measured by itself; then only values are kept, as `<name>/<bucket>`. For
            tasks on banks and captions.
    """

    def __init__(self, tasks: Sequence[Mapping], data: Mapping[str, Mapping] = MappingProxyType({}), interval: int = 1,
                 at_start: bool = False, batch_size: int = 256, num_workers: int = 0, *, ema: bool = False,
                 wise_ft: float | None = None, buckets: Sequence[str] | None = None):
        super().__init__(interval, at_start, batch_size)
        if not isinstance(tasks, (list, tuple)) or not tasks:
            raise ConfigError(f'TaskHook.tasks is {tasks!r}; expected a list of dict(type=TASK, ...).')
        if not isinstance(data, Mapping):
            raise ConfigError(f"TaskHook.data is {data!r}; expected dict(test=dict(type=READER, ...)).")
        check_keys('TaskHook.data', data, {'train', 'val', 'test'}, 'it')
        self.data, self.num_workers = dict(data), num_workers
        self.ema = check_flag('TaskHook.ema', ema)
        self.wise_ft = check_wise_ft('TaskHook.wise_ft', wise_ft)
        self._start: dict[str, Tensor] | None = None
        self.buckets = None if buckets is None else list(buckets)
        if self.buckets is not None:
            self.data = {split: dict(type='StreamPart', images=images, buckets=self.buckets)
                         for split, images in self.data.items()}
        self.tasks: dict[str, Task] = {}
        for options in tasks:
            if not isinstance(options, Mapping) or not isinstance(options.get('type'), str):
                raise ConfigError(f'TaskHook.tasks holds {options!r}; expected dict(type=TASK, ...).')
            name = str(options.get('name') or options['type'])
            if name in self.tasks:
                raise ConfigError(f"TaskHook: two tasks are called '{name}'; give one of them name='...'.")
            self.tasks[name] = _built({key: value for key, value in options.items() if key != 'name'})
            self._check_needs(options['type'], self.tasks[name])
        self.measures = tuple(self.tasks) if self.buckets is None else tuple(
            f'{name}/{bucket}' for bucket in self.buckets for name in self.tasks)
        self._images: dict[str, ImageTable] = {}
        self._stored: dict[str, tuple[Tensor, Tensor]] = {}

    def _check_needs(self, kind: str, task: Task) -> None:
        needs = needs_of(task)
        if 'maps' in needs:
            raise ConfigError(f'TaskHook: {kind} needs maps, which are not there while a model trains.')
        if encodes_by_itself(task):
            raise ConfigError(f'TaskHook: {kind} with these options encodes images by itself, which takes an encoder '
                              'that has trained. Measure it in a probing config.')
        if not self.data and not reads_text_alone(needs):
            raise ConfigError(f'TaskHook: {kind} needs {needs[0]}: give data=dict(test=dict(type=READER, ...)).')
        if self.buckets is not None and ('images' in needs or reads_text_alone(needs)):
            raise ConfigError(f'TaskHook: {kind} reads {needs[0]}, which is not there of each bucket. Measure it in a '
                              'TaskHook without buckets.')

    def prepare(self, runner: Trains) -> None:
        model = runner.bare_model
        if not isinstance(model, ImageTextAlignment):
            raise ConfigError(f'TaskHook evaluates models of images and text; {type(model).__name__} is none.')
        if self.ema and _average_of(runner) is None:
            raise ConfigError("TaskHook.ema needs a hook that averages: custom_hooks=[dict(type='EMAHook'), ...].")
        self._images = {split: read_images(source, f'TaskHook.data.{split}') for split, source in self.data.items()}
        for name, task in self.tasks.items():
            check_images(task, f'TaskHook: {name}', self._images)
            if isinstance(task, ReadsFiles):
                task.files_fingerprint()  # says here that a file is missing, not after an epoch

    def before_train(self, runner: Trains) -> None:
        self._remember_start(runner)
        super().before_train(runner)

    def after_load_checkpoint(self, runner: Trains, checkpoint: dict) -> None:
        self._remember_start(runner)  # a resumed run is still as it began: its weights are read after this

    def _remember_start(self, runner: Trains) -> None:
        if self.wise_ft is not None and self._start is None and dist.is_main():
            self._start = {name: value.detach().clone() for name, value in runner.bare_model.state_dict().items()}

    def measure(self, runner: Trains) -> dict[str, float]:
        if not self.ema and self.wise_ft is None:
            return self._measure(runner)
        state = runner.bare_model.state_dict()
        if self.ema and runner.iter:  # before the first iteration there is no average
            state = _average_of(runner).ema_model.module.state_dict()
        if self.wise_ft is not None:
            state = interpolate(self._start, state, self.wise_ft)
        with other_weights(runner.bare_model, state):
            return self._measure(runner)

    def _measure(self, runner: Trains) -> dict[str, float]:
        encoder = _Encoder(runner.bare_model, self.batch_size)
        banks = {split: self._rows(split, runner) for split in self._images}
        values = {}
        if self.buckets is None:
            for name, result in self._results(encoder, banks):
                values[name] = result.value
                values |= {f'{name}_{metric}': value for metric, value in result.extras.get('metrics', {}).items()
                           if metric != result.metric}
        for bucket in self.buckets or ():
            parts = {split: bank.of_bucket(bucket) for split, bank in banks.items()}
            values |= {f'{name}/{bucket}': result.value for name, result in self._results(encoder, parts)}
        return values

    def _results(self, encoder: _Encoder, banks: Mapping[str, FeatureRows]) -> Iterator[tuple[str, TaskResult]]:
        texts = {split: bank.captions() for split, bank in banks.items()}
        found = dict(bank=banks, text=texts, images=self._images)
        for name, task in self.tasks.items():
            yield name, task.run(encoder, TaskData(**{need: found[need] for need in needs_of(task) if need in found}))

    def _rows(self, split: str, runner: Trains) -> FeatureRows:
        model, images = runner.bare_model, self._images[split]
        embedded, valid = self._tower_rows(split, runner)
        if not valid.any():
            raise DataError(f'{images.root}: none of {len(images)} images can be read.')
        features = [model.project('image', part.to(runner.device)).float().cpu()
                    for part in embedded.split(self.batch_size)]
        return FeatureRows(images, torch.cat(features), valid)

    def _tower_rows(self, split: str, runner: Trains) -> tuple[Tensor, Tensor]:
        """What the image tower gives (N, D), and which images could be read (N,)."""
        # Also under EMA and WiSE-FT: an average of weights that stand still is those weights, to the bit.
        is_locked = runner.bare_model.is_locked('image')
        if is_locked and split in self._stored:
            return self._stored[split]
        tower, images = runner.bare_model.image_encoder, self._images[split]
        embedded, valid = torch.zeros(len(images), tower.embed_dim), torch.ones(len(images), dtype=torch.bool)
        parts = [list(range(start, min(start + self.batch_size, len(images))))
                 for start in range(0, len(images), self.batch_size)]
        for batch in image_batches(images, tower.preprocess, parts, num_workers=self.num_workers):
            embedded[batch.rows] = tower(batch.images.to(runner.device)).float().cpu()
            valid[list(batch.reasons)] = False
        if is_locked:
            self._stored[split] = embedded, valid
        return embedded, valid


def _built(options: Mapping) -> Task:
    """The task of a config, whose device is there."""
    kind = options['type']
    check_keys(f'TaskHook.tasks: {kind}', set(options) - {'type'}, accepted_arguments(TASKS.require(kind)), kind)
    if 'device' in options:
        choose_device(options['device'])
    with building(f'TaskHook.tasks: {kind}'):
        return TASKS.build(dict(options))


def _average_of(runner: Trains) -> EMAHook | None:
    """The hook of a run that averages its weights."""
    return next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)


class _Encoder(torch.nn.Module):
    """A model that trains, as tasks ask for it."""

    def __init__(self, model: ImageTextAlignment, batch_size: int):
        super().__init__()
        self.model, self.batch_size = model, batch_size
        self.preprocess, self.embed_dim = model.image_encoder.preprocess, model.embed_dim('image')

    def forward(self, images: Tensor) -> Tensor:
        """(N, D) of images (N, 3, H, W), where these are."""
        return self.model.encode_image(images).float()

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(N, D) on the CPU."""
        parts = [self.model.encode_text(texts[start:start + self.batch_size]).float().cpu()
                 for start in range(0, len(texts), self.batch_size)]
        return torch.cat(parts)

    def num_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the text tower reads."""
        return self.model.text_encoder.num_truncated(texts)
