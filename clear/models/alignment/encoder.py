"""An aligned pair of towers as an encoder of images, with text beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from clear.core.configs.signatures import check_keys
from clear.core.errors import CheckpointError, ConfigError
from clear.core.files import load_tensors
from clear.core.modes import evaluation_mode
from clear.models.alignment.image_text import ImageTextAlignment
from clear.models.alignment.weight_averages import check_wise_ft, interpolate
from clear.models.selfsup.parts.encoder import build_part
from clear.models.towers.base import Tower, plain
from clear.models.towers.image import ImageEncoder
from clear.models.weights.load import LoadReport
from clear.registry import MODELS


@MODELS.register_module()
class AlignedEncoder(ImageEncoder):
    """The image side of an `ImageTextAlignment`, head included; `encode_text` is the text side. Frozen.

    Args:
        model: the `model` of the training config.
        weights: a checkpoint of that training, or `dict(path=...)`; None leaves the towers as their own configs make
            them.
        wise_ft: share of those weights in an average with others, 1 by default (WiSE-FT, Wortsman et al. 2022,
            arXiv:2109.01903). The others are what the towers' configs load, and heads as they are drawn.
        start_weights: a checkpoint to take these others from.

    Raises:
        ConfigError: if `model` is no alignment, or `wise_ft` has no `weights` or is not in 0 ... 1.
        CheckpointError: if the checkpoint is of another model.
    """

    def __init__(self, model: Mapping | ImageTextAlignment, weights: str | Path | Mapping | None = None, *,
                 wise_ft: float | None = None, start_weights: str | Path | None = None):
        Tower.__init__(self)
        if isinstance(weights, Mapping):
            check_keys('AlignedEncoder.weights', weights, {'path'}, 'weights')
            weights = weights.get('path')
        check_wise_ft('AlignedEncoder: wise_ft', wise_ft)
        if wise_ft is not None and weights is None:
            raise ConfigError('AlignedEncoder: wise_ft is an average of two weights: give the trained ones as weights.')
        if start_weights is not None and wise_ft is None:
            raise ConfigError('AlignedEncoder: start_weights are for an average: give wise_ft, the share of weights.')
        built = build_part('model', model)
        if not isinstance(built, ImageTextAlignment):
            raise ConfigError(f"model is a {type(built).__name__}, expected dict(type='ImageTextAlignment', ...).")
        if start_weights is not None:
            _load(built, Path(start_weights))
        start = {name: value.clone() for name, value in built.state_dict().items()} if wise_ft is not None else {}
        self.load_report = None if weights is None else _load(built, Path(weights))
        if wise_ft is not None:
            built.load_state_dict(interpolate(start, built.state_dict(), wise_ft))
        self.model = built
        self.embed_dim = built.embed_dim('image')
        self.preprocess = built.image_encoder.preprocess
        self.removed = built.image_encoder.removed
        described = {} if isinstance(model, ImageTextAlignment) else plain(_without_paths(model), 'model')
        self._identity = dict(model=described, preprocess=self.preprocess.to_dict())
        self._sources = None
        self.set_trainable(False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images).float()

    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """(N, embed_dim) of texts, on the CPU, without gradients."""
        with evaluation_mode(self):
            embedded = self.model.text_encoder.encode(texts, batch_size, use_pooler=True)
            device = next(self.parameters()).device
            return self.model.project('text', embedded.to(device)).float().cpu()

    def num_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the text tower reads."""
        return self.model.text_encoder.num_truncated(texts)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The maps of the image tower."""
        return self.model.image_encoder.feature_maps(images)

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the maps, fine to coarse."""
        return self.model.image_encoder.map_channels


def _load(model: ImageTextAlignment, path: Path) -> LoadReport:
    saved = load_tensors(path)
    state = saved.get('state_dict', saved)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path} is no checkpoint of this model: {error}') from error
    return LoadReport(path.name, 'clear', tuple(state), (), (), ())


def _without_paths(cfg: Mapping) -> dict:
    """A config in which files and folders are named by the last part of their names."""
    return {key: _without_paths(value) if isinstance(value, Mapping) else
            Path(value).name if isinstance(value, (str, Path)) and '/' in str(value) else value
            for key, value in cfg.items()}
