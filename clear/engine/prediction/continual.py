"""A checkpoint of a continual run as a classifier, of images, or of features and the images that they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.core.modes import evaluation_mode
from clear.datasets.images.decode import UnreadableImage, decode_image
from clear.datasets.transforms import build_transform
from clear.engine.prediction.base import in_groups
from clear.engine.prediction.class_names import class_names_of
from clear.engine.prediction.inputs import FEATURES
from clear.features import FeatureBank
from clear.features.build import make_encoder
from clear.features.loading import check_resized

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmengine.config import Config
    from PIL.Image import Image

    from clear.core.types import Options


@dataclass
class ImageReader:
    """Images as the run's evaluation sees them."""

    transform: Callable[[Image], torch.Tensor]
    resize: int | None = None

    def read(self, path: str) -> list[torch.Tensor]:
        if path.endswith(FEATURES):
            raise UnreadableImage('a file of features; this model takes images')
        return [self.prepare(decode_image(path))]

    def prepare(self, image: Image) -> torch.Tensor:
        check_resized(image, self.resize)
        sample = self.transform(image)
        if not isinstance(sample, torch.Tensor):
            raise ConfigError("scenario.eval_transform gives no tensor. Is dict(type='ToTensor') missing?")
        return sample


@dataclass
class FeatureReader:
    """Files of features, and images where the encoder is known.

    Args:
        images: reads images for the encoder.
        refusal: why there is none.
    """

    images: ImageReader | None
    refusal: str = ''

    def read(self, path: str) -> list[torch.Tensor] | torch.Tensor:
        if path.endswith(FEATURES):
            return read_features(path)
        if self.images is None:
            raise ConfigError(self.refusal)
        return self.images.read(path)

    def prepare(self, image: Image) -> torch.Tensor:
        if self.images is None:
            raise ConfigError(self.refusal)
        return self.images.prepare(image)


@dataclass
class NoReader:
    """Of a stream that lies in memory, such as the built-in digits: the model is asked with tensors alone."""

    refusal: str

    def read(self, path: str) -> list[torch.Tensor]:
        raise ConfigError(self.refusal)

    def prepare(self, image: Image) -> torch.Tensor:
        raise ConfigError(self.refusal)


def read_features(path: str) -> torch.Tensor:
    """The features of a NumPy file, (N, D) float32; of a single one (1, D).

    Raises:
        UnreadableImage: if it holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableImage(f'no NumPy file of features: {error}') from error
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
        raise UnreadableImage('expected features of shape (D,) or (N, D)')
    rows = torch.from_numpy(np.atleast_2d(array).astype(np.float32))
    if not rows.isfinite().all():
        raise UnreadableImage('features that are no finite numbers')
    return rows


class ContinualClassifier:
    """The model of a continual run, in evaluation mode, after a checkpoint.

    Args:
        cfg: of the run, checked.
        checkpoint: of it, or a file of its model's weights.
        task: which head answers, of a model with one for each task.

    Raises:
        ConfigError: if `task` names no task of the model.
        CheckpointError: as of `tools/test.py`.
    """

    def __init__(self, cfg: Config, checkpoint: Path, task: int | None = None):
        from clear.engine.continual.runner import ContinualRunner

        cfg['loggers'], cfg['metrics'], cfg['load_from'] = [], [], None
        self._cfg, self._checkpoint = cfg, checkpoint
        runner = ContinualRunner(cfg, is_checked=True)
        self.device = runner.device
        self._encoder, self._dtype, self.reader = _input_of(cfg['scenario'], self.device)
        self._model = trained_model(runner, checkpoint)
        self._task = checked_task(self._model, task)
        self.reads_features = isinstance(self.reader, FeatureReader) and self.reader.images is None
        self.batch_size, self.num_workers = runner.cfg['cl_strategy']['eval_mb_size'], runner.cfg['num_workers']

    def class_names(self, num_classes: int) -> list[str]:
        return class_names_of(self._cfg, self._checkpoint, num_classes)

    def scores(self, samples: Sequence[torch.Tensor]) -> torch.Tensor:
        from clear.continual.multitask import call

        found: list[torch.Tensor | None] = [None] * len(samples)
        with evaluation_mode(self._model):
            for places in in_groups(samples):
                batch = torch.stack([samples[place] for place in places]).to(self.device)
                try:
                    logits = call(self._model, self._encoded(batch), self._task)
                except RuntimeError as error:
                    raise ConfigError(f'The model cannot take an input of shape {tuple(batch.shape[1:])}: {error}. '
                                      'Is it of the kind that the run was trained on?') from error
                for place, row in zip(places, logits.float().softmax(1).cpu()):
                    found[place] = row
        return torch.stack(found)

    def _encoded(self, batch: torch.Tensor) -> torch.Tensor:
        """Features of images as a bank holds them, in its dtype; anything else as it is."""
        if self._encoder is None or batch.ndim == 2:
            return batch
        with torch.no_grad():
            return self._encoder(batch).to(self._dtype).float()


def trained_model(runner, checkpoint: Path) -> nn.Module:
    """The model that the run's strategy measures, with the weights of a checkpoint; the data are not read.

    Args:
        runner: a `ContinualRunner`, nothing of it built.
    """
    from clear.continual.strategies import build_strategy, quiet_avalanche
    from clear.continual.training.precision import set_precision
    from clear.engine.checkpoint import load_model_weights

    runner.build_model()
    with quiet_avalanche():
        strategy = build_strategy(runner.cfg['cl_strategy'], runner.model, device=runner.device)
    set_precision(strategy.model, runner.cfg['amp'], runner.device)
    load_model_weights(strategy.model, checkpoint)
    return strategy.model.to(runner.device)


def checked_task(model: nn.Module, task: int | None) -> int | None:
    """`task` where the model is told tasks.

    Raises:
        ConfigError: if it is missing or unknown there, or given elsewhere.
    """
    from clear.continual.multitask import known_tasks, takes_tasks

    if not takes_tasks(model):
        if task is not None:
            raise ConfigError('--task is for models with a head for each task; this one has one head.')
        return None
    known = known_tasks(model)
    if task not in known:
        lacks = '' if task is None else f', and none for task {task}'
        choice = ', '.join(map(str, sorted(known)))
        raise ConfigError(f'The model has a head for each task{lacks}: say with --task which one answers, of {choice}.')
    return task


def _input_of(scenario: Options, device: torch.device
              ) -> tuple[nn.Module | None, torch.dtype, ImageReader | FeatureReader | NoReader]:
    """What encodes images before the model, the dtype its features are kept in, and what reads files."""
    if scenario.get('feature_type') is not None:
        return None, torch.float32, FeatureReader(None, 'The run reads features that are stored with its data '
                                                  f"(feature_type='{scenario['feature_type']}'); what made them from "
                                                  f'images is not known. Give files of such features ({FEATURES}).')
    feature = scenario.get('feature')
    if feature is None:
        if not scenario.get('eval_transform'):
            return None, torch.float32, NoReader('The config has no scenario.eval_transform, which says how an image '
                                                 'becomes the input of the model; set it.')
        return None, torch.float32, ImageReader(build_transform(scenario['eval_transform'], 'scenario.eval_transform'))
    encoder, dtype = _encoder_of(feature)
    if encoder is None:
        refusal = (f"The bank {feature['bank']} does not tell the encoder that made it, so images cannot be encoded. "
                   f'Give files of features ({FEATURES}), or make the bank from the config of an encoder.')
        return None, torch.float32, FeatureReader(None, refusal)
    return encoder.to(device), getattr(torch, dtype), FeatureReader(ImageReader(encoder.preprocess.build(),
                                                                                encoder.preprocess.resize))


def _encoder_of(feature: Options) -> tuple[nn.Module | None, str]:
    """The encoder of `scenario.feature`, and the dtype of its bank.

    Raises:
        ConfigError: if the encoder that a bank names is another one today.
    """
    if 'encoder' in feature:
        return make_encoder(feature['encoder']), feature.get('dtype', 'float16')
    bank = FeatureBank.open(feature['bank'])
    config = (bank.meta.get('encoder') or {}).get('config')
    if config is None:
        return None, bank.meta['dtype']
    encoder = make_encoder(config)
    if encoder.fingerprint() != bank.meta['identity']['encoder']:
        raise ConfigError(f'{bank.path} was made by an encoder with other weights than its config gives now; what it '
                          'would say of images means nothing. Make the bank again.')
    return encoder, bank.meta['dtype']
