"""Any two encoders side by side, each with a head or none, as one encoder of images and of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.errors import CheckpointError, ConfigError, DataError
from clear.core.files import load_tensors
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.core.seeding import seeded_draws
from clear.models.alignment.heads import build_head
from clear.models.towers.base import Tower, plain
from clear.models.towers.image import ImageEncoder, build_encoder
from clear.models.towers.text import TextEncoder, build_text_encoder
from clear.models.weights import local_weights
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options, Plain

SIDES = ('image', 'text')


class Towers(nn.Module):
    """Towers and heads of one or both sides, under the names that an `ImageTextAlignment` gives them."""

    def __init__(self, towers: Mapping[str, Tower | None], heads: Mapping[str, nn.Module | None]):
        super().__init__()
        for side in SIDES:
            setattr(self, f'{side}_encoder', towers[side])
            setattr(self, f'{side}_head', heads[side])

    def tower(self, side: str) -> Tower | None:
        return self.image_encoder if side == 'image' else self.text_encoder

    def head(self, side: str) -> nn.Module | None:
        return self.image_head if side == 'image' else self.text_head

    def project(self, side: str, embedded: Tensor) -> Tensor:
        """What the head of a side makes of its tower's embeddings."""
        head = self.head(side)
        return embedded if head is None else head(embedded)

    def embed_dim(self, side: str) -> int:
        """Width of the embeddings of a side, after its head."""
        head = self.head(side)
        return self.tower(side).embed_dim if head is None else head.out_channels


@MODELS.register_module()
class TowerPair(ImageEncoder):
    """An encoder of images and one of text, each followed by its head, if it has one. Frozen.

    One side may be absent: text alone is enough for tasks on text. Widths may differ where no task compares images with
    text; one that does is refused. Each part is built with the same draws, from seed 0, so that one without weights is
    the same in every pair and every run.

    Args:
        image_encoder: config of an image encoder, or an encoder; see `build_encoder`.
        text_encoder: likewise, see `build_text_encoder`.
        image_head, text_head: a neck such as `ProjectionMLP`, config or module, or None. Its `in_channels` follows from
            the tower. A config may name `weights`, a file of the head's tensors or of a whole alignment, of which those
            of this head are taken; without them it is random, which is said.
        joint_dim: width that heads end in where their config leaves it open; by default that of the tower without one.

    Attributes:
        embed_dim: width of the images' embeddings, of the texts' where there are no images.
        text_dim: width of the texts' embeddings; None without text.

    Raises:
        ConfigError: without an encoder, or for a head without a tower.
        CheckpointError: for a head's weights that do not fit.
    """

    model: Towers

    def __init__(self, image_encoder: Mapping | ImageEncoder | None = None,
                 text_encoder: Mapping | str | Path | TextEncoder | None = None, *,
                 image_head: Mapping | nn.Module | None = None, text_head: Mapping | nn.Module | None = None,
                 joint_dim: int | None = None):
        Tower.__init__(self)
        if image_encoder is None and text_encoder is None:
            raise ConfigError('a pair of towers needs image_encoder=dict(type=...) or text_encoder=dict(type=...), or '
                              'both.')
        towers: dict[str, Tower | None] = dict(image=None, text=None)
        for side, build, cfg in (('image', build_encoder, image_encoder), ('text', build_text_encoder, text_encoder)):
            with seeded_draws(0):
                towers[side] = None if cfg is None else build(cfg)
        heads = dict(image=image_head, text=text_head)
        bare = [towers[side].embed_dim for side in SIDES if towers[side] is not None and heads[side] is None]
        built = {side: _head(side, heads[side], towers[side], joint_dim or next(iter(bare), None)) for side in SIDES}
        self._take(Towers(towers, built))
        self._identity = {side: None if towers[side] is None else dict(
            tower=[type(towers[side]).__name__, towers[side]._identity], head=_described(heads[side], side))
            for side in SIDES}

    def _take(self, model: Towers | nn.Module) -> None:
        """Be the pair of these towers and heads."""
        image, text = model.tower('image'), model.tower('text')
        self.model = model
        self.text_dim = None if text is None else model.embed_dim('text')
        self.embed_dim = self.text_dim if image is None else model.embed_dim('image')
        self.preprocess = None if image is None else image.preprocess
        self.removed = () if image is None else image.removed
        self._sources = None
        self.load_report = None
        self.set_trainable(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.project('image', self._tower('image')(images)).float()

    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """(N, text_dim) of texts, on the CPU, without gradients.

        Raises:
            ConfigError: if there is no text side.
            DataError: if the weights make no numbers of a text.
        """
        tower = self._tower('text')
        with evaluation_mode(self):
            embedded = tower.encode(texts, batch_size, use_pooler=True)
            found = self.model.project('text', embedded.to(tower.device)).float().cpu()
        finite = torch.isfinite(found).all(1)
        if not finite.all():
            raise DataError(f"The embedding of '{texts[int((~finite).nonzero()[0])]:.60}' is not finite: the weights "
                            'make no numbers of it.')
        return found

    def num_truncated(self, texts: Sequence[str]) -> int:
        """How many of these texts are longer than the text tower reads."""
        return self._tower('text').num_truncated(texts)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The maps of the image tower."""
        return self._tower('image').feature_maps(images)

    def native_maps(self, images: Tensor) -> list[Tensor]:
        """The same, each at the stride at which the tower has it."""
        return self._tower('image').native_maps(images)

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the maps, fine to coarse."""
        return self._tower('image').map_channels

    def without_heads(self) -> TowerPair:
        """The towers alone; the pair itself if it has no heads."""
        if all(self.model.head(side) is None for side in SIDES):
            return self
        pair = TowerPair(self.model.tower('image'), self.model.tower('text'))
        pair.config = None if self.config is None else dict(self.config, features='backbone')
        return pair

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters of `image_encoder`, `text_encoder`, `image_head` and `text_head`, those there are."""
        parts = {f'{side}_{name}': part for side in SIDES for name, part in (
            ('encoder', self.model.tower(side)), ('head', self.model.head(side))) if part is not None}
        return {name: sum(value.numel() for value in part.parameters()) for name, part in parts.items()}

    def _tower(self, side: str) -> Tower:
        tower = self.model.tower(side)
        if tower is None:
            raise ConfigError(f'this encoder has no {side} side: its config names no {side}_encoder.')
        return tower


def _head(side: str, head: Mapping | nn.Module | None, tower: Tower | None, joint_dim: int | None) -> nn.Module | None:
    if head is None:
        return None
    if tower is None:
        raise ConfigError(f'{side}_head has no {side}_encoder to follow.')
    weights = None
    if isinstance(head, Mapping):
        head = dict(head)
        weights = head.pop('weights', None)
        if weights is None:
            logger.warning('%s_head is random: its config names no weights=FILE.', side)
    with seeded_draws(0):
        built = build_head(side, head, tower.embed_dim, joint_dim)
    if weights is not None:
        _load_head(side, built, local_weights(weights))
    return built


def _load_head(side: str, head: nn.Module, path: Path) -> None:
    saved = load_tensors(path)
    state = saved.get('state_dict', saved) if isinstance(saved, Mapping) else None
    if not isinstance(state, Mapping):
        raise CheckpointError(f'{side}_head: {path} holds no tensors by name.')
    own = {name.removeprefix(f'{side}_head.'): value for name, value in state.items()
           if name.startswith(f'{side}_head.')}
    try:
        head.load_state_dict(own or dict(state))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{side}_head: {path} holds no weights of this {type(head).__name__}: {error}') from error


def _described(head: Mapping | nn.Module | None, side: str) -> Plain:
    """What a head computes besides its tensors."""
    if isinstance(head, Mapping):
        options: Options = {key: value for key, value in head.items() if key != 'weights'}
        return plain(options, f'{side}_head')
    return None if head is None else str(head)
