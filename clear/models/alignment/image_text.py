"""Two towers, their heads and a loss: the one model behind every alignment of images and text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor, nn

from clear.core.checks import check_choice, check_number, check_whole
from clear.core.configs.signatures import accepted_arguments
from clear.core.errors import ConfigError, TrainingError
from clear.core.modes import evaluation_mode
from clear.models.alignment.chunks import check_no_batch_norm, embed_in_chunks
from clear.models.alignment.heads import build_head
from clear.models.checked import CheckedModel
from clear.models.losses import SimCSELoss
from clear.models.losses.pair_loss import DEFAULT_LOGIT_SCALE, PairLoss
from clear.models.necks import DINOHead
from clear.models.selfsup.parts.encoder import build_part
from clear.models.towers.base import Tower
from clear.models.towers.image import ImageEncoder, build_encoder
from clear.models.towers.text import TextEncoder, build_text_encoder
from clear.registry import MODELS

TOWERS = ('image', 'text')
# What a sigmoid loss begins with, whatever the towers were trained with (SigLIP, Zhai et al. 2023, arXiv:2303.15343).
SIGMOID_SCALE, SIGMOID_BIAS = 10.0, -10.0


# Images, captions, and in place of either the features that a locked tower gave beforehand.
Batch: TypeAlias = 'tuple[Tensor | None, Sequence[str] | None, Tensor | None, Tensor | None]'


class Term(Protocol):
    """More losses of a batch."""

    names: tuple[str, ...]

    def __call__(self, model: ImageTextAlignment, batch: Batch, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss by name, of what `embed` takes and its embeddings 'image' and 'text'."""


@MODELS.register_module()
class ImageTextAlignment(CheckedModel):
    """`loss(teacher, student)` of the embeddings of images and of their captions.

    A tower without trainable parameters is locked: it stays in eval mode and runs without gradients, whatever train()
    says. One that trains in part (see its own arguments) runs with them.

    The common width of both embeddings is `joint_dim`, else the width of a tower without a head; heads are made to
    end in it, where their config leaves that open.

    A loss over prototypes needs a `DINOHead` with as many directions on both sides. The teacher's is frozen, and takes
    the student's directions before every forward pass (as ITRA; its authors call the freezing of its MLP doubtful).

    Args:
        image_encoder: config or module, see `build_encoder`; text_encoder: likewise, see `build_text_encoder`.
        loss: a `PairLoss`, config or module. Without `detach_teacher` in its config, a teacher that does not
            train, head included, is detached.
        image_head, text_head: a neck such as `ProjectionMLP` or `DINOHead`, or None for the embedding as it is. Their
            `in_channels` follows from the tower.
        teacher: 'text' or 'image'; the other one is the student.
        joint_dim: common width; needed if both sides have a head whose width is open.
        logit_scale: factor of the cosines at first, for losses that use one. None takes that of the text tower's own
            training, else 1 / 0.07; of a sigmoid loss always 10, with a bias of -10. It is learnt as a logarithm.
        max_logit_scale: the factor is kept in 1 ... this, where a `logit_scale` must lie; None lets it go (as ITRA
            does).
        align_weight, simcse_weight: of the loss, and of `SimCSELoss` between two encodings of each caption that differ
            in dropout. With an `align_weight` of 0 images are not encoded.
        accumulate: towers take this many parts of a batch in turn, forward and then again for the backward pass, and
            keep embeddings alone between: loss and gradients of the whole batch, in the memory of one part. Heads, loss
            and its state see the whole batch, once. BatchNorm of a tower that trains must be frozen.
        data_preprocessor: config or module, see mmengine; moves to the device if None.
        init_cfg: as for every mmengine module.

    Shape:
        inputs: (N, 3, H, W)   captions: list of N strings   labels: (N,)
        image_features, text_features: (N, embed_dim) of the tower, in place of the first two
        mode 'loss': dict(loss=(), ...)   mode 'tensor': (N, D), (N, D), of image and text

    Raises:
        ConfigError: if a part does not fit.
    """

    def __init__(self, image_encoder: Mapping | ImageEncoder, text_encoder: Mapping | TextEncoder,
                 loss: Mapping | PairLoss, *, image_head: Mapping | nn.Module | None = None,
                 text_head: Mapping | nn.Module | None = None, teacher: str = 'text', joint_dim: int | None = None,
                 logit_scale: float | None = None, max_logit_scale: float | None = 100.0, align_weight: float = 1.0,
                 simcse_weight: float = 0.0, accumulate: int = 1, data_preprocessor: Mapping | nn.Module | None = None,
                 init_cfg: dict | list | None = None):
        if isinstance(data_preprocessor, Mapping):
            data_preprocessor = MODELS.build(dict(data_preprocessor))
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.teacher = check_choice('ImageTextAlignment: teacher', teacher, TOWERS)
        self.align_weight = check_number('ImageTextAlignment: align_weight', align_weight, 0)
        self.simcse_weight = check_number('ImageTextAlignment: simcse_weight', simcse_weight, 0)
        self.accumulate = check_whole('ImageTextAlignment: accumulate', accumulate, 1)
        if not self.encodes_images and not self.simcse_weight:
            raise ConfigError('ImageTextAlignment: align_weight and simcse_weight are both 0, so there is no loss.')
        if max_logit_scale is not None:
            check_number('ImageTextAlignment: max_logit_scale', max_logit_scale, above=1)
        self.max_logit_scale = max_logit_scale
        # From one call of train() to the next: a walk through a tower is long beside a step of two heads.
        self._tower_parameters: dict[str, tuple[nn.Parameter, ...]] = {}
        self.image_encoder = build_encoder(image_encoder)
        self.text_encoder = build_text_encoder(text_encoder)
        for side in TOWERS if self.accumulate > 1 else ():
            if not self.is_locked(side):
                check_no_batch_norm(self.tower(side), f'{side} tower')
        self.criterion = self._build_loss(loss, dict(image=image_head, text=text_head)[self.teacher])
        self._build_heads(dict(image=image_head, text=text_head), joint_dim)
        self.simcse = SimCSELoss() if self.simcse_weight else None
        # More losses of a batch; no part of the state.
        self.terms: list[Term] = []
        self.logit_scale = self.logit_bias = None
        if self.criterion.uses_logit_scale:
            self._build_logits(logit_scale)
        elif logit_scale is not None:
            raise ConfigError(f'logit_scale is {logit_scale}, but {type(self.criterion).__name__} uses none.')

    # Parts

    def tower(self, side: str) -> Tower:
        """The encoder of 'image' or 'text'."""
        return self.image_encoder if side == 'image' else self.text_encoder

    def head(self, side: str) -> nn.Module | None:
        """The head of 'image' or 'text'."""
        return self.image_head if side == 'image' else self.text_head

    @property
    def encodes_images(self) -> bool:
        """Whether an iteration needs the image tower."""
        return self.align_weight > 0

    @property
    def student(self) -> str:
        return next(side for side in TOWERS if side != self.teacher)

    def is_locked(self, side: str) -> bool:
        """Whether no parameter of a tower trains."""
        if side not in self._tower_parameters:
            self._tower_parameters[side] = tuple(self.tower(side).parameters())
        return not any(parameter.requires_grad for parameter in self._tower_parameters[side])

    def locked_towers(self) -> dict[str, Tower]:
        """'image' or 'text' -> a tower that gives the same for the same input in every step: it is locked.

        Images do not count where a `data_preprocessor` changes them.
        """
        sides = [side for side in TOWERS if self.is_locked(side)]
        if not self.encodes_images or type(self.data_preprocessor) is not BaseDataPreprocessor:
            sides = [side for side in sides if side != 'image']
        return {side: self.tower(side) for side in sides}

    def embed_dim(self, side: str) -> int:
        """Width of the embeddings of 'image' or 'text', after its head."""
        head = self.head(side)
        return self.tower(side).embed_dim if head is None else head.out_channels

    def train(self, mode: bool = True) -> ImageTextAlignment:
        super().train(mode)
        self._tower_parameters.clear()
        for side in TOWERS if mode else ():
            # One that sleeps as a whole already has nothing to be put to sleep.
            if self.tower(side).training and self.is_locked(side):
                self.tower(side).eval()
        return self

    def check_batch(self, shown: Mapping[str, Tensor | Sequence], batch_size: int) -> None:
        if 'captions' not in shown:
            raise ConfigError('ImageTextAlignment trains on images with captions, and the data set gives none. Use '
                              "train_dataloader.dataset=dict(type='ImageTextPairs', images=...).")
        parts = (*map(self.tower, TOWERS), *map(self.head, TOWERS))
        if not any(parameter.requires_grad for part in parts if part for parameter in part.parameters()):
            raise ConfigError('model: nothing of its towers and heads trains. A tower is frozen unless its config says '
                              'trainable=True.')
        if self.encodes_images:
            self._try_image(shown['inputs'][:1])
        with evaluation_mode(self.text_encoder):
            self.text_encoder(shown['captions'][:1])  # says here that it cuts the longest, not somewhere in an epoch
        try:
            self.criterion.check_fit(batch_size, self.embed_dim(self.teacher), self.embed_dim(self.student))
        except ValueError as error:
            raise ConfigError(f'model.loss: {error}') from error
        if self.criterion.needs_labels and (shown['labels'] < 0).any():
            raise ConfigError(f'{type(self.criterion).__name__} needs a class for every pair, and some have none. Read '
                              "labelled images, e.g. by dict(type='PromptedClassification', ...).")
        try:
            self.criterion.check_labels(shown['labels'], self.embed_dim(self.student))
        except ValueError as error:
            raise ConfigError(f'model.loss: {error}') from error

    @property
    def added_losses(self) -> tuple[str, ...]:
        """Names of the losses of `terms`."""
        return tuple(name for term in self.terms for name in term.names)

    def _try_image(self, images: Tensor) -> None:
        try:
            with evaluation_mode(self.image_encoder):
                self.image_encoder(images)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(f'model.image_encoder takes no images of {tuple(images.shape[1:])}, as '
                              f'train_dataloader.dataset.transform makes them: {error}') from error

    # Forward

    def forward(self, inputs: Tensor | None = None, captions: Sequence[str] | None = None,
                labels: Tensor | None = None, rows: Tensor | None = None, image_features: Tensor | None = None,
                text_features: Tensor | None = None, mode: str = 'tensor'
                ) -> dict[str, Tensor] | tuple[Tensor, Tensor]:
        if mode == 'loss':
            return self.loss(inputs, captions, labels, image_features, text_features)
        if mode == 'tensor':
            return self.encode_image(inputs), self.encode_text(captions)
        raise ValueError(f"ImageTextAlignment: mode is {mode!r}, expected 'loss' or 'tensor'.")

    def loss(self, images: Tensor | None, captions: Sequence[str] | None, labels: Tensor | None = None,
             image_features: Tensor | None = None, text_features: Tensor | None = None) -> dict[str, Tensor]:
        """One training iteration without its backward pass; features are what a locked tower gave beforehand."""
        return self._losses((images, captions, image_features, text_features),
                            lambda found: dict(loss=self.align_weight * self.compare(found, labels)))

    def _losses(self, batch: Batch, compare: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What `compare` makes of the embeddings 'image' and 'text' of a batch, and the losses beside it."""
        self._before_loss()
        images, captions, image_features, text_features = batch
        losses = {}
        texts = self._encode('text', captions, text_features)
        if self.encodes_images:
            found = dict(image=self._encode('image', images, image_features), text=texts)
            losses |= compare(found)
            for term in self.terms:
                losses.update(term(self, batch, found))
        if self.simcse is not None:
            again = self._encode('text', captions, text_features)
            losses['loss_simcse'] = self.simcse_weight * self.simcse(texts, again)
        if self.terms:  # mmengine calls the sum of all 'loss', and would log a part of that name in its place
            losses = {'loss_pairs' if name == 'loss' else name: value for name, value in losses.items()}
        if self.logit_scale is not None:
            losses['logit_scale'] = self.logit_scale.detach().exp()
        return losses

    def compare(self, embeddings: Mapping[str, Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of embeddings 'image' and 'text', which have passed their heads."""
        given = dict(labels=labels)
        if self.logit_scale is not None:
            given['logit_scale'] = self.logit_scale.exp()
        if self.logit_bias is not None:
            given['logit_bias'] = self.logit_bias
        return self.criterion(embeddings[self.teacher], embeddings[self.student], **given)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """(N, D) embeddings 'image' and 'text' of a batch."""
        images, captions, image_features, text_features = batch
        return dict(image=self._encode('image', images, image_features),
                    text=self._encode('text', captions, text_features))

    def encode_image(self, images: Tensor) -> Tensor:
        """(N, D) embeddings of images, after the head."""
        return self._encode('image', images)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(N, D) embeddings of texts, after the head."""
        return self._encode('text', texts)

    def features(self, images: Tensor) -> Tensor:
        """(N, D) embeddings of images before the head, as probes take them."""
        return self.image_encoder(images)

    def _encode(self, side: str, values: Tensor | Sequence[str] | None, stored: Tensor | None = None) -> Tensor:
        if stored is not None:
            if not self.is_locked(side):
                raise TrainingError(f'The {side} tower trains now, but its features are read from a bank: nothing '
                                    'would reach it. Set use_banks=False.')
            return self.project(side, stored)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_locked(side)):
            embedded = embed_in_chunks(self.tower(side), values, self.accumulate if self.training else 1)
        return self.project(side, embedded)

    def project(self, side: str, embedded: Tensor) -> Tensor:
        """What the head of a side makes of its tower's embeddings."""
        head = self.head(side)
        return embedded if head is None else head(embedded)

    @torch.no_grad()
    def clamp_scales(self) -> None:
        """Keep factors of cosines in 1 ... `max_logit_scale`."""
        if self.logit_scale is not None and self.max_logit_scale is not None:
            self.logit_scale.clamp_(0, math.log(self.max_logit_scale))

    @torch.no_grad()
    def _before_loss(self) -> None:
        if self.training:
            # In place, before the graph is built: a clamp in it would leave a scale beyond the end without a gradient.
            self.clamp_scales()
        if self.criterion.needs_prototypes:
            self.head(self.teacher).last_layer.copy_(self.head(self.student).last_layer)

    # Construction

    def _build_loss(self, loss: Mapping | PairLoss, teacher_head: Mapping | nn.Module | None) -> PairLoss:
        if isinstance(loss, Mapping) and 'detach_teacher' not in loss and self.is_locked(self.teacher):
            kind = MODELS.require(loss['type']) if isinstance(loss.get('type'), str) else None
            # A head of the teacher would get no gradient; that of a loss over prototypes is frozen anyway.
            learns = teacher_head is not None and not getattr(kind, 'needs_prototypes', False)
            if kind is not None and 'detach_teacher' in accepted_arguments(kind) and not learns:
                loss = dict(loss, detach_teacher=True)
        built = build_part('loss', loss)
        if not isinstance(built, PairLoss):
            raise ConfigError(f'loss is a {type(built).__name__}, expected one of two embeddings such as '
                              "dict(type='InfoNCELoss').")
        return built

    def _build_heads(self, heads: Mapping[str, Mapping | nn.Module | None], joint_dim: int | None) -> None:
        needs_prototypes = self.criterion.needs_prototypes
        for side, head in heads.items():
            if head is None and needs_prototypes:
                raise ConfigError(f'{type(self.criterion).__name__} compares scores over prototypes, so {side}_head '
                                  f"must end in them: {side}_head=dict(type='DINOHead', out_channels=...).")
        bare = [self.tower(side).embed_dim for side, head in heads.items() if head is None]
        if joint_dim is None:
            joint_dim = bare[0] if bare else None
        elif len(bare) == len(heads):
            raise ConfigError(f'joint_dim is {joint_dim}, but neither side has a head that could end in it: set '
                              'image_head or text_head.')
        for side, head in heads.items():
            built = build_head(side, head, self.tower(side).embed_dim, joint_dim, needs_prototypes)
            setattr(self, f'{side}_head', built)
            if needs_prototypes and (not isinstance(built, DINOHead) or built.last_layer is None):
                raise ConfigError(f'{side}_head is a {type(built).__name__}; {type(self.criterion).__name__} needs a '
                                  'DINOHead with out_channels.')
        widths = {side: self.embed_dim(side) for side in TOWERS}
        if self.criterion.needs_equal_width and len({*widths.values()}) > 1:
            raise ConfigError(f'{type(self.criterion).__name__} compares embeddings of one width; that of the image '
                              f'is {widths["image"]}, that of the text {widths["text"]}. Give one of them a head.')
        if needs_prototypes:
            teacher, student = (self.head(side).last_layer for side in (self.teacher, self.student))
            if teacher.shape != student.shape:
                raise ConfigError(f'the directions of both heads must have one shape; found {tuple(teacher.shape)} '
                                  f'and {tuple(student.shape)}. Set bottleneck_channels or joint_dim.')
            self.head(self.teacher).requires_grad_(False)

    def _build_logits(self, scale: float | None) -> None:
        if scale is not None:
            check_number('ImageTextAlignment: logit_scale', scale, above=0)
            if self.max_logit_scale is not None and not 1 <= scale <= self.max_logit_scale:
                raise ConfigError(f'ImageTextAlignment: logit_scale is {scale:g}, but training keeps it in 1 ... '
                                  f'{self.max_logit_scale:g}; max_logit_scale=None lets it go.')
        elif self.criterion.uses_logit_bias:
            scale = SIGMOID_SCALE
        else:
            scale = self.text_encoder.logit_scale or DEFAULT_LOGIT_SCALE
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))
        if self.criterion.uses_logit_bias:
            self.logit_bias = nn.Parameter(torch.tensor(SIGMOID_BIAS))

    def init_weights(self) -> None:
        """Nothing: towers and heads draw or load theirs when they are built, and a second draw would undo that."""
