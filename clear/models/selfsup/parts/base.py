"""What every self-supervised algorithm has in common: views in, losses out, and schedules that follow the progress."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.models.checked import CheckedModel
from clear.models.selfsup.parts.encoder import Encoder
from clear.models.selfsup.parts.momentum import follow
from clear.registry import MODELS


@dataclass(frozen=True)
class Progress:
    """Where in the training an iteration is.

    Args:
        iteration: counts from 0, over all epochs.
        max_iterations, iterations_per_epoch: of the whole training, and of an epoch.
        is_step_start: False for the second and later parts of a batch whose gradients are accumulated.
    """

    iteration: int
    max_iterations: int
    iterations_per_epoch: int
    is_step_start: bool = True

    @property
    def share(self) -> float:
        """Of the training that is done, 0 to 1."""
        return self.iteration / max(self.max_iterations, 1)

    @property
    def epoch(self) -> int:
        """Counts from 0."""
        return self.iteration // max(self.iterations_per_epoch, 1)


class SelfSupervisedModel(CheckedModel):
    """Base of the algorithms. A member sets `num_views`, and implements `evaluated` and `compute_losses`.

    Mode 'loss' takes a list of views (N, 3, h, w), floats, and gives a dict of scalars: keys with `loss` in them are
    summed to what is minimised, others are for the log. Mode 'tensor' takes images (N, 3, H, W) and gives the
    features (N, embed_dim) of the backbone that one keeps after training. In eval mode a loss leaves no trace: no
    moving average, nothing enqueued.

    Schedules are functions of `set_progress` alone, so a resumed training has the same. Without a call nothing is
    frozen, warm-ups are over and momenta have their first value.

    Args:
        channels_last: memory format of weights and maps, see `Encoder`; None is contiguous on a CPU, else
            channels_last. True is obeyed on a CPU too, with a warning.
        data_preprocessor: config or module, see mmengine; moves to the device if None.
        init_cfg: as for every mmengine module.

    Raises:
        ConfigError: if a part does not fit; in mode 'loss', if the number or shape of the views is wrong.
    """

    num_views: int | None = 2  # None: at least two

    def __init__(self, *, channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        if isinstance(data_preprocessor, dict):
            data_preprocessor = MODELS.build(data_preprocessor)
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.channels_last = channels_last
        self.progress: Progress | None = None

    def forward(self, inputs: Sequence[Tensor] | Tensor, data_samples: object = None, mode: str = 'tensor'
                ) -> dict[str, Tensor] | Tensor:
        if mode == 'loss':
            return self.loss(inputs)
        if mode == 'tensor':
            return self.features(inputs)
        raise ValueError(f"{type(self).__name__}: mode is {mode!r}, expected 'loss' or 'tensor'.")

    def loss(self, views: Sequence[Tensor]) -> dict[str, Tensor]:
        """One training iteration without its backward pass."""
        self._check_views(views)
        if self.channels_last and views[0].device.type == 'cpu':
            _warn_of_channels_last()
        if self.training and self.is_step_start:
            for target, source in self.momentum_pairs():
                follow(target, source, self.current_momentum())
        return self.compute_losses(list(views))

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        self._check_views(shown['inputs'])

    def features(self, images: Tensor) -> Tensor:
        """Pooled features (N, embed_dim) of the backbone that one keeps; set eval mode and no_grad yourself."""
        return self.evaluated.pooled(images)

    def set_progress(self, iteration: int, max_iterations: int, iterations_per_epoch: int, is_step_start: bool = True
                     ) -> None:
        """Say where the training is, before every iteration."""
        self.progress = Progress(iteration, max_iterations, iterations_per_epoch, is_step_start)

    @property
    def is_step_start(self) -> bool:
        """Whether this iteration is the first since the weights changed."""
        return self.progress is None or self.progress.is_step_start

    @property
    def evaluated(self) -> Encoder:
        """The encoder whose backbone one keeps."""
        raise NotImplementedError

    @property
    def backbone(self) -> nn.Module:
        return self.evaluated.backbone

    @property
    def embed_dim(self) -> int:
        """Width of the features."""
        return self.evaluated.embed_dim

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        """The losses of checked views; momentum encoders have moved already."""
        raise NotImplementedError

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(momentum encoder, the encoder that it follows)."""
        return []

    def current_momentum(self) -> float:
        """Share of the old weights that momentum encoders keep at this iteration."""
        return self.momentum

    def init_weights(self) -> None:
        """Draw weights as the parts' `init_cfg` says; momentum encoders begin as copies."""
        super().init_weights()
        for target, source in self.momentum_pairs():
            target.load_state_dict(source.state_dict())

    def _check_views(self, views: Sequence[Tensor]) -> None:
        name = type(self).__name__
        if isinstance(views, Tensor):
            raise ConfigError(f'{name}: got one tensor {tuple(views.shape)}, expected a list of views. The data set '
                              "needs transform=dict(type='MultiCrop') or the model "
                              "data_preprocessor=dict(type='ViewPreprocessor', views=...).")
        if len(views) < 2 or self.num_views not in (None, len(views)):
            expected = 'at least 2' if self.num_views is None else str(self.num_views)
            raise ConfigError(f'{name}: the batch has {len(views)} views of each image, expected {expected}. Check '
                              'the recipe of MultiCrop.')
        shapes = [tuple(view.shape) for view in views]
        if any(len(shape) != 4 or shape[:2] != (shapes[0][0], 3) for shape in shapes):
            raise ConfigError(f'{name}: views have shapes {shapes}, expected (N, 3, h, w) with one N.')

    def _dump_init_info(self) -> None:
        """Write nothing; mmengine would log one line for every parameter."""


@functools.cache  # Once, not in every iteration.
def _warn_of_channels_last() -> None:
    logger.warning("channels_last=True on a CPU: torch's BatchNorm loses three digits in it, and without AVX-512 some "
                   'narrow convolutions crash. Leave it out to have this format on GPUs alone.')
