import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from clear.core.errors import ConfigError
from clear.evaluation.heads import (
    ASPP,
    DeepLabClassificationHead,
    DeepLabHead,
    LinearHead,
    LinearPixelHead,
    MultiEmbeddingHead,
    PixelWiseHead,
    SiameseHead,
    dilated,
)
from clear.registry import MODELS

RESNET50 = (64, 256, 512, 1024, 2048)
SMALL = (4, 6, 8, 10, 12)


def maps(channels=SMALL, size=64, leading=(2,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*leading, width, size // 2**level, size // 2**level, generator=generator)
            for level, width in enumerate(channels, start=1)]


def count(module):
    return sum(value.numel() for value in module.parameters())


def test_parameters_as_published():
    with torch.device('meta'):
        assert count(LinearHead(2048, 47)) == 2049 * 47
        assert count(PixelWiseHead(RESNET50, 1)) == 99_689_988
        assert count(SiameseHead(RESNET50, 1)) == 110_843_204
        assert count(MultiEmbeddingHead(2048, 5, 6)) == 6 * 2048 * 512 + 512 + 512 * 5 + 5
        assert count(DeepLabHead(RESNET50, 5, torchvision.models.resnet50().layer4)) == 31_815_573


def up_by_hand(layer, value, size, activation=True):
    conv = layer[0]
    value = functional.conv2d(value, conv.weight, conv.bias, padding=1)
    batch, wide, height, width = value.shape
    value = value.view(batch, wide // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    value = value.reshape(batch, wide // 4, 2 * height, 2 * width)
    value = torch.where(value > 0, value, 0.01 * value) if activation else value
    return functional.interpolate(value, size, mode='bilinear', align_corners=False)


def pixels_by_hand(head, found, size):
    value = found[4]
    for number, finer in zip((1, 2, 3, 4), found[3::-1]):
        value = up_by_hand(getattr(head, f'up{number}'), value, finer.shape[2:]) + finer
    return up_by_hand(head.up5, value, size, activation=False)


@pytest.mark.parametrize('size', [64, 60])
def test_pixel_wise_is_the_rule_written_out(size):
    head, found = PixelWiseHead(SMALL, 3), maps(size=size)
    outputs = head(found, (size, size))
    assert outputs.shape == (2, 3, size, size)
    torch.testing.assert_close(outputs, pixels_by_hand(head, found, (size, size)))


def test_siamese_joins_two_images_at_every_level():
    head, found = SiameseHead(SMALL, 2), maps(leading=(3, 2))
    before = [value.clone() for value in found]
    fused = []
    for value, layer in zip(found, (head.fuse5, head.fuse4, head.fuse3, head.fuse2, head.fuse1)):
        width = value.shape[2]
        first, second = layer.weight[:, :width, 0, 0], layer.weight[:, width:, 0, 0]
        fused.append(torch.einsum('nchw,oc->nohw', value[:, 0], first)
                     + torch.einsum('nchw,oc->nohw', value[:, 1], second) + layer.bias[:, None, None])
    torch.testing.assert_close(head(found, (64, 64)), pixels_by_hand(head.pixels, fused, (64, 64)))
    assert all(torch.equal(old, new) for old, new in zip(before, found))  # ViRB's writes into its input


def test_several_embeddings_in_their_order():
    head, embeddings = MultiEmbeddingHead(4, 3, num_images=2), torch.randn(5, 2, 4)
    expected = head.head(torch.cat([embeddings[:, 0], embeddings[:, 1]], 1))
    assert torch.equal(head(embeddings), expected) and head(embeddings.half()).dtype == torch.float32
    with pytest.raises(ValueError, match='should be'):
        head(embeddings[:, :1])


def test_linear_pixels_on_several_maps():
    head, found = LinearPixelHead(SMALL, 3, levels=[1, 3]).eval(), maps()
    coarse = functional.interpolate(found[3], found[1].shape[2:], mode='bilinear', align_corners=False)
    both = torch.cat([found[1], coarse], 1) / (1 + 1e-5) ** 0.5
    expected = torch.einsum('nchw,oc->nohw', both, head.classifier.weight[:, :, 0, 0]) + head.classifier.bias[
        :, None, None]
    expected = functional.interpolate(expected, (64, 64), mode='bilinear', align_corners=False)
    torch.testing.assert_close(head(found, (64, 64)), expected)
    for levels in ([], [5], [1, 1]):
        with pytest.raises(ConfigError, match='levels'):
            LinearPixelHead(SMALL, 3, levels=levels)


def test_heads_for_pixels_need_five_maps():
    for kind in (PixelWiseHead, SiameseHead, LinearPixelHead, DeepLabHead):
        with pytest.raises(ConfigError, match='five maps'):
            kind([], 3)
        assert MODELS.get(kind.__name__) is kind


def test_aspp_by_hand():
    pool = ASPP(3, 4).eval()
    x, views = torch.randn(2, 3, 9, 9), []
    for number, rate in enumerate((0, 6, 12, 18), start=1):
        weight = getattr(pool, f'aspp{number}').weight
        views.append(functional.conv2d(x, weight, padding=rate, dilation=max(rate, 1)))
    views.append(functional.conv2d(x.mean((2, 3), keepdim=True), pool.aspp5.weight).expand(2, 4, 9, 9))
    norm = (1 + 1e-5) ** -0.5
    joined = torch.cat([functional.relu(view * norm) for view in views], 1)
    torch.testing.assert_close(pool(x), functional.relu(functional.conv2d(joined, pool.conv2.weight) * norm))
    assert ASPP(3, 4, 3e-4).bn2.eps == 3e-4


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50'])
def test_a_dilated_stage_has_no_stride(arch):
    stage = getattr(torchvision.models, arch)().layer4.eval()
    copied = dilated(stage)
    assert [tuple(value.shape) for value in copied.parameters()] == [tuple(value.shape) for value in stage.parameters()]
    assert not any(value.requires_grad for value in copied.parameters()) and not copied.training
    x = torch.randn(1, stage[0].conv1.in_channels, 12, 12)
    assert copied(x).shape[2:] == (12, 12) and stage(x).shape[2:] == (6, 6)
    assert stage[0].conv1.weight is not copied[0].conv1.weight


def test_a_dilated_stage_by_hand():
    stage, x, norm = small_stage().eval(), torch.randn(2, 10, 9, 9), (1 + 1e-5) ** -0.5
    value = x
    for block, rate in zip(stage, (2, 4)):
        inner = functional.relu(norm * functional.conv2d(value, block.conv1.weight, padding=rate, dilation=rate))
        inner = norm * functional.conv2d(inner, block.conv2.weight, padding=rate, dilation=rate)
        shortcut = norm * functional.conv2d(value, block.downsample[0].weight) if block.downsample else value
        value = functional.relu(inner + shortcut)
    torch.testing.assert_close(dilated(stage)(x), value)


def test_stages_that_are_no_residual_blocks():
    for stage in (nn.Sequential(nn.Linear(3, 3)), nn.Sequential(*[nn.Identity()] * 4),
                  nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1), nn.AvgPool2d(2), nn.Conv2d(3, 3, 1)))):
        with pytest.raises(ConfigError, match='cannot be dilated'):
            dilated(stage)


def small_stage():
    torch.manual_seed(0)
    block = torchvision.models.resnet.BasicBlock
    shortcut = nn.Sequential(nn.Conv2d(10, 12, 1, stride=2, bias=False), nn.BatchNorm2d(12))
    return nn.Sequential(block(10, 12, 2, shortcut), block(12, 12))


@pytest.mark.parametrize('options, trains, eps, momentum, at_test', [
    (dict(), False, 1e-5, 0.1, False), (dict(protocol='virb'), False, 1e-5, 3e-4, False),
    (dict(protocol='virb', legacy=True), True, 3e-4, 3e-4, True), (dict(train_block4=True), True, 1e-5, 0.1, False),
    (dict(legacy=True, train_block4=False), False, 3e-4, 0.1, True)])
def test_deep_lab_by_protocol(options, trains, eps, momentum, at_test):
    head = DeepLabHead(SMALL, 3, small_stage(), width=8, **options).train()
    assert {value.requires_grad for value in head.stage4.parameters()} == {trains} and not head.stage4.training
    assert head.aspp.bn2.eps == eps and {head.low[1].momentum, head.dec[1].momentum, head.dec[4].momentum} == {momentum}
    assert head.eval().low[1].training is at_test
    found = maps()
    deep = head.aspp(head.stage4(found[3]))
    deep = functional.interpolate(deep, found[1].shape[2:], mode='bilinear', align_corners=True)
    expected = functional.interpolate(head.dec(torch.cat([deep, head.low(found[1])], 1)), (64, 64), mode='bilinear')
    torch.testing.assert_close(head(found, (64, 64)), expected)


def test_deep_lab_without_a_fourth_stage_takes_the_fifth_map():
    head, found = DeepLabHead(SMALL, 3, width=8).eval(), maps()
    changed = copy.copy(found)
    changed[3] = torch.zeros_like(found[3])
    assert torch.equal(head(found, (64, 64)), head(changed, (64, 64)))
    changed[4] = torch.zeros_like(found[4])
    assert not torch.equal(head(found, (64, 64)), head(changed, (64, 64)))


def test_classes_through_aspp_by_hand():
    torch.manual_seed(0)
    head = DeepLabClassificationHead(SMALL, 5, width=6, grid=2).eval()
    found = maps(size=128)  # the fifth is 4 x 4: cells of 2 x 2
    deep = head.aspp(found[4])
    cells = torch.stack([deep[:, :, 2 * row:2 * row + 2, 2 * column:2 * column + 2].mean((2, 3))
                         for row in range(2) for column in range(2)], 2)
    torch.testing.assert_close(head(found), functional.linear(cells.flatten(1), head.head.weight, head.head.bias))
    # At 224 pixels nothing is averaged: 7 x 7 x 256 numbers of an image, as in ViRB.
    with torch.device('meta'):
        whole = DeepLabClassificationHead(RESNET50, 37)
        assert whole.head.in_features == 7 * 7 * 256 and count(whole) == count(ASPP(2048, 256)) + 12544 * 37 + 37
    with pytest.raises(ConfigError, match='five maps'):
        DeepLabClassificationHead((64, 128), 5)
