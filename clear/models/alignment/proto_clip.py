"""CLIP with a second contrast: each row against the centroids of the clusters that the other modality falls into."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clear.core import dist
from clear.core.checks import check_number
from clear.core.configs.signatures import accepted_arguments
from clear.core.errors import ConfigError
from clear.models.alignment.image_text import TOWERS, ImageTextAlignment
from clear.models.losses import ProtoLoss
from clear.models.losses.pair_loss import DEFAULT_LOGIT_SCALE, PairLoss
from clear.models.selfsup.parts.encoder import build_part
from clear.models.towers.image import ImageEncoder
from clear.models.towers.text import TextEncoder
from clear.registry import MODELS


@dataclass(frozen=True)
class ClusterTargets:
    """Clusters of an episode, as one modality is to find them.

    Attributes:
        labels: (E,) int64, the cluster of each draw of the episode.
        student: (K, D), a centroid in the space of who looks for it.
        teacher: (K, D'), the centroid in the space where the clusters were found.
    """

    labels: Tensor
    student: Tensor
    teacher: Tensor


@MODELS.register_module()
class ProtoCLIP(ImageTextAlignment):
    """`align_weight * L_clip + proto_weight * (L_i2t + L_t2i) / 2 + external_weight * (L_i2e + L_t2e) / 2` (ProtoCLIP,
    Chen et al. 2022, arXiv:2206.10996).

    L_clip is `loss` on the embeddings. The others are `ProtoLoss` on what a further head makes of these: images look
    for the clusters of the texts, texts for those of the images, both for those of an external teacher, which are
    always hard targets. The clusters come from a `PrototypeHook`. In an iteration without them the loss is L_clip with
    a weight of 1; the further heads then run, so that their statistics move, but do not train.

    Args:
        image_encoder, text_encoder, loss: see `ImageTextAlignment`, which has the other arguments too.
        projection: config of the further heads, e.g. `dict(type='ProtoCLIPHead', out_channels=128)`; that of images
            begins as a copy of that of texts.
        proto_weight, external_weight: see above; an `align_weight` of 0 is possible here.
        target_temperature: softens the targets of the two modalities, see `ProtoLoss`; the published recipe has 0.01.

    Attributes:
        clusters: 'image' and 'text', 'external_image' and 'external_text' -> what that modality looks for; no part of
            the state. Empty where there are none.
        has_prototypes: whether somebody has undertaken to give them; without, training is refused.
        image_rests: image tower and image head stay in eval mode, whatever train() says; no part of the state.

    Shape:
        positions: (N,) int64, which draw of the episode each row is; the rest as `ImageTextAlignment`
        mode 'loss': dict of loss_clip, loss_proto, loss_external, of the shares of rows that find their cluster first
            (accuracy_...), `modality_gap` (distance between the means of normalised embeddings) and `feature_std_...`
            (mean over their dimensions), each over the rows of all processes

    Raises:
        ConfigError: if a part does not fit.
    """

    def __init__(self, image_encoder: Mapping | ImageEncoder, text_encoder: Mapping | TextEncoder,
                 loss: Mapping | PairLoss, projection: Mapping | nn.Module | None = None, *, proto_weight: float = 1.0,
                 external_weight: float = 0.0, target_temperature: float | None = None, **options):
        super().__init__(image_encoder, text_encoder, loss, **options)
        self.proto_weight = check_number('ProtoCLIP: proto_weight', proto_weight, 0)
        self.external_weight = check_number('ProtoCLIP: external_weight', external_weight, 0)
        if not self.proto_weight and not self.external_weight:
            raise ConfigError("ProtoCLIP: proto_weight and external_weight are both 0, so there are no prototypes. Use "
                              "type='ImageTextAlignment'.")
        if target_temperature is not None:
            check_number('ProtoCLIP: target_temperature', target_temperature, above=0)
        self.text_proto_head = self._build_projection(projection)
        self.image_proto_head = copy.deepcopy(self.text_proto_head)
        self.logit_scale_proto = nn.Parameter(torch.tensor(math.log(DEFAULT_LOGIT_SCALE)))
        self.soft_loss, self.hard_loss = ProtoLoss(target_temperature), ProtoLoss()
        self.clusters: dict[str, ClusterTargets] = {}
        self.has_prototypes = self.image_rests = False
        self._is_resting = False

    @property
    def encodes_images(self) -> bool:
        return True

    def proto_head(self, side: str) -> nn.Module:
        """What makes features for clusters from the embeddings of 'image' or 'text'."""
        return self.image_proto_head if side == 'image' else self.text_proto_head

    def train(self, mode: bool = True) -> ProtoCLIP:
        super().train(mode)
        for part in (self.image_encoder, self.image_head) if mode and self.image_rests else ():
            if part is not None:
                part.eval()
        return self

    def held_parameters(self) -> list[nn.Parameter]:
        """What an optimiser must leave alone in an iteration without clusters."""
        if not self._is_resting:
            return []
        return [self.logit_scale_proto, *self.text_proto_head.parameters(), *self.image_proto_head.parameters()]

    def clamp_scales(self) -> None:
        super().clamp_scales()
        if self.max_logit_scale is not None:
            with torch.no_grad():
                self.logit_scale_proto.clamp_(0, math.log(self.max_logit_scale))

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        super().check_batch(shown, batch_size)
        if not self.has_prototypes:
            raise ConfigError("ProtoCLIP gets its clusters from a hook, and there is none: custom_hooks=[dict(type="
                              "'PrototypeHook', num_clusters=20000)].")

    # Forward

    def forward(self, inputs: Tensor | None = None, captions: Sequence[str] | None = None,
                labels: Tensor | None = None, rows: Tensor | None = None, image_features: Tensor | None = None,
                text_features: Tensor | None = None, positions: Tensor | None = None, mode: str = 'tensor'
                ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        if mode == 'loss':
            return self.loss(inputs, captions, labels, image_features, text_features, positions)
        return super().forward(inputs, captions, mode=mode)

    def loss(self, images: Tensor | None, captions: Sequence[str] | None, labels: Tensor | None = None,
             image_features: Tensor | None = None, text_features: Tensor | None = None,
             positions: Tensor | None = None) -> dict[str, Tensor]:
        return self._losses((images, captions, image_features, text_features),
                            lambda found: self.pair_losses(found, labels, positions))

    def pair_losses(self, embeddings: Mapping[str, Tensor], labels: Tensor | None = None,
                    positions: Tensor | None = None) -> dict[str, Tensor]:
        """The losses of embeddings 'image' and 'text' and what is logged beside them, see the class."""
        projected = self.project_pairs(embeddings)
        self._is_resting = positions is None or not self.clusters
        clip, scale = self.compare(embeddings, labels), self.logit_scale_proto.exp()
        if self._is_resting:
            # A gradient of zero: every process has one for each parameter, as DistributedDataParallel wants.
            losses = dict(loss_clip=clip + 0.0 * (sum(value.sum() for value in projected.values()) + scale))
            found = {}
        else:
            found = {name: self._find(name, projected, positions, scale) for name in self.clusters}
            losses = dict(loss_clip=self.align_weight * clip)
            for name, prefix, weight in (('loss_proto', '', self.proto_weight),
                                         ('loss_external', 'external_', self.external_weight)):
                if weight and f'{prefix}image' in found:
                    losses[name] = weight * (found[f'{prefix}image'][0] + found[f'{prefix}text'][0]) / 2
        losses['logit_scale_proto'] = scale.detach()
        return losses | self._measured(embeddings, {name: hits for name, (_, hits) in found.items()})

    def project_pairs(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """'image' and 'text' -> (N, D) of unit norm, which is clustered."""
        return {side: self.proto_head(side)(embeddings[side]) for side in TOWERS}

    def _find(self, name: str, projected: Mapping[str, Tensor], positions: Tensor, scale: Tensor
              ) -> tuple[Tensor, Tensor]:
        """Loss of a modality that looks for its clusters, and (N,) which rows find theirs first."""
        targets, features = self.clusters[name], projected[name.removeprefix('external_')]
        criterion = self.hard_loss if name.startswith('external_') else self.soft_loss
        labels = targets.labels[positions]
        loss = criterion(features, targets.student, targets.teacher, labels, logit_scale=scale)
        return loss, criterion.hits(features, targets.student, labels)

    @torch.no_grad()
    def _measured(self, embeddings: Mapping[str, Tensor], hits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Means over the rows of all processes, with one collective."""
        rows = {side: F.normalize(embeddings[side].detach().double(), dim=1) for side in TOWERS}
        count = torch.tensor([float(len(rows['text']))], dtype=torch.float64, device=rows['text'].device)
        parts = [count, *(value.double().sum().reshape(1) for value in hits.values()),
                 *(value.sum(0) for value in rows.values()), *(value.square().sum(0) for value in rows.values())]
        count, *sums = dist.sum_over_ranks(torch.cat(parts)).split([len(part) for part in parts])
        found = {f'accuracy_{name}': (value / count).squeeze(0).float() for name, value in zip(hits, sums)}
        means = {side: value / count for side, value in zip(TOWERS, sums[len(hits):])}
        found['modality_gap'] = (means['image'] - means['text']).norm().float()
        for side, squares in zip(TOWERS, sums[len(hits) + 2:]):
            variance = (squares - count * means[side].square()) / (count - 1).clamp_min(1)
            found[f'feature_std_{side}'] = variance.clamp_min(0).sqrt().mean().float()
        return found

    def _build_projection(self, projection: Mapping | nn.Module | None) -> nn.Module:
        if projection is None:
            raise ConfigError("ProtoCLIP clusters what a further head gives: projection=dict(type='ProtoCLIPHead', "
                              'out_channels=128).')
        widths = {side: self.embed_dim(side) for side in TOWERS}
        if widths['image'] != widths['text']:
            raise ConfigError('ProtoCLIP: the further head of images begins as a copy of that of texts, so embeddings '
                              f"are of one width; that of the image is {widths['image']}, that of the text "
                              f"{widths['text']}. Give one of them a head.")
        if isinstance(projection, Mapping):
            kind = projection.get('type')
            kind = MODELS.require(kind) if isinstance(kind, str) else kind
            if isinstance(kind, type) and 'in_channels' in accepted_arguments(kind):
                projection = {'in_channels': widths['text'], **projection}
        built = build_part('projection', projection)
        if not hasattr(built, 'out_channels'):
            raise ConfigError(f'ProtoCLIP: projection is a {type(built).__name__}, which does not say how wide its '
                              "features are (out_channels); use dict(type='ProtoCLIPHead', out_channels=128).")
        return built
