"""Momentum contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.dist import gather_rows
from clear.models.losses import MoCoLoss
from clear.models.queue import check_room, enqueue, retrieval_accuracy
from clear.models.selfsup.parts.base import SelfSupervisedModel
from clear.models.selfsup.parts.encoder import Encoder
from clear.models.selfsup.parts.momentum import check_momentum, momentum_copy
from clear.models.selfsup.parts.shuffle_bn import shuffle_rows, shuffling_matters, unshuffle_rows
from clear.registry import MODELS


@MODELS.register_module()
class MoCo(SelfSupervisedModel):
    """A query finds the key of the other view of its image in a queue of earlier keys (MoCo, He et al. 2020,
    arXiv:1911.05722; v2, Chen et al. 2020, arXiv:2003.04297).

    v1: `ProjectionMLP(num_layers=1)`, temperature 0.07. v2: two layers, temperature 0.2. The queue's size need not
    be a multiple of the batch: writing goes round its end. Every part of a batch with accumulated gradients enqueues
    its keys, so later parts see those of earlier ones.

    Args:
        backbone, neck: see `Encoder`.
        queue_size: K, keys that are kept, at least as many as the global batch has images.
        momentum: share of the key encoder's weights that an iteration keeps.
        temperature: of the softmax.
        shuffle_bn: encode keys in another process than their queries, where that has an effect.
        acc_interval: iterations between two measurements of the share of queries that find their key (`acc`,
            `acc_top5`), which cost as much as the scores of the loss; 0 never.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: query and key (N, 3, h, w)   returns: dict(loss=(), acc=(), acc_top5=()), the last two at times

    Raises:
        ConfigError: if an argument is out of range, parts do not fit, or the queue is smaller than the global batch.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, queue_size: int = 65536,
                 momentum: float = 0.999, temperature: float = 0.2, *, shuffle_bn: bool = True, acc_interval: int = 10,
                 channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        super().__init__(channels_last=channels_last, data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        check_momentum(self, momentum)
        for name, value, least in (('queue_size', queue_size, 1), ('acc_interval', acc_interval, 0)):
            check_whole(f'{type(self).__name__}: {name}', value, least)
        self.encoder_q = Encoder(backbone, neck, channels_last=channels_last)
        self.encoder_k = momentum_copy(self.encoder_q)
        self.criterion = MoCoLoss(temperature)
        self.momentum = momentum
        self.shuffle_bn = shuffle_bn
        self.acc_interval = acc_interval
        self.register_buffer('queue', F.normalize(torch.randn(self.encoder_q.out_dim, queue_size), dim=0))
        self.register_buffer('queue_ptr', torch.zeros(1, dtype=torch.long))

    @property
    def evaluated(self) -> Encoder:
        return self.encoder_q

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.encoder_k, self.encoder_q)]

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        super().check_batch(shown, batch_size)
        self._check_room(batch_size)

    def _check_room(self, batch_size: int) -> None:
        check_room(self.queue.shape[1], batch_size)

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        self._check_room(len(views[0]))
        query = unit_rows(self.encoder_q(views[0]))
        key = self.encode_keys(views[1])
        losses = dict(loss=self.criterion(query, key, self.queue))
        if self.measures_accuracy():
            losses.update(retrieval_accuracy(query, key, self.queue))
        self.remember(key)
        return losses

    @torch.no_grad()
    def encode_keys(self, images: Tensor) -> Tensor:
        """Unit-norm keys (N, D) of this process's images."""
        if not (self.shuffle_bn and shuffling_matters(self.encoder_k)):
            return unit_rows(self.encoder_k(images))
        images, order = shuffle_rows(images)
        return unshuffle_rows(unit_rows(self.encoder_k(images)), order)

    def remember(self, *keys: Tensor) -> None:
        """Put the keys (N, D) of all processes into the queue, in order of rank; nothing in eval mode."""
        for each in keys if self.training else ():
            enqueue(self.queue, self.queue_ptr, gather_rows(each))

    def measures_accuracy(self) -> bool:
        """Whether this iteration is one that looks at the accuracy."""
        iteration = 0 if self.progress is None else self.progress.iteration
        return self.acc_interval > 0 and iteration % self.acc_interval == 0


def unit_rows(embedding: Tensor) -> Tensor:
    """Rows of unit length, at least float32: in half precision lengths would be off by a thousandth."""
    return F.normalize(embedding.to(torch.promote_types(embedding.dtype, torch.float32)), dim=1)
