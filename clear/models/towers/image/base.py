"""The contract of every image encoder: images in, one embedding each or five maps out, weights that never change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.core.logs import logger
from clear.models.freeze import Freezable
from clear.models.towers.image.maps import MapSource, collect, find_maps
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.image.strip import pool, strip_classifier
from clear.models.weights import package_weights
from clear.models.weights.load import LoadReport, load_weights


class ImageEncoder(Freezable):
    """A frozen image network without its classifier. The makers below it differ only in where they get the network.

    It is in eval mode for good and no parameter takes a gradient. `fingerprint()` names the network and its weights,
    wherever the file lay that they came from.

    Args:
        model: images (N, 3, H, W) -> logits, embedding or maps.
        preprocess: what to do to an image first.
        weights: a file; `dict(path=..., source=..., prefix_map=..., min_matched=...)` with the options of
            `load_weights`; `'package:efficientnet-lite0'`; or None for random ones. Nothing is ever downloaded.
        classifier: see `strip_classifier`.
        identity: what makes the network besides its weights, in plain values without paths.

    Attributes:
        config: what `build_encoder` built it from, in plain values; None if something else did. Of weights it has only
            the file's name, since it travels with feature banks.

    Shape:
        images: (N, 3, H, W), prepared as `preprocess` says   returns: (N, embed_dim), float32

    Raises:
        ConfigError: if the classifier cannot be taken off.
        CheckpointError: if the weights do not fit.
    """

    def __init__(self, model: nn.Module, *, preprocess: Preprocess, weights: str | Path | Mapping | None = None,
                 classifier: str | Iterable[str] | None = 'auto', identity: Mapping[str, Any]):
        super().__init__()
        self.config: dict[str, Any] | None = None
        self.preprocess = preprocess
        stripped = strip_classifier(model, preprocess.crop, classifier=classifier)
        self.embed_dim = stripped.embed_dim
        self.removed = stripped.removed
        self.load_report = _load(model, weights, stripped.removed)
        self.model = model
        self._identity = dict(identity, removed=list(self.removed), preprocess=preprocess.to_dict())
        self._sources: tuple[MapSource, ...] | None = None
        self.requires_grad_(False)
        self.frozen_modules = ('',)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return pool(self.model(images)).float()

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Five maps (N, C_i, H_i, W_i), strides 2, 4, 8, 16 and 32, float32; `map_channels` has their C_i.

        Where they are taken from is found at the first call, by one image of random pixels (see `find_maps`).

        Raises:
            ConfigError: if the network has no maps.
        """
        return collect(self.model, images, self.map_sources)

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the five maps, fine to coarse."""
        return tuple(source.channels for source in self.map_sources)

    @property
    def map_sources(self) -> tuple[MapSource, ...]:
        """Which module gives each map."""
        if self._sources is None:
            images = torch.randn(1, 3, self.preprocess.crop, self.preprocess.crop,
                                 generator=torch.Generator().manual_seed(0))
            value = next(self.model.parameters(), images)
            self._sources = find_maps(self.model, images.to(value.device, value.dtype))
        return self._sources

    def fingerprint(self) -> str:
        """SHA-256 over the type, its arguments without paths, and every tensor by sorted name, type and shape."""
        digest = hashlib.sha256(json.dumps([type(self).__name__, self._identity], sort_keys=True).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(f'\n{name} {value.dtype} {tuple(value.shape)}\n'.encode())
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy())
        return digest.hexdigest()


def _load(model: nn.Module, weights: str | Path | Mapping | None, removed: tuple[str, ...]) -> LoadReport | None:
    if weights is None:
        return None
    options = dict(weights) if isinstance(weights, Mapping) else {'path': weights}
    path = options.pop('path', None)
    if not path:
        raise ConfigError(f'weights must be a file or dict(path=..., source=...), got {weights!r}.')
    unknown = sorted(set(options) - {'source', 'prefix_map', 'min_matched'})
    if unknown:
        raise ConfigError(f"weights: unknown option '{unknown[0]}'; there are path, source, prefix_map, min_matched.")
    if str(path).startswith('package:'):
        path = package_weights(str(path).removeprefix('package:'))
    report = load_weights(model, path, removed=removed, **options)
    logger.info('weights %s', report)
    return report


def plain(value: Any, where: str) -> Any:
    """A copy of a config value in plain types, for the identity of an encoder.

    Raises:
        ConfigError: if something in it cannot be written as JSON.
    """
    try:
        return json.loads(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise ConfigError(f'{where} holds more than plain values ({error}): an encoder is named by its '
                          'arguments.') from error


@contextmanager
def building(what: str) -> Iterator[None]:
    """Turn whatever a library raises while it builds a network into one error that names the network."""
    try:
        yield
    except ConfigError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, AssertionError, ImportError,
            OSError) as error:
        raise ConfigError(f'{what} cannot be built: {error}') from error


