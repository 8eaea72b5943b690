"""An encoder in training: a backbone, pooled, and a projector."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from clear.core.checks import check_flag
from clear.core.errors import ConfigError
from clear.core.modes import evaluation_mode
from clear.models.towers.image.base import ImageEncoder
from clear.models.towers.image.strip import pool
from clear.registry import MODELS

# Sides in pixels of the images that a backbone is tried with, after the one that it names itself.
_TRIAL_SIZES = (64, 224, 32)
# What a network raises when an image is not of a size that it takes.
_REFUSALS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError)


class Encoder(BaseModule):
    """images -> backbone -> mean over positions -> neck.

    It is run once on a blank image when it is built, in eval mode, so that parts that do not fit are found before
    any training.

    Args:
        backbone: config of a backbone of mmpretrain or ours or of an image encoder of `clear.models.towers.image`, or a
            module. Gives maps (N, C, H, W) or (N, D); of several outputs the last counts. Of an image encoder only
            the network is taken, with its weights, and trains like any other.
        neck: config or module, (N, embed_dim) -> (N, out_dim); None leaves the features as they are.
        channels_last: memory format of maps, and of the weights of convolutions. True for channels_last, False for
            contiguous; None is contiguous on a CPU, where torch's BatchNorm of the other format sums plainly in
            float32 and loses three digits, and channels_last on any other device. Chosen anew when the module moves.

    Shape:
        images: (N, 3, H, W)   returns: (N, out_dim)

    Raises:
        ConfigError: if a part cannot be built or parts do not fit.
    """

    def __init__(self, backbone: dict | nn.Module, neck: dict | nn.Module | None = None, *,
                 channels_last: bool | None = None):
        super().__init__()
        if channels_last is not None:
            check_flag('channels_last', channels_last)
        self.channels_last = channels_last
        self.memory_format = torch.contiguous_format
        self.backbone = _network_of(build_part('backbone', backbone))
        self.neck = nn.Identity() if neck is None else build_part('neck', neck)
        self.embed_dim, self.out_dim = self._measure()
        self._set_memory_format()

    def forward(self, images: Tensor) -> Tensor:
        return self.neck(self.pooled(images))

    def pooled(self, images: Tensor) -> Tensor:
        """The backbone's features, (N, embed_dim)."""
        return pool(self.backbone(images.contiguous(memory_format=self.memory_format)))

    def pooled_groups(self, views: Sequence[Tensor], groups: Iterable[Sequence[int]]) -> Tensor:
        """Features of all views, rows in the order of the groups; the views of a group, indices, are one batch.

        Shape:
            views: (N, 3, H_v, W_v) each   returns: (sum over views of N, embed_dim)
        """
        return torch.cat([self.pooled(_one_batch([views[index] for index in group])) for group in groups])

    def _apply(self, *args: object, **kwargs: object) -> Encoder:
        # Every move to a device or type comes through here: `to`, `cuda`, `double` of this module or of one around it.
        super()._apply(*args, **kwargs)
        self._set_memory_format()
        return self

    def _set_memory_format(self) -> None:
        tensors = [*self.parameters(), *self.buffers()]
        on_cpu = not tensors or tensors[0].device.type == 'cpu'
        is_last = not on_cpu if self.channels_last is None else self.channels_last
        self.memory_format = torch.channels_last if is_last else torch.contiguous_format
        for tensor in tensors:
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=self.memory_format)

    def _measure(self) -> tuple[int, int]:
        with evaluation_mode(self):
            features = self._try_backbone()
            return features.shape[1], self._try_neck(features).shape[1]

    def _try_backbone(self) -> Tensor:
        like = next(self.backbone.parameters(), torch.empty(()))
        own = getattr(self.backbone, 'img_size', None)
        own = own[0] if isinstance(own, (tuple, list)) else own
        for size in filter(None, (own, *_TRIAL_SIZES)):
            try:
                return self.pooled(like.new_zeros(1, 3, size, size))
            except ConfigError:
                raise
            except _REFUSALS as error:
                reason = error
        raise ConfigError(f'backbone ({type(self.backbone).__name__}) does not run on an image of 224, 64 or 32 '
                          f'pixels: {reason}') from reason

    def _try_neck(self, features: Tensor) -> Tensor:
        name = f'neck ({type(self.neck).__name__})'
        try:
            embedding = self.neck(features)
        except _REFUSALS as error:
            expected = getattr(self.neck, 'in_channels', None)
            if expected is not None and expected != features.shape[1]:
                raise ConfigError(f'{name} takes features of {expected} channels, but the backbone gives '
                                  f'{features.shape[1]}: set in_channels={features.shape[1]}.') from error
            raise ConfigError(f'{name} does not take pooled features {tuple(features.shape)}, as ProjectionMLP '
                              f'does: {error}') from error
        if not isinstance(embedding, Tensor) or embedding.ndim != 2:
            raise ConfigError(f'{name} gives {type(embedding).__name__}, expected a tensor (N, D). ProjectionMLP '
                              'gives one.')
        return embedding


def build_part(name: str, part: dict | nn.Module) -> nn.Module:
    """A module of a config; a module is returned as it is.

    Raises:
        ConfigError: naming the part, if it cannot be built.
    """
    if isinstance(part, nn.Module):
        return part
    if not isinstance(part, Mapping) or 'type' not in part:
        raise ConfigError(f"{name} must be a dict with a type, such as dict(type='ResNet', depth=50), or a module; got "
                          f'{part!r}.')
    try:
        return MODELS.build(dict(part))
    except TypeError as error:
        raise ConfigError(f"{name} ({part['type']}): {error}") from error


def equal_size_groups(views: Sequence[Tensor], *, consecutive: bool = True) -> list[list[int]]:
    """Indices of views that can be one batch, because they have one size.

    Args:
        consecutive: only neighbours are together, so that rows stay in the order of the views.
    """
    indices = range(len(views))
    if consecutive:
        return [list(group) for _, group in itertools.groupby(indices, key=lambda index: views[index].shape)]
    groups: dict[torch.Size, list[int]] = {}
    for index in indices:
        groups.setdefault(views[index].shape, []).append(index)
    return list(groups.values())


def split_groups(rows: Tensor, groups: Sequence[Sequence[int]]) -> list[Tensor]:
    """Undo what `Encoder.pooled_groups` did to the rows of views: one tensor (N, D) per view, in their order."""
    order = [index for group in groups for index in group]
    by_view = dict(zip(order, rows.chunk(len(order))))
    return [by_view[index] for index in sorted(order)]


def batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Every BatchNorm layer inside a module."""
    return (each for each in module.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm))


def _network_of(backbone: nn.Module) -> nn.Module:
    if not isinstance(backbone, ImageEncoder):
        return backbone
    network = backbone.model.requires_grad_(True).train()
    network.is_init = True  # Its weights may come from a file: mmengine would draw new ones.
    return network


def _one_batch(views: Sequence[Tensor]) -> Tensor:
    return views[0] if len(views) == 1 else torch.cat(list(views))
