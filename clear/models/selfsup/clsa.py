"""Contrastive learning with stronger augmentations."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from clear.core.checks import check_whole
from clear.core.errors import ConfigError
from clear.models.losses import CLSALoss
from clear.models.queue import retrieval_accuracy
from clear.models.selfsup.moco import MoCo, unit_rows
from clear.models.selfsup.parts.encoder import equal_size_groups, split_groups
from clear.registry import MODELS

ENQUEUED = ('key', 'second', 'both')


@MODELS.register_module()
class CLSA(MoCo):
    """MoCo whose weak views also teach strong ones how similar all keys are (CLSA, Wang and Qi 2021,
    arXiv:2104.07713).

    Views come as [key, weak ..., strong ...]. Weak views find the key of their image among those of the global batch
    and the queue; see `CLSALoss` for both parts. They are sums over views, so more crops weigh more at the same
    alpha.

    `symmetric` is meant as in the authors' code, marked as untested there, and not as written: the key image is a
    further weak query, and weak view 0, picked or not, gives a second key. Losses are those of all weak queries but the
    new one against the key, plus those of all but that of view 0 against the second key; strong queries take part in
    both.
    There, the second key was put into a wrong order, and alone into the queue.

    Args:
        backbone, neck, queue_size, momentum, temperature, shuffle_bn, acc_interval: see `MoCo`.
        clsa_t: temperature of the distributions that are compared.
        alpha: weight of the divergence.
        num_weak, num_strong: how many views of each kind a batch has.
        pick_weak, pick_strong: indices of those that are used; None all. Views that are not picked cost their
            augmentation, so a recipe had better not draw them.
        symmetric: see above.
        enqueue: 'key', 'second' or 'both' keys; only with `symmetric` is there a choice.
        concat_same_size: encode all views of one size as one batch. Faster, but BatchNorm then mixes weak and strong
            views.
        channels_last, data_preprocessor, init_cfg: see `SelfSupervisedModel`.

    Shape:
        views: 1 + num_weak + num_strong of (N, 3, h, w), the sizes may differ
        returns: dict(loss_contrastive=(), loss_divergence=(), acc=(), acc_top5=()), the last two, of the first weak
            view, at times

    Raises:
        ConfigError: if an argument is out of range, parts do not fit, or the queue is smaller than what is enqueued.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module, queue_size: int = 65536,
                 momentum: float = 0.999, temperature: float = 0.2, *, clsa_t: float = 0.2, alpha: float = 1.0,
                 num_weak: int = 1, num_strong: int = 1, pick_weak: Sequence[int] | None = None,
                 pick_strong: Sequence[int] | None = None, symmetric: bool = False, enqueue: str = 'key',
                 concat_same_size: bool = False, shuffle_bn: bool = True, acc_interval: int = 10,
                 channels_last: bool | None = None, data_preprocessor: dict | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        super().__init__(backbone, neck, queue_size, momentum, temperature, shuffle_bn=shuffle_bn,
                         acc_interval=acc_interval, channels_last=channels_last, data_preprocessor=data_preprocessor,
                         init_cfg=init_cfg)
        self.pick_weak = _picked('weak', num_weak, pick_weak)
        self.pick_strong = _picked('strong', num_strong, pick_strong)
        if enqueue not in ENQUEUED or (enqueue != 'key' and not symmetric):
            raise ConfigError(f"CLSA: enqueue is {enqueue!r}, expected 'key'" + (
                ", 'second' or 'both'." if symmetric else '; only symmetric=True has a second key.'))
        self.num_weak = num_weak
        self.num_views = 1 + num_weak + num_strong
        self.symmetric = symmetric
        self.enqueue = enqueue
        self.concat_same_size = concat_same_size
        self.criterion = CLSALoss(temperature, clsa_t, alpha)

    def _check_room(self, batch_size: int) -> None:
        super()._check_room(batch_size * (2 if self.enqueue == 'both' else 1))

    def compute_losses(self, views: list[Tensor]) -> dict[str, Tensor]:
        self._check_room(len(views[0]))
        weak_images = [views[1 + index] for index in self.pick_weak]
        strong_images = [views[1 + self.num_weak + index] for index in self.pick_strong]
        extra = [views[0]] if self.symmetric else []
        queries = self.encode_queries([*weak_images, *extra, *strong_images])
        num_weak = len(weak_images)
        weak, strong = queries[:num_weak], queries[num_weak + len(extra):]
        key = self.encode_keys(views[0])
        losses = self.criterion(weak, strong, key, self.queue)
        keys = dict(key=[key])
        if self.symmetric:
            second = self.encode_keys(views[1])
            others = [query for index, query in zip(self.pick_weak, weak) if index != 0]
            others = self.criterion([*others, queries[num_weak]], strong, second, self.queue)
            losses = {name: value + others[name] for name, value in losses.items()}
            keys = dict(key=[key], second=[second], both=[key, second])
        if self.measures_accuracy():
            losses.update(retrieval_accuracy(weak[0], key, self.queue, with_batch=True))
        self.remember(*keys[self.enqueue])
        return losses

    def encode_queries(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Unit-norm queries (N, D) of every view."""
        if not self.concat_same_size:
            return [unit_rows(self.encoder_q(view)) for view in images]
        groups = equal_size_groups(images, consecutive=False)
        pooled = self.encoder_q.pooled_groups(images, groups)
        return [unit_rows(view) for view in split_groups(self.encoder_q.neck(pooled), groups)]


def _picked(kind: str, count: int, pick: Sequence[int] | None) -> tuple[int, ...]:
    check_whole(f'CLSA: num_{kind}', count, 1)
    if pick is None:
        return tuple(range(count))
    if not len(pick) or len(set(pick)) < len(pick):
        raise ConfigError(f'CLSA: pick_{kind} is {list(pick)}, expected different indices, at least one.')
    wrong = [index for index in pick if not isinstance(index, int) or not 0 <= index < count]
    if wrong:
        raise ConfigError(f'CLSA: pick_{kind} has {wrong[0]!r}, but there are {count} {kind} views: indices go from 0 '
                          f'to {count - 1}.')
    return tuple(pick)
