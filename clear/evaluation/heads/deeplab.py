"""DeepLabv3+ on two maps of a frozen encoder, its fourth stage made anew without stride."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_choice, check_whole
from clear.core.errors import ConfigError
from clear.evaluation.heads.pixelwise import check_channels
from clear.registry import MODELS

PROTOCOLS = ('strict', 'virb')
RATES = (6, 12, 18)
DILATIONS = (2, 4, 2)  # of the blocks of the fourth stage, of which the first loses its stride
VIRB_EPS, VIRB_MOMENTUM, STAGE_MOMENTUM = 3e-4, 3e-4, 0.05


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017, arXiv:1706.05587, sec. 3.3): five views of a map, joined.

    Args:
        eps: of its BatchNorms. ViRB's code passes its momentum, 3e-4, in this place.
    """

    def __init__(self, in_channels: int, out_channels: int, eps: float = 1e-5):
        super().__init__()
        kernels = (1, 3, 3, 3, 1)
        for number, (kernel, rate) in enumerate(zip(kernels, (1, *RATES, 1)), start=1):
            padding = rate if kernel == 3 else 0
            self.add_module(f'aspp{number}', nn.Conv2d(in_channels, out_channels, kernel, padding=padding,
                                                       dilation=rate, bias=False))
            self.add_module(f'aspp{number}_bn', nn.BatchNorm2d(out_channels, eps=eps))
        self.conv2 = nn.Conv2d(len(kernels) * out_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        views = [self._view(number, x) for number in range(1, 5)]
        views.append(self._view(5, x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:]))
        return functional.relu(self.bn2(self.conv2(torch.cat(views, 1))))

    def _view(self, number: int, x: Tensor) -> Tensor:
        return functional.relu(getattr(self, f'aspp{number}_bn')(getattr(self, f'aspp{number}')(x)))


def dilated(stage: nn.Module) -> nn.Module:
    """A copy of a residual stage that keeps the resolution: blocks dilated by 2, 4 and 2, no stride.

    The copy is frozen, and in eval mode for good.

    Raises:
        ConfigError: for a stage that is no chain of residual blocks of convolutions.
    """
    if not can_dilate(stage):
        raise ConfigError(f'{type(stage).__name__} is no chain of up to {len(DILATIONS)} residual blocks of '
                          'convolutions, so it cannot be dilated.')
    stage = copy.deepcopy(stage)
    for block, dilation in zip(stage.children(), DILATIONS):
        for layer in block.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
                if layer.kernel_size == (3, 3):
                    layer.dilation, layer.padding = (dilation, dilation), (dilation, dilation)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.momentum = STAGE_MOMENTUM
    return stage.requires_grad_(False).eval()


def can_dilate(stage: nn.Module) -> bool:
    """Whether `dilated` knows what to do with this module."""
    blocks = list(stage.children())
    return 1 <= len(blocks) <= len(DILATIONS) and all(_is_residual(block) for block in blocks)


def _is_residual(block: nn.Module) -> bool:
    # An average pool before the shortcut has a stride of its own (ResNet-D).
    kinds = [type(layer) for layer in block.modules()]
    return kinds.count(nn.Conv2d) >= 2 and not any(issubclass(kind, (nn.AvgPool2d, nn.MaxPool2d)) for kind in kinds)


@MODELS.register_module()
class DeepLabHead(nn.Module):
    """ASPP on the fourth stage, joined with the map of the first (Chen et al. 2018, arXiv:1802.02611), as in ViRB.

    Args:
        map_channels: of the five maps, fine to coarse.
        out_channels: numbers for each pixel.
        stage4: the encoder's fourth stage: a copy without stride, on the third stage's map, is what ASPP sees; frozen.
            None: ASPP sees the fifth map as it is.
        train_block4: train that copy; its BatchNorms keep their statistics. None: with `legacy` alone.
        protocol: 'strict', or 'virb' for the momentum of the decoder's BatchNorms as there, which hardly ever reaches
            the statistics of the data.
        legacy: with the defects of ViRB's code: the copy trains, ASPP's BatchNorms have an eps of 3e-4, and that of
            the finer map takes the statistics of the batch at test time, too.

    Shape:
        maps: five of (N, C_k, H_k, W_k)   returns: (N, out_channels, H, W) for `size` (H, W)

    Raises:
        ConfigError: for a stage that cannot be dilated, or an unknown protocol.
    """

    def __init__(self, map_channels: Sequence[int], out_channels: int, stage4: nn.Module | None = None, *,
                 width: int = 256, train_block4: bool | None = None, protocol: str = 'strict', legacy: bool = False):
        super().__init__()
        channels = check_channels(map_channels)
        momentum = VIRB_MOMENTUM if check_choice('protocol', protocol, PROTOCOLS) == 'virb' else 0.1
        self.legacy = legacy
        self.stage4 = None if stage4 is None else dilated(stage4)
        if self.stage4 is not None:
            self.stage4.requires_grad_(legacy if train_block4 is None else train_block4)
        self.aspp = ASPP(channels[4], width, VIRB_EPS if legacy else 1e-5)
        self.low = nn.Sequential(nn.Conv2d(channels[1], 48, 1), nn.BatchNorm2d(48, momentum=momentum), nn.ReLU())
        self.dec = nn.Sequential(
            nn.Conv2d(width + 48, width, 3, padding=1), nn.BatchNorm2d(width, momentum=momentum), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width, momentum=momentum), nn.ReLU(),
            nn.Conv2d(width, check_whole('out_channels', out_channels, 1), 3, padding=1))

    @property
    def levels(self) -> tuple[int, int]:
        """Levels of the maps that it reads."""
        return (1, 4 if self.stage4 is None else 3)

    def train(self, mode: bool = True) -> DeepLabHead:
        super().train(mode)
        if self.stage4 is not None:
            self.stage4.eval()
        if self.legacy:
            self.low[1].train()
        return self

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        deep = maps[4] if self.stage4 is None else self.stage4(maps[3])
        deep = _aligned(self.aspp(deep), maps[1].shape[2:])
        value = self.dec(torch.cat([deep, self.low(maps[1])], 1))
        return functional.interpolate(value, tuple(size), mode='bilinear', align_corners=False)


@MODELS.register_module()
class DeepLabClassificationHead(nn.Module):
    """Classes of images from ASPP on the fifth map: flattened, then one linear layer.

    A figure of ViRB's paper (Kotar et al. 2021, arXiv:2103.14005) has two tasks with it; its published code has the
    head, and no task that trains it.

    Args:
        map_channels: of the five maps, fine to coarse.
        width: channels that ASPP gives.
        grid: side, in cells, that its output is averaged to: for images of 224 pixels it is that of the map.

    Shape:
        maps: five of (N, C_k, H_k, W_k)   returns: (N, num_classes)
    """

    levels = (4,)

    def __init__(self, map_channels: Sequence[int], num_classes: int, *, width: int = 256, grid: int = 7):
        super().__init__()
        channels = check_channels(map_channels)
        self.grid = check_whole('grid', grid, 1)
        self.aspp = ASPP(channels[4], width)
        self.head = nn.Linear(width * grid**2, check_whole('num_classes', num_classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        cells = functional.adaptive_avg_pool2d(self.aspp(maps[4]), self.grid)  # (N, width, grid, grid)
        return self.head(cells.flatten(1))


def _aligned(value: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(value, tuple(size), mode='bilinear', align_corners=True)
