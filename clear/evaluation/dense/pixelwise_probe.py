"""The task of pixels: a head on the maps of a frozen encoder, or with the encoder, for targets of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError
from clear.datasets.dense.recipe import DenseRecipe
from clear.evaluation.dense.inputs.map_cache import can_store
from clear.evaluation.dense.making import check_head
from clear.evaluation.dense.pixelwise_job import PixelwiseJob
from clear.evaluation.dense.sliding import SlidingWindows
from clear.evaluation.dense.training.settings import settings_of
from clear.evaluation.heads.deeplab import PROTOCOLS
from clear.evaluation.metrics.pixel_losses import pixel_loss
from clear.evaluation.task import TaskData, TaskResult
from clear.features.identity import DTYPES
from clear.registry import TASKS

CACHES = ('auto', 'maps', 'none')


@TASKS.register_module()
@dataclass(kw_only=True)
class PixelwiseProbe:
    """Train a head for pixels in one setting or several, choose setting and epoch on validation, report the test once.

    Heads read five maps of the encoder, see `clear.evaluation.heads`. Every setting begins with the same first head,
    drawn from `seed`, and sees the same batches. One whose loss leaves the finite numbers is out.

    The encoder is frozen, and a head that dilates its fourth stage (`DeepLabHead`) gets a frozen copy of that. Where a
    recipe draws nothing at random and makes images of one size, the maps are stored once, for all epochs, settings and
    runs; of a dilated stage its output is. In float16 they are rounded, so `cache` is part of the result.

    Args:
        head: type and arguments; `map_channels`, `out_channels` and a fourth stage are filled in.
        out_channels: numbers for each pixel; by default one for each class, 2 of flow, 3 of an image, else 1.
        loss, metric, metric_options: see `pixel_loss` and `pixel_scores`.
        recipe: of training images, see `DenseRecipe`; test_recipe: of the others, by default what of it is not random.
        settings: name -> optimizer, lr, schedule, weight_decay, momentum; by default adam at 1e-4.
        lrs, optimizers, schedules: in place of `settings`, every combination of these.
        val_fraction: share of the training images that validates, where there is no split 'val'.
        protocol: 'strict', or 'virb' for the details in which a head of ViRB differs by intention, and momentum of 0
            where sgd's is not said.
        legacy: as ViRB's code ran: no validation, the last epoch counts, and the setting that is best on the test
            images; batches that are not full are dropped, at the test, too; the fourth stage in a DeepLab head trains.
        cache: 'maps' stores maps or refuses, 'none' encodes every batch, 'auto' stores where recipe and budget allow.
        cache_dtype: 'float16', or 'float32' for the very values.
        budget_gb: disk space for stored maps, in 10^9 bytes. Those of a task must fit into it; of other tasks' maps,
            which stay for the next run, those used longest ago are deleted for it, which the log says.
        amp: mixed precision.
        inference: 'whole' images, or dict(window=, stride=) for windows that slide over them.
        train_encoder: let a copy of the encoder train, too, at `encoder_lr` (by default that of the head), times
            `layer_decay` for each block towards the input.
        checkpoint_every: iterations after which the state within an epoch is kept.

    Raises:
        ConfigError: for a value that is none, or values that do not go together.

    Example:
        >>> task = PixelwiseProbe(head=dict(type='LinearPixelHead'), loss=dict(type='cross_entropy'), metric='miou',
        ...                       recipe=dict(size=(64, 64)), lrs=[1e-3, 1e-2])
        >>> [setting.name for setting in task.all_settings]
        ['adam_0.001', 'adam_0.01']
    """

    needs: ClassVar = ('images',)
    splits: ClassVar = ('train', 'test')
    encodes_by_itself: ClassVar = True
    one_seed_per_job: ClassVar = True

    head: Mapping[str, Any]
    loss: Mapping[str, Any]
    metric: str
    out_channels: int | None = None
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    test_recipe: Mapping[str, Any] | None = None
    settings: Mapping[str, Mapping[str, Any]] | None = None
    lrs: Sequence[float] | None = None
    optimizers: Sequence[str] | None = None
    schedules: Sequence[str | dict] | None = None
    epochs: int = 100
    batch_size: int = 16
    test_batch_size: int = 64
    val_fraction: float = 0.1
    protocol: str = 'strict'
    legacy: bool = False
    cache: str = 'auto'
    cache_dtype: str = 'float16'
    budget_gb: float = 20.0
    amp: bool = False
    inference: str | Mapping[str, int] = 'whole'
    train_encoder: bool = False
    encoder_lr: float | None = None
    layer_decay: float | None = None
    seed: int = 0
    checkpoint_every: int | None = None
    device: str = 'cpu'
    num_workers: int = 0

    def __post_init__(self):
        check_head(self.head)
        pixel_loss(self.loss)
        for name in ('epochs', 'batch_size', 'test_batch_size'):
            check_whole(name, getattr(self, name), 1)
        for name in ('out_channels', 'checkpoint_every'):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        for name in ('legacy', 'amp', 'train_encoder'):
            check_flag(name, getattr(self, name))
        check_number('val_fraction', self.val_fraction, above=0, below=1)
        check_number('budget_gb', self.budget_gb, 0)
        check_choice('protocol', self.protocol, PROTOCOLS)
        check_choice('cache', self.cache, CACHES)
        check_choice('cache_dtype', self.cache_dtype, DTYPES)
        self.all_settings = settings_of(self.settings, self.lrs, self.optimizers, self.schedules,
                                        **(dict(momentum=0.0) if self.protocol == 'virb' else {}))
        train = DenseRecipe.of(self.recipe)
        self.recipes = train, train.for_eval() if self.test_recipe is None else self._given_test_recipe()
        self._check_training()
        self._check_cache()

    def _given_test_recipe(self) -> DenseRecipe:
        try:
            recipe = DenseRecipe.of(self.test_recipe)
        except ConfigError as error:
            raise ConfigError(f'test_{error}') from error  # it speaks of 'recipe'
        if recipe != recipe.for_eval():
            raise ConfigError(f'test_recipe is {recipe.to_dict()}, of which some is drawn at random. Images that are '
                              f'tested are all seen in one way; leave {recipe.for_eval().to_dict()}.')
        return recipe

    def _check_training(self) -> None:
        for name, most in (('encoder_lr', None), ('layer_decay', 1)):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), most=most, above=0)
                if not self.train_encoder:
                    raise ConfigError(f'{name} goes with train_encoder=True; the encoder is frozen.')
        if self.train_encoder and self.cache == 'maps':
            raise ConfigError("cache='maps' stores maps of a frozen encoder; with train_encoder=True they change.")

    def _check_cache(self) -> None:
        train, test = self.recipes
        if self.cache == 'maps' and not (can_store(train) and can_store(test)):
            raise ConfigError(f"cache='maps' needs images that are the same in every epoch and of one size; recipe is "
                              f"{train.to_dict()}, in evaluation {test.to_dict()}. Take cache='auto' or 'none'.")
        self.windows = None if self.inference == 'whole' else SlidingWindows.of(self.inference)
        if self.windows is not None and self.cache == 'maps':
            raise ConfigError("cache='maps' stores maps of whole images; windows that slide need images.")

    def check_fit(self, encoder: nn.Module, data: TaskData) -> None:
        """Refuse what `run` would refuse before it encodes anything, but for a budget that is too small."""
        PixelwiseJob(self, encoder, data)

    def run(self, encoder: nn.Module, data: TaskData) -> TaskResult:
        """Train and test on the images 'train', 'test' and, if there is one, 'val'.

        Raises:
            ConfigError: for an encoder without maps, images without targets, a head that does not fit, or a budget
                that is too small.
            DataError: for targets that are not what they should be, before anything is trained.
            TrainingError: if every setting diverges.
            Interrupted: after a signal; what is done is kept.
        """
        return PixelwiseJob(self, encoder, data).run()
