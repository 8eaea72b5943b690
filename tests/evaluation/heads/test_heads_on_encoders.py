"""Every head on encoders of every make: shapes, gradients, and that a head is a function of its input alone."""

import functools

import pytest
import torch
from narrow_resnet import narrow_resnets
from torch import nn

from clear.core.errors import ConfigError
from clear.evaluation.dense.inputs.stage4 import fourth_stage
from clear.evaluation.heads import (
    DeepLabClassificationHead,
    DeepLabHead,
    LinearHead,
    LinearPixelHead,
    MultiEmbeddingHead,
    PixelWiseHead,
    SiameseHead,
)
from clear.features.build import make_encoder

SIZE = 64
SMALL = dict(resize=SIZE, crop=SIZE)
_SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
_VIT = dict(embed_dims=24, num_layers=4, num_heads=2, feedforward_channels=48)
ENCODERS = {
    'torchvision_resnet': dict(type='TorchvisionEncoder', arch='resnet18'),
    'mmpretrain_resnet': dict(type='MMPretrainEncoder', backbone=dict(type='ResNet', depth=18, stem_channels=8,
                                                                      base_channels=8)),
    'timm_resnet': dict(type='TimmEncoder', arch='test_resnet'),
    'timm_convnext': dict(type='TimmEncoder', arch='test_convnext'),
    'mmpretrain_convnext': dict(type='MMPretrainEncoder', backbone=dict(
        type='ConvNeXt', arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]))),
    'timm_efficientnet': dict(type='TimmEncoder', arch='test_efficientnet'),
    'torchvision_efficientnet': dict(type='TorchvisionEncoder', arch='efficientnet_b0'),
    'timm_vit': dict(type='TimmEncoder', arch='test_vit', model_args=dict(img_size=SIZE)),
    'mmpretrain_vit': dict(type='MMPretrainEncoder', backbone=dict(type='VisionTransformer', arch=_VIT, img_size=SIZE,
                                                                   patch_size=16)),
    'timm_swin': dict(type='TimmEncoder', arch='swin_tiny_patch4_window7_224', model_args=dict(
        img_size=SIZE, window_size=2, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))),
    'mmpretrain_swin': dict(type='MMPretrainEncoder', backbone=dict(
        type='SwinTransformer', arch=_SWIN, img_size=SIZE, window_size=2, pad_small_map=True)),
}
WITH_STAGE = ('torchvision_resnet', 'mmpretrain_resnet')
HEADS = {
    'linear': lambda encoder: LinearHead(encoder.embed_dim, 7),
    'frames': lambda encoder: MultiEmbeddingHead(encoder.embed_dim, 7, 2, hidden=16),
    'pixelwise': lambda encoder: PixelWiseHead(encoder.map_channels, 7),
    'siamese': lambda encoder: SiameseHead(encoder.map_channels, 7),
    'linear_pixel': lambda encoder: LinearPixelHead(encoder.map_channels, 7),
    'linear_pixel_of_four': lambda encoder: LinearPixelHead(encoder.map_channels, 7, levels=(1, 2, 3, 4)),
    'deeplab': lambda encoder: DeepLabHead(encoder.map_channels, 7, width=16),
    'deeplab_classes': lambda encoder: DeepLabClassificationHead(encoder.map_channels, 7, width=16, grid=2),
}
OF_VECTORS = ('linear', 'frames')
OF_CLASSES = (*OF_VECTORS, 'deeplab_classes')
OF_PAIRS = ('frames', 'siamese')


@functools.cache
def built(name):
    """The encoder, and what it gives for three pairs of images: embeddings (6, D) and maps of (6, C, H, W)."""
    torch.manual_seed(0)
    with narrow_resnets():
        encoder = make_encoder({**ENCODERS[name], 'preprocess': SMALL})
    images = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return encoder, encoder(images), encoder.feature_maps(images)


def called(head, name, embeddings, maps, size=(SIZE, SIZE)):
    """What a head gives for the first images, or pairs, of a batch."""
    if name in OF_PAIRS:
        embeddings, maps = embeddings.unflatten(0, (-1, 2)), [value.unflatten(0, (-1, 2)) for value in maps]
    if name in OF_VECTORS:
        return head(embeddings)
    return head(maps) if name in OF_CLASSES else head(maps, size)


@pytest.mark.parametrize('encoder', ENCODERS)
def test_maps_are_a_pyramid(encoder):
    encoder, embeddings, maps = built(encoder)
    assert embeddings.shape == (6, encoder.embed_dim) and embeddings.dtype == torch.float32
    assert [tuple(value.shape) for value in maps] == [
        (6, width, SIZE >> level, SIZE >> level) for level, width in enumerate(encoder.map_channels, start=1)]
    assert all(value.isfinite().all() and value.dtype == torch.float32 and not value.requires_grad for value in maps)


@pytest.mark.parametrize('name', HEADS)
@pytest.mark.parametrize('encoder', ENCODERS)
def test_a_head_is_a_function_of_what_the_encoder_gives(encoder, name):
    encoder, embeddings, maps = built(encoder)
    before = [value.clone() for value in (embeddings, *maps)]
    torch.manual_seed(2)
    head = HEADS[name](encoder)
    count = 3 if name in OF_PAIRS else 6

    output = called(head.train(), name, embeddings, maps)
    assert output.shape == ((count, 7) if name in OF_CLASSES else (count, 7, SIZE, SIZE))
    output.square().mean().backward()
    for parameter, value in head.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), parameter
        assert value.grad.any(), parameter
    assert all(value.grad is None for value in encoder.parameters())

    state = {key: value.clone() for key, value in head.eval().state_dict().items()}
    with torch.no_grad():
        output = called(head, name, embeddings, maps)
        torch.testing.assert_close(called(head, name, embeddings, maps), output, rtol=0, atol=0)
        first = called(head, name, embeddings[:2], [value[:2] for value in maps])
    torch.testing.assert_close(first, output[:len(first)], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, state[key]) for key, value in head.state_dict().items())
    assert all(torch.equal(*pair) for pair in zip((embeddings, *maps), before, strict=True))


@pytest.mark.parametrize('name', [name for name in HEADS if name not in OF_CLASSES])
@pytest.mark.parametrize('encoder', ['torchvision_resnet', 'timm_vit'])
def test_a_head_gives_the_size_that_is_asked_for(encoder, name):
    encoder, embeddings, maps = built(encoder)
    assert called(HEADS[name](encoder).eval(), name, embeddings, maps, (37, 50)).shape[2:] == (37, 50)


@pytest.mark.parametrize('encoder', ['timm_vit', 'mmpretrain_vit'])
def test_maps_of_a_transformer_are_its_tokens_resampled(encoder):
    encoder, _, maps = built(encoder)
    # Tokens of stride 16: the fourth map is the grid itself, the finer ones are enlarged, the coarser one averaged.
    sources = encoder.map_sources
    assert {source.level for source in sources} == {4} and len({source.module for source in sources}) == 5
    found = {}
    handles = [encoder.model.get_submodule(source.module).register_forward_hook(
        lambda _, __, output, name=source.module: found.update({name: output})) for source in sources]
    images = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        encoder.model(images)
    for handle in handles:
        handle.remove()
    for level, (source, value) in enumerate(zip(sources, maps), start=1):
        tokens = found[source.module]
        tokens = tokens[0] if isinstance(tokens, tuple) else tokens
        grid = tokens[:, -16:].transpose(1, 2).unflatten(2, (4, 4)) if tokens.ndim == 3 else tokens
        side = SIZE >> level
        if side > 4:
            grid = nn.functional.interpolate(grid, (side, side), mode='bilinear', align_corners=False)
        torch.testing.assert_close(value, nn.functional.adaptive_avg_pool2d(grid, side))


@pytest.mark.parametrize('trained', [False, True])
@pytest.mark.parametrize('encoder', WITH_STAGE)
def test_deeplab_with_the_fourth_stage_of_a_residual_network(encoder, trained):
    encoder, _, maps = built(encoder)
    stage = fourth_stage(encoder)
    assert stage is (encoder.model.layer4 if hasattr(encoder.model, 'layer4') else encoder.model.backbone.layer4)
    old = {key: value.clone() for key, value in stage.state_dict().items()}
    head = DeepLabHead(encoder.map_channels, 7, stage, width=16, train_block4=trained).train()
    output = head(maps, (SIZE, SIZE))
    assert output.shape == (6, 7, SIZE, SIZE)
    output.square().mean().backward()
    assert all((value.grad is not None) is trained for value in head.stage4.parameters())
    assert not head.stage4.training
    torch.optim.SGD([value for value in head.parameters() if value.requires_grad], lr=0.1).step()
    # The copy alone may change, and its fifth map is as fine as the fourth.
    assert all(torch.equal(value, old[key]) for key, value in stage.state_dict().items())
    changed = any(not torch.equal(value, old[key]) for key, value in head.stage4.state_dict().items())
    assert changed is trained
    assert head.stage4(maps[3]).shape == (6, encoder.map_channels[4], 4, 4)
    with torch.no_grad():
        whole, one = head.eval()(maps, (SIZE, SIZE)), head([value[:1] for value in maps], (SIZE, SIZE))
    torch.testing.assert_close(one, whole[:1], rtol=1e-4, atol=1e-5)


# The blocks of timm's test_resnet have a pool beside their convolutions, whose stride is not theirs.
@pytest.mark.parametrize('name', [name for name in ENCODERS if name not in WITH_STAGE])
def test_others_have_no_stage_to_dilate(name):
    encoder, _, _ = built(name)
    assert fourth_stage(encoder) is None
    stage = next(module for module in reversed([*encoder.modules()]) if len([*module.children()]) > 1)
    with pytest.raises(ConfigError, match='cannot be dilated'):
        DeepLabHead(encoder.map_channels, 7, stage, width=16)


@pytest.mark.parametrize('name', ENCODERS)
def test_gradients_reach_an_encoder_that_trains(name):
    torch.manual_seed(0)
    with narrow_resnets():
        encoder = make_encoder({**ENCODERS[name], 'preprocess': SMALL, 'trainable': True})
    head = PixelWiseHead(encoder.map_channels, 1)
    head(encoder.feature_maps(torch.randn(2, 3, SIZE, SIZE)), (SIZE, SIZE)).square().mean().backward()
    first = next(value for value in encoder.parameters() if value.requires_grad)
    assert first.grad is not None and first.grad.any() and first.grad.isfinite().all()
