"""Five feature maps: where they are taken from, against the stages by hand and timm's own feature extraction."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from clear.core.errors import ConfigError
from clear.models.towers.image import TimmEncoder, TorchHubEncoder, TorchvisionEncoder
from clear.models.towers.image.maps import collect, find_maps


def test_maps_of_a_resnet_are_stem_and_stages():
    torch.manual_seed(0)
    encoder = TorchvisionEncoder('resnet18', preprocess=dict(crop=64, resize=64))
    model, images = encoder.model, torch.rand(2, 3, 96, 64)
    value = model.relu(model.bn1(model.conv1(images)))
    expected = [value]
    value = model.maxpool(value)
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        value = stage(value)
        expected.append(value)
    maps = encoder.feature_maps(images)
    assert encoder.map_channels == (64, 64, 128, 256, 512)
    assert all(torch.equal(found, wanted) for found, wanted in zip(maps, expected, strict=True))
    assert [tuple(value.shape[2:]) for value in maps] == [(48, 32), (24, 16), (12, 8), (6, 4), (3, 2)]
    torch.testing.assert_close(maps[4].mean((2, 3)), encoder(images))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize('arch', ['resnet10t', 'regnetx_002'])
def test_maps_equal_timms_features_only(arch):
    import timm

    torch.manual_seed(0)
    encoder = TimmEncoder(arch, preprocess=dict(crop=64, resize=64))
    own = timm.create_model(arch, features_only=True, out_indices=(1, 2, 3)).eval()
    assert not own.load_state_dict(encoder.model.state_dict(), strict=False).missing_keys
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for found, wanted in zip(encoder.feature_maps(images)[1:4], own(images), strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize('arch', ['test_convnext', 'test_efficientnet', 'test_maxvit', 'test_vit', 'levit_128s',
                                  'mobilenetv3_small_050', 'deit_tiny_distilled_patch16_224'])
def test_published_channels_are_what_comes_out(arch):
    encoder = TimmEncoder(arch)
    size = encoder.preprocess.crop
    maps = encoder.feature_maps(torch.rand(2, 3, size, size))
    assert encoder.map_channels == tuple(value.shape[1] for value in maps)
    assert [size / value.shape[3] for value in maps] == pytest.approx([2, 4, 8, 16, 32], rel=0.1)
    assert all(value.shape[0] == 2 and value.dtype == torch.float32 for value in maps)


def test_a_stem_of_stride_four_stands_in_for_the_missing_level():
    encoder = TimmEncoder('test_convnext')
    images = torch.rand(1, 3, 160, 160)
    fine, coarse = encoder.feature_maps(images)[:2]
    assert encoder.map_sources[0] == encoder.map_sources[1] and encoder.map_sources[1].module == 'stages.0'
    torch.testing.assert_close(fine, nn.functional.interpolate(coarse, (80, 80), mode='bilinear'))


def test_tokens_of_a_vision_transformer_become_a_pyramid():
    torch.manual_seed(0)
    model = VisionTransformer(64, 8, 8, 2, 12, 24).eval()
    images, blocks = torch.rand(2, 3, 64, 64), []
    for block in model.encoder.layers:
        block.register_forward_hook(lambda _, __, output: blocks.append(output))
    sources = find_maps(model, images[:1])
    blocks.clear()
    with torch.no_grad():
        maps = collect(model, images, sources)
        patches = model.conv_proj(images)
    # Patches of 8 pixels: the grid of 8 x 8 is that of stride 8; two blocks make a quarter.
    by_hand = [patches] + [blocks[i][:, 1:].transpose(1, 2).reshape(2, 12, 8, 8) for i in (1, 3, 5, 7)]
    assert [tuple(value.shape) for value in maps] == [(2, 12, side, side) for side in (32, 16, 8, 4, 2)]
    torch.testing.assert_close(maps[0], nn.functional.interpolate(by_hand[0], (32, 32), mode='bilinear'))
    torch.testing.assert_close(maps[2], by_hand[2])
    torch.testing.assert_close(maps[4], nn.functional.avg_pool2d(by_hand[4], 4))


def test_in_place_layers_do_not_change_a_map_afterwards():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1),
                          nn.BatchNorm2d(4), nn.Sequential(nn.AdaptiveAvgPool2d(1)))
    model.register_forward_hook(lambda _, __, output: output.zero_())
    maps = collect(model.eval(), torch.rand(1, 3, 64, 64), find_maps(model, torch.rand(1, 3, 64, 64)))
    assert maps[2].abs().max() > 0


def test_models_without_maps_only_complain_when_asked(tmp_path):
    (tmp_path / 'hubconf.py').write_text(
        'import torch\ndef flat(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 9), '
        'torch.nn.ReLU(), torch.nn.Linear(9, 4))\n')
    encoder = TorchHubEncoder(tmp_path, 'flat', preprocess=dict(crop=32, resize=32))
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, 9)
    for ask in (lambda: encoder.feature_maps(torch.rand(1, 3, 32, 32)), lambda: encoder.map_channels):
        with pytest.raises(ConfigError, match='Sequential has no feature maps'):
            ask()


def test_finding_maps_leaves_the_model_as_it_was():
    model = resnet18().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    find_maps(model, torch.rand(1, 3, 64, 64))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
