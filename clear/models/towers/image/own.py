"""Encoders made from a network of one's own that returns a dict, as those of ViRB do."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.models.towers.base import building, plain
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.maps import LEVELS, at_level
from clear.models.towers.image.preprocess import Preprocess
from clear.models.towers.image.strip import fitting_images
from clear.registry import MODELS

if TYPE_CHECKING:
    from clear.core.types import Options

# Fine to coarse, as ViRB names the outputs of a ResNet (Kotar et al. 2021, arXiv:2103.14005, and its code).
MAPS = ('conv', 'block1', 'block2', 'block3', 'block4')


@MODELS.register_module()
class DictEncoder(ImageEncoder):
    """A network that returns a dict: `embedding` (N, D) and, for tasks on pixels, the maps `conv`, `block1` ...
    `block4` (N, C_i, H_i, W_i) of strides 2, 4, 8, 16 and 32. Whatever else is in it (`img`) is passed over.

    It is always given (N, 3, H, W): of clips, which ViRB gives to its encoders as (N, S, 3, H, W), the tasks here make
    N x S images, and put what comes out in order again.

    Args:
        module: the network, or the config of a registered one, e.g. `dict(type='MyNet', width=64)`. A network that is
            built already is named by its class and its tensors alone (see `fingerprint`): its arguments are unknown.
        weights: see `ImageEncoder`.
        preprocess: values that replace some of ViRB's: the whole image, squashed to 224 x 224, bilinear, mean and std
            of ImageNet.
        classifier: modules that are there and not read, such as `'model.fc'`; weights need not have them.
        trainable: see `ImageEncoder`.

    Raises:
        ConfigError: if it returns no such dict.
    """

    def __init__(self, module: nn.Module | Options, weights: str | Path | Mapping | None = None,
                 preprocess: Options | Preprocess | None = None,
                 classifier: str | Iterable[str] | None = None, trainable: bool | Options = False):
        identity = dict(module=type(module).__qualname__)
        if not isinstance(module, nn.Module):
            identity = dict(module=plain(module, 'module'))
            with building(f'The module {module!r}'):
                module = MODELS.build(module)
        spec = Preprocess(resize=224, squash=True).changed(preprocess)
        super().__init__(module, preprocess=spec, weights=weights, classifier=classifier, identity=identity,
                         trainable=trainable)
        with torch.no_grad():
            outputs = self.model(fitting_images(self.model, spec.crop))
        if not isinstance(outputs, Mapping):
            raise ConfigError(f'{type(self.model).__name__} returns {type(outputs).__name__}; expected a dict with '
                              f'embedding, and {", ".join(MAPS)} for tasks on pixels.')
        self._keys = tuple(map(str, outputs))
        self._map_channels = tuple(outputs[name].shape[1] for name in MAPS if _is_map(outputs.get(name)))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The five maps, fine to coarse, float32; one of another stride is resampled to that of its level.

        Raises:
            ConfigError: if the network does not give them.
        """
        maps, size = self.native_maps(images), tuple(images.shape[2:])
        return [at_level(value, round(math.log2(size[0] / value.shape[2])), level, size)
                for value, level in zip(maps, LEVELS)]

    def native_maps(self, images: Tensor) -> list[Tensor]:
        """The five maps as the network gives them, float32.

        Raises:
            ConfigError: if it does not.
        """
        self._check_maps()
        outputs = self.model(images)
        return [outputs[name].float() for name in MAPS]

    @property
    def map_channels(self) -> tuple[int, ...]:
        """Channels of the five maps, fine to coarse.

        Raises:
            ConfigError: if the network does not give them.
        """
        self._check_maps()
        return self._map_channels

    def _check_maps(self) -> None:
        if len(self._map_channels) < len(MAPS):
            raise ConfigError(f'{type(self.model).__name__} has no feature maps: tasks on pixels need '
                              f'{", ".join(MAPS)}, each (N, C, H, W); it gives {", ".join(self._keys)}.')


def _is_map(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4
