"""Evaluation tasks on the model that trains, every few epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from clear.core.errors import ConfigError, DataError
from clear.datasets.readers.build import read_images
from clear.datasets.table import ImageTable
from clear.evaluation.online import EveryFewEpochs
from clear.evaluation.task import Task, TaskData, needs_of
from clear.features.loading import image_batches
from clear.models import ImageTextAlignment
from clear.registry import HOOKS, TASKS

if TYPE_CHECKING:
    from clear.evaluation.online import Trains


class FeatureRows:
    """Features of the images of a table, with the part of a bank's interface that tasks read."""

    def __init__(self, images: ImageTable, features: Tensor, valid: Tensor):
        self.class_names = list(images.class_names)
        self._features, self._valid = features, valid
        self._labels = torch.from_numpy(images.label_array())

    def subset_rows(self) -> np.ndarray:
        """Rows (M,) int64 of readable images."""
        return self._valid.nonzero().squeeze(1).numpy()

    def tensors(self, rows: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Features (M, D) float32 and labels (M,) int64 of the readable images among `rows` (None: all)."""
        rows = torch.as_tensor(self.subset_rows() if rows is None else np.asarray(rows))
        rows = rows[self._valid[rows]]
        return self._features[rows], self._labels[rows]


@HOOKS.register_module()
class TaskHook(EveryFewEpochs):
    """Tasks such as `ZeroShot` and `ImageTextRetrieval`, or a probe, on an `ImageTextAlignment` while it trains.

    Features are those after the image's head, of images prepared as the image tower evaluates them. Images that cannot
    be read are left out. The value of a task is called by its `name` or type, other metrics `<name>_<metric>`.

    Args:
        tasks: list of `dict(type=TASK, ...)`, with a `name` where two are of one type; tasks on banks and text alone.
        data: split ('train', 'val', 'test') -> `dict(type=READER, ...)`.
        interval, at_start, batch_size: see `EveryFewEpochs`.
        num_workers: processes that read images.
    """

    def __init__(self, tasks: Sequence[Mapping], data: Mapping[str, Mapping], interval: int = 1, at_start: bool = False,
                 batch_size: int = 256, num_workers: int = 0):
        super().__init__(interval, at_start, batch_size)
        self.data, self.num_workers = dict(data), num_workers
        self.tasks: dict[str, Task] = {}
        for options in tasks:
            name = str(options.get('name') or options['type'])
            if name in self.tasks:
                raise ConfigError(f"TaskHook: two tasks are called '{name}'; give one of them name='...'.")
            self.tasks[name] = TASKS.build({key: value for key, value in options.items() if key != 'name'})
            other = {*needs_of(self.tasks[name])} - {'bank', 'text', 'text_encoder'}
            if other:
                raise ConfigError(f"TaskHook: {options['type']} needs {', '.join(sorted(other))}, which is not there "
                                  'while a model trains.')
        self.measures = tuple(self.tasks)
        self._images: dict[str, ImageTable] = {}

    def prepare(self, runner: Trains) -> None:
        model = runner.bare_model
        if not isinstance(model, ImageTextAlignment):
            raise ConfigError(f'TaskHook evaluates models of images and text; {type(model).__name__} is none.')
        self._images = {split: read_images(source, f'TaskHook.data.{split}') for split, source in self.data.items()}
        for name, task in self.tasks.items():
            lacking = [split for split, images in self._images.items()
                       if 'text' in needs_of(task) and 'caption' not in images]
            if lacking:
                raise DataError(f'TaskHook: {name} needs captions, and the images of {lacking[0]} have none.')

    def measure(self, runner: Trains) -> dict[str, float]:
        encoder = _Encoder(runner.bare_model, self.batch_size)
        banks = {split: self._rows(images, runner) for split, images in self._images.items()}
        texts = {split: [images.captions(row) for row in range(len(images))] if 'caption' in images else None
                 for split, images in self._images.items()}
        values = {}
        for name, task in self.tasks.items():
            found = dict(bank=banks, text=texts)
            result = task.run(encoder, TaskData(**{need: found[need] for need in needs_of(task) if need in found}))
            values[name] = result.value
            values |= {f'{name}_{metric}': value for metric, value in result.extras.get('metrics', {}).items()
                       if metric != result.metric}
        return values

    def _rows(self, images: ImageTable, runner: Trains) -> FeatureRows:
        model, preprocess = runner.bare_model, runner.bare_model.image_encoder.preprocess
        features = torch.zeros(len(images), model.embed_dim('image'))
        valid = torch.ones(len(images), dtype=torch.bool)
        rows = np.arange(len(images))
        parts = [part.tolist() for part in np.split(rows, range(self.batch_size, len(rows), self.batch_size))]
        for batch in image_batches(images, preprocess, parts, num_workers=self.num_workers):
            features[batch.rows] = model.encode_image(batch.images.to(runner.device)).float().cpu()
            valid[list(batch.reasons)] = False
        if not valid.any():
            raise DataError(f'{images.root}: none of {len(images)} images can be read.')
        return FeatureRows(images, features, valid)


class _Encoder(torch.nn.Module):
    """The text side of a model that trains, as tasks ask for it."""

    def __init__(self, model: torch.nn.Module, batch_size: int):
        super().__init__()
        self.model, self.batch_size = model, batch_size

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(N, D) on the CPU."""
        parts = [self.model.encode_text(texts[start:start + self.batch_size]).float().cpu()
                 for start in range(0, len(texts), self.batch_size)]
        return torch.cat(parts)
