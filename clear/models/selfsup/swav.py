"""SwAV."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_whole
from clear.core.dist import gather_rows
from clear.core.errors import ConfigError
from clear.models.losses import SwAVLoss
from clear.models.necks import Prototypes
from clear.models.queue import check_room, enqueue
from clear.models.selfsup.moco import unit_rows
from clear.models.selfsup.parts.base import SelfSupervisedModel
from clear.models.selfsup.parts.encoder import Encoder, equal_size_groups, split_groups
from clear.registry import MODELS


@MODELS.register_module()
class SwAV(SelfSupervisedModel):
    """The cluster codes of one view are predicted from the others (SwAV, Caron et al. 2020, arXiv:2006.09882).

    Neighbouring views of one size go through the backbone as one batch, all views together through the neck, as in
    the authors' code. The queue holds the embeddings of the global batch, alike in every process; each process
    scores its part of it. It takes part once it is full.

    Args:
        backbone, neck: see `Encoder`.
        num_prototypes: P.
        temperature: of the predictions.
        epsilon: sharpness of the codes.
        sinkhorn_iterations: of the assignment of codes.
        assign_views: indices of the views that make codes, usually the large crops.
        queue_size: embeddings that are kept per assigning view, for batches of few more images than prototypes or
            fewer; 0 for no queue. 3840 in the paper's small-batch recipe.
        queue_start_epoch: the first epoch, from 0, whose embeddings are kept.
        freeze_iterations: iterations at the start in which prototypes have a gradient of zero; None is one epoch.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: two or more of (N, 3, h, w)   returns: dict(loss=())

    Raises:
        ConfigError: if an argument is out of range, parts do not fit, or the queue is smaller than the global batch.
    """

    num_views = None

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, num_prototypes: int = 3000,
                 temperature: float = 0.1, epsilon: float = 0.05, sinkhorn_iterations: int = 3, *,
                 assign_views: Sequence[int] = (0, 1), queue_size: int = 0, queue_start_epoch: int = 15,
                 freeze_iterations: int | None = None, channels_last: bool | None = None,
                 data_preprocessor: dict | nn.Module | None = None, init_cfg: dict | list | None = None):
        super().__init__(channels_last=channels_last, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        assign_views = tuple(assign_views)
        if not assign_views or len(set(assign_views)) < len(assign_views) or min(assign_views) < 0:
            raise ConfigError(f'SwAV: assign_views is {list(assign_views)}, expected different indices >= 0, at least '
                              'one.')
        for name, value in (('queue_size', queue_size), ('queue_start_epoch', queue_start_epoch),
                            ('freeze_iterations', freeze_iterations or 0)):
            check_whole(f'SwAV: {name}', value, 0)
        self.encoder = Encoder(backbone, neck, channels_last=channels_last)
        self.prototypes = Prototypes(self.encoder.out_dim, num_prototypes)
        self.criterion = SwAVLoss(temperature, epsilon, sinkhorn_iterations)
        self.assign_views = assign_views
        self.queue_start_epoch = queue_start_epoch
        self.freeze_iterations = freeze_iterations
        # (views, D, Q), and per view the column to write next; queue_count is how many were ever written.
        self.register_buffer('queue', torch.zeros(len(assign_views), self.encoder.out_dim, queue_size))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))
        self.register_buffer('queue_count', torch.zeros(1, dtype=torch.long))
        self._num_queued: int | None = None  # Its value; None if it has to be read, which waits for the device.

    @property
    def evaluated(self) -> Encoder:
        return self.encoder

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        self._check(views)
        if self.training and self.is_step_start:
            self.prototypes.renormalise()
        groups = equal_size_groups(views)
        embeddings = self.encoder.neck(self.encoder.pooled_groups(views, groups))
        embeddings = split_groups(unit_rows(embeddings), groups)
        is_held = self.prototypes_are_held()
        scores = [self.prototypes(each, is_held=is_held) for each in embeddings]
        assigning = [scores[index] for index in self.assign_views]
        others = [each for index, each in enumerate(scores) if index not in self.assign_views]
        loss = self.criterion(assigning, others, self._queued_scores())
        if self.training and self._keeps_embeddings():
            self._remember([embeddings[index] for index in self.assign_views])
        return dict(loss=loss)

    def prototypes_are_held(self) -> bool:
        """Whether this iteration is one of those at the start in which prototypes do not train."""
        if self.progress is None:
            return False
        until = self.progress.iterations_per_epoch if self.freeze_iterations is None else self.freeze_iterations
        return self.progress.iteration < until

    def held_parameters(self) -> list[nn.Parameter]:
        """What an optimiser must leave alone in this iteration."""
        return [self.prototypes.weight] if self.prototypes_are_held() else []

    def _keeps_embeddings(self) -> bool:
        started = self.progress is None or self.progress.epoch >= self.queue_start_epoch
        return self.queue.shape[2] > 0 and started

    @torch.no_grad()
    def _queued_scores(self) -> list[Tensor] | None:
        """Per assigning view, the scores of this process's part of the queue; None while it is not full."""
        if self.queue.shape[2] == 0 or not self._keeps_embeddings():
            return None
        if self._num_queued is None:
            self._num_queued = int(self.queue_count)
        if self._num_queued < self.queue.shape[2]:
            return None
        return [self.prototypes(part[:, dist.rank()::dist.world_size()].T) for part in self.queue]

    @torch.no_grad()
    def _remember(self, embeddings: list[Tensor]) -> None:
        for part, rows in zip(self.queue, embeddings):
            everything = gather_rows(rows.detach())
            pointer = self.queue_ptr.clone()
            enqueue(part, pointer, everything)
        self.queue_ptr.copy_(pointer)
        self.queue_count += len(everything)
        if self._num_queued is not None:
            self._num_queued += len(everything)

    def _load_from_state_dict(self, *args: object) -> None:
        super()._load_from_state_dict(*args)
        self._num_queued = None

    def _check(self, views: list[Tensor]) -> None:
        if max(self.assign_views) >= len(views):
            raise ConfigError(f'SwAV: assign_views has {max(self.assign_views)}, but the batch has {len(views)} views: '
                              f'indices go from 0 to {len(views) - 1}.')
        if self.queue.shape[2]:
            check_room(self.queue.shape[2], len(views[0]))
