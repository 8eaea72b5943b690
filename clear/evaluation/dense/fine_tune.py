"""An encoder that trains with the head behind it."""

from __future__ import annotations

import copy
from collections import defaultdict

from torch import Tensor, nn

from clear.core.errors import ConfigError
from clear.evaluation.dense.inputs.maps import GivesMaps, MapEncoder
from clear.evaluation.dense.training.settings import Setting
from clear.models.towers.base import Tower
from clear.models.towers.groups import depth_of_parameters


class FineTuned(nn.Module):
    """A head on the maps of an encoder, of which a copy is taken, to train.

    Shape:
        images: as of `MapEncoder`   returns: (N, O, H, W) for `size` (H, W)
    """

    def __init__(self, encoder: GivesMaps, head: nn.Module, levels: tuple[int, ...], *, native: bool = False):
        super().__init__()
        tuned = copy.deepcopy(encoder)
        if isinstance(tuned, Tower):
            tuned.set_trainable(True)
        else:
            tuned.requires_grad_(True)
        self.maps, self.head = MapEncoder(tuned, levels, native=native), head

    def forward(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        return self.head(self.maps(images), size)

    def groups(self, setting: Setting, encoder_lr: float | None, layer_decay: float | None) -> list[dict[str, object]]:
        """Groups of an optimiser.

        The rate of a parameter of the encoder is `encoder_lr * layer_decay ** (L + 1 - depth)`, for blocks or stages
        1 ... L (see `depth_of_parameters`): that of the head falls towards the input.

        Args:
            encoder_lr: by default that of the head.
            layer_decay: 1 by default.

        Raises:
            ConfigError: for a decay of a network without a chain of blocks.
        """
        lr = setting.lr if encoder_lr is None else encoder_lr
        encoder = self.maps.encoder
        depths, deepest = ({}, 0) if layer_decay is None else depth_of_parameters(encoder)
        by_rate: dict[float, list[Tensor]] = defaultdict(list)
        for name, value in encoder.named_parameters():
            if value.requires_grad:
                by_rate[lr * (layer_decay or 1) ** (deepest - depths.get(name, deepest))].append(value)
        if not by_rate:
            raise ConfigError('train_encoder=True, and this encoder has no parameter that trains.')
        head = [value for value in self.head.parameters() if value.requires_grad]
        return [dict(params=values, lr=rate) for rate, values in sorted(by_rate.items())] + [
            dict(params=head, lr=setting.lr)]
