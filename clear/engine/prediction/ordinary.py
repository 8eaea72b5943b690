"""A checkpoint of an ordinary run as a classifier: mmpretrain's models, behind the pipeline of their test data."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from clear.core.errors import ConfigError
from clear.core.modes import evaluation_mode
from clear.datasets.images.decode import UnreadableImage
from clear.engine.prediction.class_names import (
    beside_the_data,
    first_names,
    is_classifier,
    of_the_checkpoint,
    of_the_data_set,
    of_the_run,
)
from clear.engine.prediction.inputs import FEATURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmengine.config import Config
    from PIL.Image import Image

    from clear.engine.training.runner import Runner

_LOADER = 'LoadImageFromFile'
# Of the config, what a model alone is built from.
_KEPT = ('model', 'data_preprocessor', 'device', 'default_scope', 'custom_imports', 'name', 'seed')


class PipelineReader:
    """Files and images through the transforms of a data set of mmpretrain.

    Args:
        steps: the transforms after the one that loads files.
        load: that one; None where the data set hands over pixels, as CIFAR's does.
        is_rgb: pixels are RGB there; what loads files gives BGR.
    """

    def __init__(self, steps: Sequence[Callable[[dict], dict]], load: Callable[[dict], dict] | None, is_rgb: bool):
        self.steps, self.load, self.is_rgb = steps, load, is_rgb

    def read(self, path: str) -> list[dict[str, object]]:
        from clear.datasets.images.decode import decode_image

        if path.endswith(FEATURES):
            raise UnreadableImage('a file of features; this model takes images')
        if self.load is None:
            return [self.prepare(decode_image(path))]
        try:
            found = self.load(dict(img_path=path))
        except Exception as error:  # every back end has errors of its own
            raise UnreadableImage(f'{type(error).__name__}: {error}') from error
        if found is None:
            raise UnreadableImage('no image')
        return [self._packed(found)]

    def prepare(self, image: Image) -> dict[str, object]:
        pixels = np.asarray(image.convert('RGB'))
        if not self.is_rgb:
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        return self._packed(dict(img=pixels, img_shape=pixels.shape[:2], ori_shape=pixels.shape[:2]))

    def _packed(self, results: dict[str, object]) -> dict[str, object]:
        for step in self.steps:
            results = step(results)
        return results


class OrdinaryClassifier:
    """The model of an ordinary run, in evaluation mode, after a checkpoint.

    Args:
        cfg: of the run, checked.
        checkpoint: of it, or a file of its model's weights.
        build: a config to the Runner of its model, not of its training.

    Raises:
        ConfigError: for a model that tells no classes, or data without a pipeline.
        CheckpointError: as of `tools/test.py`.
    """

    def __init__(self, cfg: Config, checkpoint: Path, build: Callable[[dict], Runner]):
        from clear.engine.checkpoint import load_model_weights

        split = next((f'{kind}_dataloader' for kind in ('test', 'val') if cfg.get(f'{kind}_dataloader')), None)
        self._dataset, self._checkpoint = _innermost(cfg[split]['dataset']) if split else {}, checkpoint
        with tempfile.TemporaryDirectory() as scratch:
            runner = build({**{key: cfg[key] for key in _KEPT if key in cfg}, 'work_dir': scratch})
        self._model, self.device = runner.bare_model, runner.device
        _check_classifies(self._model)
        if split is None or not self._dataset.get('pipeline'):
            raise ConfigError('The config has no test_dataloader or val_dataloader with a data set with a pipeline, '
                              'which says how an image becomes the input of the model.')
        preprocessor = getattr(self._model, 'data_preprocessor', None)
        self.reader = _reader_of(self._dataset, is_rgb=not getattr(preprocessor, 'to_rgb', False))
        load_model_weights(self._model, checkpoint)
        self.reads_features = False
        self.batch_size, self.num_workers = cfg[split].get('batch_size', 1), cfg[split].get('num_workers', 0)

    def class_names(self, num_classes: int) -> list[str]:
        return first_names([lambda: of_the_run(self._checkpoint), lambda: of_the_checkpoint(self._checkpoint),
                            lambda: _of_the_data(self._dataset)], num_classes)

    def scores(self, samples: Sequence[dict[str, object]]) -> torch.Tensor:
        batch = {key: [sample[key] for sample in samples] for key in samples[0]}
        with evaluation_mode(self._model):
            data = self._model.data_preprocessor(batch, False)
            found = self._model(**data, mode='predict')
        if not all(hasattr(sample, 'pred_score') for sample in found):
            raise ConfigError(f'{type(self._model).__name__} predicts no shares of classes.')
        return torch.stack([sample.pred_score for sample in found]).float().cpu()


def _check_classifies(model: torch.nn.Module) -> None:
    if not is_classifier(model):
        raise ConfigError(f'{type(model).__name__} has no classes: it is trained to give features. Measure those by a '
                          'probing config (docs/probing.md), or train a classifier that begins with them '
                          '(load_from=checkpoint).')


def _innermost(dataset: dict) -> dict:
    """The data set inside those that repeat or join others."""
    while isinstance(inner := dataset.get('dataset') or (dataset.get('datasets') or [None])[0], dict):
        dataset = inner
    return dataset


def _reader_of(dataset: dict, is_rgb: bool) -> PipelineReader:
    from mmengine.dataset import Compose
    from mmengine.registry import DefaultScope

    scope = dataset.get('_scope_')
    with DefaultScope.overwrite_default_scope(scope):
        steps = Compose(dataset['pipeline']).transforms
    kinds = [type(step).__name__ for step in steps]
    if _LOADER not in kinds:
        return PipelineReader(steps, None, is_rgb)
    place = kinds.index(_LOADER)
    return PipelineReader(steps[place + 1:], steps[place], is_rgb=False)


def _of_the_data(dataset: dict) -> object:
    from clear.core.configs.building import building
    from clear.registry import DATASETS

    with building('The data set'):  # the files may be elsewhere by now
        built = DATASETS.build(dict(dataset))
    # Its own come first: a folder of classes orders them by name, whatever a list beside it says.
    return of_the_data_set(built) or beside_the_data(dataset)
