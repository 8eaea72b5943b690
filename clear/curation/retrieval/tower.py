"""The text side of a bank of image features: built from a config, and held against what the bank was made by."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clear.core.configs.building import building
from clear.core.errors import ConfigError, DataError
from clear.features.build import make_encoder, make_text_encoder
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options, Plain
    from clear.features.bank import FeatureBank

# Image encoders that no text tower belongs to.
_ALONE = ('TimmEncoder', 'TorchvisionEncoder', 'MMPretrainEncoder', 'TorchHubEncoder')
_BATCH = 64


class TextTower:
    """Texts -> vectors in the space of an image encoder.

    Args:
        cfg: of a text encoder, `dict(type='OpenCLIPTextEncoder', arch='RN101', weights=FILE)`; or of an encoder of both
            sides, `AlignedEncoder`.

    Attributes:
        embed_dim: D.
        config: plain, of files the name only.

    Raises:
        ConfigError: if it encodes no text.
    """

    def __init__(self, cfg: Options):
        from clear.models.towers.image.base import ImageEncoder

        if not isinstance(cfg, Mapping) or not isinstance(cfg.get('type'), str):
            raise ConfigError(f"text_encoder is {cfg!r}; expected a dict with type, such as dict(type="
                              "'OpenCLIPTextEncoder', arch='RN101', weights='weights/RN101.pt').")
        with building('text_encoder'):
            kind = MODELS.require(cfg['type'])
            self.has_images = isinstance(kind, type) and issubclass(kind, ImageEncoder)
            built = make_encoder(cfg) if self.has_images else make_text_encoder(cfg)
        self._encode: Callable[..., object] | None = getattr(built, 'encode_text', None) if self.has_images \
            else built.encode
        if self._encode is None:
            raise ConfigError(f"text_encoder: {cfg['type']} encodes images only.")
        self._built = built
        self.embed_dim: int = built.embed_dim
        self.config: dict[str, Plain] = built.config

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) float32, not of length one."""
        options = {} if self.has_images else dict(use_pooler=True)
        return self._encode(list(texts), _BATCH, **options).numpy()

    def fingerprint(self) -> str:
        """Of config and weights."""
        return self._built.fingerprint()

    def check(self, bank: FeatureBank) -> None:
        """Refuse a bank that is of another model.

        Weights of two sides cannot be compared; what is compared are the names that both were built from: the
        architecture, the file or tag of the weights, and of `ConSEImageEncoder` its text encoder.

        Raises:
            DataError: naming both.
        """
        made_by = bank.meta.get('encoder') or {}
        problem = self._width_problem(bank) or (
            self._same_weights_problem(bank) if self.has_images else pair_problem(made_by, self.config))
        if problem:
            raise DataError(f'{bank.path} is a bank of another model than text_encoder: {problem}.')

    def _width_problem(self, bank: FeatureBank) -> str:
        return '' if bank.dim == self.embed_dim else f'it has {bank.dim} dimensions, the texts {self.embed_dim}'

    def _same_weights_problem(self, bank: FeatureBank) -> str:
        held, own = bank.meta['identity']['encoder'], self.fingerprint()
        return '' if held == own else f'its encoder is {held[:12]}, this one {own[:12]}'


def pair_problem(made_by: Mapping[str, Plain], text: Mapping[str, Plain]) -> str:
    """Why a text encoder is not the other side of what made a bank; empty if nothing says so.

    Args:
        made_by: `encoder` of the bank's `meta.json`: its type and config, or the model's name of an imported bank.
        text: the text encoder's config.
    """
    kind, config = made_by.get('type'), made_by.get('config') or {}
    if kind in _ALONE:
        return f'it was made by {kind}, which has no text side'
    if kind == 'ConSEImageEncoder':
        return _differ('text encoder', _plain(config.get('text_encoder') or {}), _plain(text))
    if kind == 'OpenCLIPImageEncoder':
        return _open_clip_problem(config, text)
    if kind == 'HuggingFaceImageEncoder':
        return _differ('model', f'{config.get("model")} of transformers',
                       f'{_name(text.get("model"))} of {"transformers" if "model" in text else text["type"]}')
    named = made_by.get('model')
    if isinstance(named, str):
        return _differ('model', _architecture(named), _architecture(str(text.get('arch', text.get('model')))))
    return ''


def _open_clip_problem(image: Mapping[str, Plain], text: Mapping[str, Plain]) -> str:
    if text['type'] != 'OpenCLIPTextEncoder':
        return f"it was made by open_clip's {image.get('arch')}, the texts are encoded by {text['type']}"
    return (_differ('architecture', image.get('arch'), text.get('arch'))
            or _differ('weights', _weights(image), _weights(text)))


def _differ(what: str, bank: Plain, text: Plain) -> str:
    return '' if bank == text else f'its {what} is {bank}, that of the texts {text}'


def _weights(config: Mapping[str, Plain]) -> str | None:
    given = config.get('weights')
    given = given.get('path') if isinstance(given, Mapping) else given
    return _name(given) or config.get('tag')


def _plain(config: Mapping[str, Plain]) -> dict[str, Plain]:
    """A text encoder's config without what does not decide its vectors, and of files the name only."""
    return {key: _name(value) if key in ('model', 'weights', 'tokenizer') else value for key, value in config.items()
            if value is not None and key not in ('trainable', 'allow_network', 'cache_dir')}


def _name(value: Plain) -> Plain:
    return Path(value).name if isinstance(value, str) and os.sep in value else value


def _architecture(name: str) -> str:
    """'ViT-B/32' and 'ViT-B-32-quickgelu' as one."""
    return name.replace('/', '-').lower().removesuffix('-quickgelu')
