"""Training with the prototypes of episodes: when they are made, and how they reach the rows of a batch."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_flag, check_whole
from clear.core.errors import CheckpointError, ConfigError
from clear.core.faiss_library import check_backend, faiss_for
from clear.core.logs import logger
from clear.core.seeding import get_rng_state, set_rng_state
from clear.datasets import EpisodicSampler, GlobalBatchSampler, ImageTextPairs
from clear.features.episodes.encoding import encode_pairs
from clear.features.episodes.prototypes import Prototypes, PrototypeSettings
from clear.features.episodes.teacher import ExternalTeacher
from clear.models.alignment import ProtoCLIP
from clear.registry import HOOKS

if TYPE_CHECKING:
    from mmengine.optim import OptimWrapper
    from mmengine.runner.base_loop import BaseLoop
    from torch.utils.data import DataLoader

    from clear.core.types import State


class TrainsEpisodes(Protocol):
    """What is asked of the Runner."""

    bare_model: nn.Module
    hooks: list[Hook]
    optim_wrapper: OptimWrapper
    train_dataloader: DataLoader
    train_loop: BaseLoop
    device: torch.device
    is_training: bool
    is_epoch_based: bool
    epoch: int
    max_epochs: int
    seed: int

    def call_hook(self, name: str, **given: object) -> None: ...


@HOOKS.register_module()
class PrototypeHook(Hook):
    """Cluster each episode of an `EpisodicSampler` when it is drawn, and let a `ProtoCLIP` train on the clusters (Chen
    et al. 2022, arXiv:2206.10996).

    Before the first epoch of an episode all its pairs are encoded by the model as it is then, under the captions and
    augmentations of that epoch (see `encode_pairs`); images, texts and the teacher's rows are clustered apart. All
    follows from (seed, epoch). Clusters are a part of checkpoints written inside an episode; after them they are not
    needed.

    Args:
        num_clusters: of images, of texts, and of the teacher's rows. Beyond the size of an episode, the rest are
            prototypes of zeros; so are back translations of clusters without members, which else keep the centroid
            that k-means gave them.
        max_iter, restarts, backend: of k-means, see `fit_kmeans`.
        back_translation: see `PrototypeSettings`.
        external_teacher: path of features for every sample of the data set, see `ExternalTeacher`. It needs
            `back_translation`, else it is left out.
        warmup_epochs: at first, epochs without prototypes.
        lit_start_epoch: the first epoch, counted from 1, in which there are none any more; None for never. From it on
            the image tower is in eval mode, as a locked one (LiT, arXiv:2111.07991): statistics of BatchNorm rest, and
            nothing is dropped. Whether the published code does so is not known. The rate of the image tower is the
            schedule's.
        batch_size: pairs of a forward pass when an episode is encoded.

    Raises:
        ConfigError: for numbers out of range, and before training for what does not fit.
    """

    def __init__(self, num_clusters: int = 20000, *, max_iter: int = 20, restarts: int = 1,
                 back_translation: bool = False, external_teacher: str | Path | None = None, warmup_epochs: int = 0,
                 lit_start_epoch: int | None = None, batch_size: int = 256, backend: str = 'auto'):
        for name, value in dict(num_clusters=num_clusters, max_iter=max_iter, restarts=restarts,
                                batch_size=batch_size).items():
            check_whole(f'PrototypeHook.{name}', value, 1)
        check_whole('PrototypeHook.warmup_epochs', warmup_epochs, 0)
        if lit_start_epoch is not None:
            check_whole('PrototypeHook.lit_start_epoch', lit_start_epoch, 1)
        check_flag('PrototypeHook.back_translation', back_translation)
        check_backend(backend)
        self.num_clusters, self.max_iter, self.restarts, self.backend = num_clusters, max_iter, restarts, backend
        self.back_translation, self.external_teacher = back_translation, external_teacher
        self.warmup_epochs, self.lit_start_epoch, self.batch_size = warmup_epochs, lit_start_epoch, batch_size
        self._settings: PrototypeSettings | None = None
        self._teacher: ExternalTeacher | None = None
        self._prototypes: Prototypes | None = None
        self._positions: Tensor | None = None
        self._plan: list[str] = []

    def is_active(self, epoch: int) -> bool:
        """Whether there are prototypes in an epoch, counted from 0."""
        return epoch >= self.warmup_epochs and (self.lit_start_epoch is None or epoch < self.lit_start_epoch - 1)

    # Before training

    def before_run(self, runner: TrainsEpisodes) -> None:
        if not runner.is_training:
            return
        model = runner.bare_model
        if not isinstance(model, ProtoCLIP):
            raise ConfigError(f"PrototypeHook is for model=dict(type='ProtoCLIP', ...); {type(model).__name__} has no "
                              'use for prototypes.')
        if sum(isinstance(hook, PrototypeHook) for hook in runner.hooks) > 1:
            raise ConfigError('PrototypeHook stands in the config twice: a model has the prototypes of one.')
        if not runner.is_epoch_based:
            raise ConfigError('PrototypeHook: an episode is an epoch, but train_cfg has by_epoch=False.')
        faiss_for(self.backend)
        if self.backend == 'faiss' and runner.device.type != 'cpu':
            raise ConfigError(f"PrototypeHook.backend is 'faiss', which clusters on the CPU; features are on "
                              f"{runner.device.type}. Use 'auto'.")
        sampler = _episodes(runner.train_dataloader)
        if not any(map(self.is_active, range(runner.max_epochs))):
            raise ConfigError(f'PrototypeHook: none of {runner.max_epochs} epochs has prototypes: warmup_epochs is '
                              f'{self.warmup_epochs}, lit_start_epoch {self.lit_start_epoch}.')
        if self.num_clusters > sampler.episode_size:
            logger.warning('PrototypeHook.num_clusters is %d, but an episode has %d pairs: %d prototypes stay zero.',
                           self.num_clusters, sampler.episode_size, self.num_clusters - sampler.episode_size)
        self._settings = PrototypeSettings(
            self.num_clusters, self.max_iter, self.restarts, self.backend, self.back_translation,
            modalities=model.proto_weight > 0, external=self._has_external(model))
        if self._settings.external:
            self._teacher = ExternalTeacher(self.external_teacher, runner.train_dataloader.dataset)
        model.has_prototypes = True
        self._plan = self._planned(runner, sampler)

    def plan(self) -> list[str]:
        """See `PlansAhead`."""
        return self._plan

    def _planned(self, runner: TrainsEpisodes, sampler: EpisodicSampler) -> list[str]:
        active = [epoch + 1 for epoch in range(runner.max_epochs) if self.is_active(epoch)]
        lasts = f' for {sampler.interval} epochs each' if sampler.interval > 1 else ''
        kinds = ' and '.join(dict(image='images', text='texts', external='the external teacher')[source]
                             for source in self._settings.sources)
        return [f'episodes  of {sampler.episode_size:,} pairs{lasts}  {self.num_clusters:,} prototypes of {kinds} in '
                f'epochs {active[0]} to {active[-1]}']

    def _has_external(self, model: ProtoCLIP) -> bool:
        if not model.external_weight:
            if self.external_teacher is not None:
                logger.warning('PrototypeHook.external_teacher is not read: model.external_weight is 0.')
            return False
        if self.external_teacher is None:
            raise ConfigError(f'model.external_weight is {model.external_weight:g}, but PrototypeHook has no '
                              'external_teacher.')
        if self.back_translation:
            return True
        if not model.proto_weight:
            raise ConfigError('PrototypeHook.external_teacher needs back_translation=True; without it, and with a '
                              'model.proto_weight of 0, there are no prototypes.')
        logger.warning('PrototypeHook.external_teacher needs back_translation=True: its loss is left out.')
        return False

    # Checkpoints

    def before_save_checkpoint(self, runner: TrainsEpisodes, checkpoint: State) -> None:
        sampler = _episodes(runner.train_dataloader)
        if self._prototypes is not None and self._prototypes.first_epoch == sampler.first_of(runner.epoch):
            checkpoint['prototypes'] = self._prototypes.state()

    def after_load_checkpoint(self, runner: TrainsEpisodes, checkpoint: State) -> None:
        state, self._prototypes = checkpoint.get('prototypes'), None
        if self._settings is None or state is None:
            return
        shapes = self._settings.shapes(_episodes(runner.train_dataloader).episode_size,
                                       runner.bare_model.text_proto_head.out_channels)
        self._prototypes = Prototypes.of_state(state, shapes, runner.device)

    # Training

    def before_train_epoch(self, runner: TrainsEpisodes) -> None:
        sampler, epoch = _episodes(runner.train_dataloader), runner.epoch
        sampler.set_epoch(epoch)
        # The loop calls the model's train() after this.
        runner.bare_model.image_rests = self.lit_start_epoch is not None and epoch >= self.lit_start_epoch - 1
        first = sampler.first_of(epoch)
        if epoch == first and runner.train_loop.batch == 0:
            self._prototypes = None
            if any(map(self.is_active, range(epoch, min(epoch + sampler.interval, runner.max_epochs)))):
                self._prototypes = self._made(runner, sampler)
        self._positions, runner.bare_model.clusters = None, {}
        if self.is_active(epoch):
            if self._prototypes is None or self._prototypes.first_epoch != first:
                raise CheckpointError('The checkpoint lacks the prototypes of its episode; resume from one that was '
                                      'written at the end of an episode.')
            self._positions, runner.bare_model.clusters = sampler.positions(), self._prototypes.targets()

    def _made(self, runner: TrainsEpisodes, sampler: EpisodicSampler) -> Prototypes:
        draws, started, numbers = sampler.draws(), time.monotonic(), get_rng_state()
        with ExitStack() as held:
            held.callback(set_rng_state, numbers)
            features = encode_pairs(runner.bare_model, runner.train_dataloader, sampler.epoch, draws.tolist(),
                                    batch_size=self.batch_size,
                                    autocast=runner.optim_wrapper.optim_context(runner.bare_model))
            encoded = time.monotonic()
            if self._teacher is not None and dist.is_main():
                features['external'] = self._teacher.take(draws.numpy()).to(runner.device)
            found = Prototypes.find(features, self._settings, first_epoch=sampler.epoch, seed=runner.seed)
            clustered = time.monotonic()
            with dist.patient_group() as group:
                dist.in_agreement(lambda: self._show(runner, sampler, features, found, draws), group)
        logger.info('episode of epoch %d: %d pairs encoded in %.0f s, %d prototypes of each kind found in %.0f s',
                    sampler.epoch + 1, len(draws), encoded - started, self.num_clusters, clustered - encoded)
        return found

    def _show(self, runner: TrainsEpisodes, sampler: EpisodicSampler, features: dict[str, Tensor],
              prototypes: Prototypes, draws: Tensor) -> None:
        """Let other hooks see the clusters (`SeesClusters`), in the first process."""
        if dist.is_main():
            labels = {source: prototypes.tensors[f'labels_{source}'] for source in self._settings.sources}
            runner.call_hook('after_clustering', features=features, labels=labels, draws=draws,
                             num_clusters=self.num_clusters, episode=sampler.epoch // sampler.interval)

    def before_train_iter(self, runner: TrainsEpisodes, batch_idx: int, data_batch: dict | None = None) -> None:
        if self._positions is not None:
            data_batch['positions'] = self._positions[runner.train_dataloader.batch_sampler.own_part(batch_idx)]

    def after_train_iter(self, runner: TrainsEpisodes, batch_idx: int, data_batch: dict | None = None,
                         outputs: dict | None = None) -> None:
        runner.bare_model.clamp_scales()


def _episodes(loader: DataLoader) -> EpisodicSampler:
    """The sampler of a training loader.

    Raises:
        ConfigError: if it draws no episodes, or the data are no pairs.
    """
    if not isinstance(loader.dataset, ImageTextPairs):
        raise ConfigError("PrototypeHook clusters pairs: train_dataloader.dataset=dict(type='ImageTextPairs', ...).")
    batches = loader.batch_sampler
    if not isinstance(batches, GlobalBatchSampler) or not isinstance(batches.sampler, EpisodicSampler):
        raise ConfigError('PrototypeHook clusters episodes, and train_dataloader draws none: '
                          "sampler=dict(type='EpisodicSampler', episode_size=200000).")
    return batches.sampler
