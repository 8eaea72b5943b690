"""torchvision's ResNets with an eighth of the channels and the same names: a ResNet-18 of 0.2 M numbers, not 11 M."""

import contextlib
from collections.abc import Iterator

import pytest
from torch import nn
from torchvision.models import resnet

DIM = 64  # of the embedding of a narrow ResNet-18
MMPRETRAIN = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)  # the same network


class NarrowResNet(resnet.ResNet):
    """Built by `torchvision.models.resnet18` and its like inside `narrow_resnets`."""

    def __init__(self, block, layers, num_classes=1000, **options):
        self._is_begun = False
        super().__init__(block, layers, num_classes, **options)
        self.fc = nn.Linear(DIM * block.expansion, num_classes)

    @property
    def inplanes(self):
        return self._inplanes

    @inplanes.setter
    def inplanes(self, channels):
        self._inplanes = channels if self._is_begun else channels // 8
        self._is_begun = True

    def _make_layer(self, block, planes, *args, **options):
        return super()._make_layer(block, planes // 8, *args, **options)


@contextlib.contextmanager
def narrow_resnets() -> Iterator[None]:
    """torchvision builds narrow ResNets inside."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, 'ResNet', NarrowResNet)
        yield
