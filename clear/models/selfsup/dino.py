"""DINO."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError
from clear.models.losses import DINOLoss
from clear.models.necks import DINOHead
from clear.models.selfsup.parts.base import SelfSupervisedModel
from clear.models.selfsup.parts.encoder import Encoder, equal_size_groups, split_groups
from clear.models.selfsup.parts.momentum import check_momentum, cosine_momentum, momentum_copy
from clear.registry import MODELS


@MODELS.register_module()
class DINO(SelfSupervisedModel):
    """A student predicts, from every view, the centred and sharpened output of a momentum teacher for the large ones
    (DINO, Caron et al. 2021, arXiv:2104.14294).

    Neighbouring views of one size go through the backbone as one batch, all views together through the head, as in
    the authors' code. The teacher's momentum goes to 1 along a half cosine; its moving average is taken at the start
    of an iteration, with the momentum of one step later than in the authors' code. The centre, in
    `criterion`, follows every part of a batch with accumulated gradients. The teacher is what one keeps.

    Args:
        backbone: see `Encoder`.
        neck: a `DINOHead`.
        momentum: share of the teacher's weights that the first iteration keeps.
        student_temp, teacher_temp: temperatures of both softmaxes.
        warmup_teacher_temp, warmup_teacher_temp_epochs: the teacher's goes, epoch by epoch, from the first to
            `teacher_temp`, which the last of these epochs has; 0 epochs for no warm-up.
        center_momentum: share of the old centre that is kept.
        freeze_last_layer_epochs: epochs at the start in which the head's last layer has a gradient of zero.
        num_global: how many views, the first ones, the teacher sees.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two or more of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if an argument is out of range or parts do not fit.
    """

    num_views = None

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, momentum: float = 0.996,
                 student_temp: float = 0.1, teacher_temp: float = 0.07, *, warmup_teacher_temp: float = 0.04,
                 warmup_teacher_temp_epochs: int = 30, center_momentum: float = 0.9,
                 freeze_last_layer_epochs: int = 1, num_global: int = 2, channels_last: bool | None = None,
                 data_preprocessor: dict | nn.Module | None = None, init_cfg: dict | list | None = None):
        super().__init__(channels_last=channels_last, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        check_momentum(self, momentum)
        for name, value, least in (('warmup_teacher_temp_epochs', warmup_teacher_temp_epochs, 0),
                                   ('freeze_last_layer_epochs', freeze_last_layer_epochs, 0),
                                   ('num_global', num_global, 1)):
            check_whole(f'DINO: {name}', value, least)
        check_number('DINO: warmup_teacher_temp', warmup_teacher_temp, above=0)
        self.student = Encoder(backbone, neck, channels_last=channels_last)
        if not isinstance(self.student.neck, DINOHead):
            raise ConfigError(f'DINO: neck is a {type(self.student.neck).__name__}, expected a DINOHead, whose last '
                              'layer can be held.')
        if self.student.neck.last_layer is None:
            raise ConfigError('DINO: neck.out_channels is None, expected the number of directions.')
        self.teacher = momentum_copy(self.student)
        self.criterion = DINOLoss(self.student.out_dim, student_temp, teacher_temp, center_momentum)
        self.momentum = momentum
        self.teacher_temp = teacher_temp
        self.warmup_teacher_temp = warmup_teacher_temp
        self.warmup_teacher_temp_epochs = warmup_teacher_temp_epochs
        self.freeze_last_layer_epochs = freeze_last_layer_epochs
        self.num_global = num_global

    @property
    def evaluated(self) -> Encoder:
        return self.teacher

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.teacher, self.student)]

    def current_momentum(self) -> float:
        return cosine_momentum(self.momentum, 0.0 if self.progress is None else self.progress.share)

    def current_teacher_temp(self) -> float:
        """Temperature of the targets at this iteration."""
        epochs = self.warmup_teacher_temp_epochs
        if self.progress is None or self.progress.epoch >= epochs:
            return self.teacher_temp
        share = self.progress.epoch / (epochs - 1) if epochs > 1 else 0.0
        return self.warmup_teacher_temp + share * (self.teacher_temp - self.warmup_teacher_temp)

    def last_layer_is_held(self) -> bool:
        """Whether this iteration is one of those at the start in which the last layer does not train."""
        return self.progress is not None and self.progress.epoch < self.freeze_last_layer_epochs

    def held_parameters(self) -> list[nn.Parameter]:
        """What an optimiser must leave alone in this iteration."""
        return [self.student.neck.last_layer] if self.last_layer_is_held() else []

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        if len(views) < self.num_global:
            raise ConfigError(f'DINO: the batch has {len(views)} views, but num_global is {self.num_global}. Check '
                              'the recipe of MultiCrop.')
        with torch.no_grad():
            targets = self._outputs(self.teacher, views[:self.num_global])
        outputs = self._outputs(self.student, views, is_held=self.last_layer_is_held())
        return dict(loss=self.criterion(outputs, targets, teacher_temp=self.current_teacher_temp()))

    def _outputs(self, encoder: Encoder, views: list[Tensor], *, is_held: bool = False) -> list[Tensor]:
        groups = equal_size_groups(views)
        return split_groups(encoder.neck(encoder.pooled_groups(views, groups), is_held=is_held), groups)
