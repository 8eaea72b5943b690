"""How good the features are while training goes on: kNN and a linear probe, every few epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_whole
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.core.contracts import GivesFeatures
from clear.core.errors import ConfigError, DataError
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.core.seeding import get_rng_state, set_rng_state
from clear.evaluation.image.knn import KNN
from clear.evaluation.image.linear_probe import LinearProbe
from clear.evaluation.image.rows import LabelledRows, ProbeData
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.visualization import Visualizer

    from clear.core.types import LogEntry
    from clear.datasets.loaders.evaluation import EvaluationImages

# Of ImageNet, as in the recipes of the views.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Images with labels: as tensors, as they were read, or what `read_evaluation_images` takes.
Labelled: TypeAlias = 'tuple[Tensor, Tensor] | EvaluationImages | dict'


class Trains(Protocol):
    """What is asked of the Runner under which a hook measures."""

    bare_model: nn.Module
    hooks: list[Hook]
    is_epoch_based: bool
    epoch: int
    max_epochs: int
    iter: int
    device: torch.device
    visualizer: Visualizer
    measured_at_start: dict[str, float]
    train_log: list[LogEntry]

    def add_measurements(self, values: dict[str, float]) -> None: ...


class EveryFewEpochs(Hook):
    """Measure the model every few epochs; the training does not notice.

    The first process measures alone, with its own running statistics of BatchNorm, and the others wait.

    Args:
        interval: epochs between two measurements; the last epoch is always measured.
        at_start: also before the first iteration, logged as epoch 0.
        batch_size: samples in one forward pass.
    """

    priority = 'NORMAL'
    # Names of what `measure` returns.
    measures: tuple[str, ...] = ()

    def __init__(self, interval: int = 1, at_start: bool = False, batch_size: int = 256):
        for key, value in (('interval', interval), ('batch_size', batch_size)):
            check_whole(f'{type(self).__name__}.{key}', value, 1)
        self.interval, self.at_start, self.batch_size = interval, at_start, batch_size
        self._failed: Exception | None = None

    def prepare(self, runner: Trains) -> None:
        """Read what is measured on, in the first process.

        Raises:
            ConfigError, DataError: for what cannot be measured on, before anything is trained.
        """
        raise NotImplementedError

    def measure(self, runner: Trains) -> dict[str, float]:
        """Measured value by name, in the first process; the model is in eval mode and there are no gradients."""
        raise NotImplementedError

    def before_run(self, runner: Trains) -> None:
        if not runner.is_epoch_based:
            raise ConfigError(f'{type(self).__name__} measures every {self.interval} epoch(s), but train_cfg has '
                              'by_epoch=False. Use by_epoch=True with max_epochs.')
        if dist.is_main():
            self.prepare(runner)

    def before_train(self, runner: Trains) -> None:
        if self.at_start and runner.iter == 0:
            self._evaluate(runner, 0)
        last = runner.train_log[-1] if runner.train_log else None
        # A measurement that failed ended the run behind the epoch that it was of: it is made up for when that goes on.
        if (last is not None and last['iteration'] == runner.iter and self._is_due(runner, last['epoch'])
                and not all(name in last for name in self.measures)):
            self._evaluate(runner, last['epoch'], last)

    def after_train_epoch(self, runner: Trains) -> None:
        epoch = runner.epoch + 1
        if self._is_due(runner, epoch):
            try:
                self._evaluate(runner, epoch)
            # Whatever it is: the epoch is trained, and must be saved before the run ends.
            except Exception as error:
                self._failed = error

    def after_epoch_saved(self, runner: Trains) -> None:
        if dist.any_rank(self._failed is not None, runner.device):
            raise self._failed or DataError('The online evaluation failed in the first process.')

    def _is_due(self, runner: Trains, epoch: int) -> bool:
        return epoch % self.interval == 0 or epoch == runner.max_epochs

    def _evaluate(self, runner: Trains, epoch: int, entry: LogEntry | None = None) -> None:
        try:
            if dist.is_main():
                self._evaluate_here(runner, epoch, entry)
        finally:
            dist.barrier()

    def _evaluate_here(self, runner: Trains, epoch: int, entry: LogEntry | None) -> None:
        """Into the log entry of an epoch that was finished before, or that of the present one."""
        with undisturbed(runner.bare_model):
            values = self.measure(runner)
        if entry is not None:
            entry.update(values)
        elif epoch:
            runner.add_measurements(values)
        runner.visualizer.add_scalars({**values, 'iter': runner.iter}, step=epoch)
        if not epoch:
            logger.info('before training  %s', '  '.join(f'{name} {value:.3f}' for name, value in values.items()))
            runner.measured_at_start.update(values)


class _OnlineEvaluation(EveryFewEpochs):
    """Every few epochs, score the features of labelled images.

    Args:
        train, test: labelled images: (images, labels) tensors, or what `read_evaluation_images` takes, a dict.
            Images are (N, 3, H, W), uint8 (then normalised by mean and std) or float; labels (N,) int64.
        interval, at_start, batch_size: see `EveryFewEpochs`.
    """

    def __init__(self, train: Labelled, test: Labelled, interval: int = 1, at_start: bool = False,
                 batch_size: int = 256, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        super().__init__(interval, at_start, batch_size)
        self.mean, self.std = tuple(mean), tuple(std)
        self._sources = dict(train=train, test=test)
        self._data: dict[str, tuple[Tensor, Tensor]] = {}

    def before_run(self, runner: Trains) -> None:
        if not isinstance(runner.bare_model, GivesFeatures):
            raise ConfigError(f'{type(self).__name__} evaluates model.features, which '
                              f'{type(runner.bare_model).__name__} does not have.')
        super().before_run(runner)

    def prepare(self, runner: Trains) -> None:
        self._data = read_images(**self._sources)
        self.check(self._data['train'][1], self._data['test'][1])

    def check(self, train: Tensor, test: Tensor) -> None:
        """Refuse labels (N,), (M,) that cannot be scored, before anything is trained.

        Raises:
            ConfigError, DataError: saying what to change.
        """
        unknown = sorted(set(test.tolist()) - set(train.tolist()))
        if unknown:
            raise DataError(f'{type(self).__name__}: test has the label {unknown[0]}, which no train image has.')

    def score(self, data: ProbeData) -> dict[str, float]:
        """Measured value by name."""
        raise NotImplementedError

    def measure(self, runner: Trains) -> dict[str, float]:
        rows = {split: LabelledRows(extract(runner.bare_model, images, batch_size=self.batch_size, mean=self.mean,
                                            std=self.std, device=runner.device), labels)
                for split, (images, labels) in self._data.items()}
        classes = [str(label) for label in range(int(rows['train'].labels.max()) + 1)]
        return self.score(ProbeData(rows['train'], rows['test'], classes))


@HOOKS.register_module()
class OnlineKNNHook(_OnlineEvaluation):
    """Top-1 of k nearest neighbours, as `knn_top1`; see `clear.evaluation.KNN`.

    Args:
        train, test, interval, at_start, batch_size, mean, std: see `_OnlineEvaluation`.
        k: neighbours; temperature: of their votes, None for equal ones.
    """

    measures = ('knn_top1',)

    def __init__(self, train: Labelled, test: Labelled, interval: int = 1, at_start: bool = False,
                 batch_size: int = 256, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, k: int = 20,
                 temperature: float | None = 0.07):
        super().__init__(train, test, interval, at_start, batch_size, mean, std)
        self.task = KNN(k=k, temperature=temperature)

    def check(self, train: Tensor, test: Tensor) -> None:
        super().check(train, test)
        check_whole('OnlineKNNHook.k, the neighbours of each test image,', max(self.task.ks), 1, len(train))

    def score(self, data: ProbeData) -> dict[str, float]:
        return dict(knn_top1=self.task.fit(data).value)


@HOOKS.register_module()
class OnlineLinearHook(_OnlineEvaluation):
    """Top-1 of a linear probe with one setting, as `linear_top1`; see `clear.evaluation.LinearProbe`.

    Args:
        train, test, interval, at_start, batch_size, mean, std: see `_OnlineEvaluation`.
        lr, epochs, probe_batch_size: of the probe, SGD with a cosine on standardised features.
    """

    measures = ('linear_top1',)

    def __init__(self, train: Labelled, test: Labelled, interval: int = 1, at_start: bool = False,
                 batch_size: int = 256, mean: Sequence[float] = MEAN, std: Sequence[float] = STD, lr: float = 0.1,
                 epochs: int = 20, probe_batch_size: int = 256):
        super().__init__(train, test, interval, at_start, batch_size, mean, std)
        self.task = LinearProbe(lrs=[lr], seeds=1, epochs=epochs, batch_size=probe_batch_size)

    def score(self, data: ProbeData) -> dict[str, float]:
        return dict(linear_top1=self.task.fit(data).result.value)


def read_images(train: Labelled, test: Labelled) -> dict[str, tuple[Tensor, Tensor]]:
    """Images (N, 3, H, W) and labels (N,) of both splits, with the classes of 'test' numbered as those of 'train'.

    Raises:
        ConfigError: if they are not of that form.
        DataError: if a class of 'test' is not among those of 'train'.
    """
    found, names = {}, {}
    for split, source in (('train', train), ('test', test)):
        if isinstance(source, dict):
            source = _from_files(source)
        is_pair = isinstance(source, (tuple, list))
        names[split] = None if is_pair else source.class_names
        images, labels = source if is_pair else (source.images, source.labels)
        labels = torch.as_tensor(labels, dtype=torch.int64)
        if images.ndim != 4 or images.shape[1] != 3 or len(images) != len(labels) or not len(labels):
            raise ConfigError(f'{split}: images {tuple(images.shape)} and labels {tuple(labels.shape)}; expected '
                              '(N, 3, H, W) and (N,) with N at least 1.')
        found[split] = (images, labels)
    if names['train'] is not None and names['test'] is not None and names['train'] != names['test']:
        unknown = sorted(set(names['test']) - set(names['train']))
        if unknown:
            raise DataError(f'online evaluation: test has classes that train lacks: {", ".join(unknown[:5])}.')
        to_train = torch.tensor([names['train'].index(name) for name in names['test']])
        found['test'] = (found['test'][0], to_train[found['test'][1]])
    return found


def _from_files(options: dict) -> EvaluationImages:
    from clear.datasets.loaders.evaluation import read_evaluation_images
    from clear.datasets.readers.bucket_lists import BucketChoice

    options = dict(options)
    check_keys('online evaluation', options, accepted_arguments(read_evaluation_images), 'read_evaluation_images')
    if isinstance(options.get('choice'), dict):
        check_keys('online evaluation: choice', options['choice'], accepted_arguments(BucketChoice), 'BucketChoice')
        options['choice'] = BucketChoice(**options['choice'])
    return read_evaluation_images(**options)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """In eval mode without gradients; afterwards every module's mode and every generator are as before."""
    numbers = get_rng_state()
    try:
        with evaluation_mode(model):
            yield
    finally:
        set_rng_state(numbers)


def extract(model: nn.Module, images: Tensor, *, batch_size: int, mean: Sequence[float], std: Sequence[float],
            device: torch.device) -> Tensor:
    """`model.features` of all images (N, D), float32 on the CPU."""
    centre = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)
    parts = []
    for part in images.split(batch_size):
        part = part.to(device)
        if not part.is_floating_point():
            part = (part.float() / 255 - centre) / scale
        parts.append(model.features(part).float().cpu())
    return torch.cat(parts)
