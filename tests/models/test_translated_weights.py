"""Networks of timm, torchvision and of papers' authors, translated into mmpretrain's: the same features in float64."""

import re

import pytest
import torch
from torch import nn

from clear.core.errors import CheckpointError
from clear.models import build_classifier, load_weights

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
WIDTH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=96)
VIT = dict(type='VisionTransformer', arch=WIDTH, img_size=64, patch_size=16)
TIMM_VIT = dict(img_size=64, patch_size=16, embed_dim=24, depth=2, num_heads=2, num_classes=3)
CONVNEXT = dict(type='ConvNeXt', arch=dict(depths=[1, 2, 1, 1], channels=[4, 6, 8, 10]))
CONVNEXT_V2 = dict(CONVNEXT, use_grn=True, layer_scale_init_value=0.0)
TIMM_CONVNEXT = dict(num_classes=3, depths=(1, 2, 1, 1), dims=(4, 6, 8, 10))
SWIN = dict(type='SwinTransformer', arch=dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4]), img_size=64,
            window_size=2)
SWIN_V2 = dict(SWIN, type='SwinTransformerV2', arch=dict(SWIN['arch'], extra_norm_every_n_blocks=0))
TIMM_SWIN = dict(img_size=64, window_size=2, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4), num_classes=3)
COMPUTED = ('relative_position_index', 'relative_coords_table')
CLIP = dict(VIT, arch=dict(WIDTH, embed_dims=128, feedforward_channels=512), pre_norm=True,
            norm_cfg=dict(type='LN', eps=1e-5))


def shaken(network, seed=0):
    """In float64; each number differs from what it is built with, and no norm is the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
                drawn *= 0.5 if value.ndim < 2 else 1 / value[0].numel() ** 0.5  # layers keep the size of numbers
                value.copy_(drawn.abs() + 0.5 if 'running_var' in name else drawn)
    return network.double().eval()


def classifier(backbone, channels, head='LinearClsHead', **options):
    gives_maps = backbone['type'] in ('SwinTransformer', 'SwinTransformerV2', 'RegNet', 'MobileNetV2', 'MobileNetV3')
    neck = dict(type='GlobalAveragePooling') if gives_maps else None
    cfg = dict(backbone=backbone, neck=neck, head=dict(type=head, num_classes=3, in_channels=channels,
                                                          **options))
    return build_classifier(cfg).double()


def save(tmp_path, state):
    torch.save(state, tmp_path / 'weights.pth')
    return tmp_path / 'weights.pth'


def timm_swin():
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(**TIMM_SWIN)


def timm_swin_v2():
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    return SwinTransformerV2(**TIMM_SWIN)


def timm_regnet():
    from timm import create_model

    return create_model('regnetx_004', num_classes=3)


def torchvision_regnet(name='regnet_x_800mf'):
    return of_torchvision(name)


def of_torchvision(name):
    from torchvision.models import get_model

    return get_model(name, num_classes=3)


def timm_mobilenet_v2():
    from timm import create_model

    return create_model('mobilenetv2_100', num_classes=3)


def torchvision_swin(depths=(2, 2, 2, 2), window=2):
    from torchvision.models.swin_transformer import SwinTransformer

    return SwinTransformer([4, 4], 8, list(depths), [1, 2, 2, 4], [window, window], num_classes=3)


def torchvision_convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(4, 6, 1), CNBlockConfig(6, 8, 2), CNBlockConfig(8, 10, 1),
                     CNBlockConfig(10, None, 1)], num_classes=3)


def timm_convnext(**options):
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(**TIMM_CONVNEXT, **options)


def timm_vit(**options):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(**TIMM_VIT, **options)


def distilled():
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(**TIMM_VIT)


def norm_of_clip(width, **_):
    return nn.LayerNorm(width, eps=1e-5)


# Whole classifiers whose head has a place, too: network, backbone and its width, head, source.
WHOLE = {
    'timm_swin': (timm_swin, SWIN, 64, 'LinearClsHead', 'timm_swin'),
    'torchvision_swin': (torchvision_swin, SWIN, 64, 'LinearClsHead', 'torchvision_swin'),
    'timm_swin_v2': (timm_swin_v2, SWIN_V2, 64, 'LinearClsHead', 'timm_swin_v2'),
    'timm_regnet': (timm_regnet, dict(type='RegNet', arch='regnetx_400mf'), 384, 'LinearClsHead', 'timm_regnet'),
    'torchvision_regnet': (torchvision_regnet, dict(type='RegNet', arch='regnetx_800mf'), 672, 'LinearClsHead',
                           'torchvision_regnet'),
    'timm_mobilenet_v2': (timm_mobilenet_v2, dict(type='MobileNetV2'), 1280, 'LinearClsHead', 'timm_mobilenet_v2'),
    'torchvision_mobilenet_v2': (lambda: of_torchvision('mobilenet_v2'), dict(type='MobileNetV2'), 1280,
                                 'LinearClsHead', 'torchvision_mobilenet_v2'),
    'torchvision_convnext': (torchvision_convnext, CONVNEXT, 10, 'LinearClsHead', 'torchvision_convnext'),
    'timm_convnext': (lambda: timm_convnext(conv_mlp=True), CONVNEXT, 10, 'LinearClsHead', 'timm_convnext'),
    'timm_convnext_v2': (lambda: timm_convnext(use_grn=True, ls_init_value=None),
                         CONVNEXT_V2, 10, 'LinearClsHead', 'timm_convnext'),
    'deit_distilled': (distilled, dict(VIT, type='DistilledVisionTransformer'), 24, 'DeiTClsHead', 'timm_vit'),
    'mae_finetuned': (lambda: timm_vit(global_pool='avg', fc_norm=True),
                      dict(VIT, out_type='avg_featmap', final_norm=False), 24, 'VisionTransformerClsHead', 'timm_vit'),
    'clip_of_timm': (lambda: timm_vit(pre_norm=True, norm_layer=norm_of_clip),
                     dict(VIT, pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5)), 24, 'VisionTransformerClsHead',
                     'timm_vit'),
}


@torch.no_grad()
@pytest.mark.parametrize('name', WHOLE)
def test_logits_are_the_same_and_no_tensor_is_left(tmp_path, name):
    build, backbone, channels, head, source = WHOLE[name]
    network = shaken(build())
    model = classifier(backbone, channels, head)
    report = load_weights(model, save(tmp_path, network.state_dict()))
    assert report.source == source
    assert all(key.endswith(COMPUTED) for key in report.missing + report.unexpected)
    model.eval()
    torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=1e-12, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize(('size', 'channels', 'middle'), [('small', 576, 1024), ('large', 960, 1280)])
def test_mobilenet_v3_of_torchvision(tmp_path, size, channels, middle):
    network = shaken(of_torchvision(f'mobilenet_v3_{size}'))
    model = classifier(dict(type='MobileNetV3', arch=size), channels, 'StackedLinearClsHead', mid_channels=[middle],
                       act_cfg=dict(type='HSwish'))
    report = load_weights(model, save(tmp_path, network.state_dict()))
    assert report.source == 'torchvision_mobilenet_v3' and not report.missing and not report.unexpected
    model.eval()
    torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=1e-12, atol=1e-10)


def microsoft_names(state):
    """The layout of Swin's authors: patches are merged at the end of a stage."""
    return {re.sub(r'layers\.(\d)\.downsample', lambda found: f'layers.{int(found[1]) - 1}.downsample', name).replace(
        'head.fc.', 'head.'): value for name, value in state.items()}


@torch.no_grad()
def test_swin_of_its_authors(tmp_path):
    """timm's own function for these files says that the names are theirs."""
    from timm.models.swin_transformer import checkpoint_filter_fn

    network = shaken(timm_swin())
    state = microsoft_names(network.state_dict())
    theirs = checkpoint_filter_fn(dict(state), network)
    assert theirs.keys() == network.state_dict().keys() != state.keys()
    indices = {f'layers.{stage}.blocks.{block}.attn.relative_position_index': torch.zeros(4, 4, dtype=torch.long)
               for stage in range(4) for block in range(2)}
    state |= indices | {'layers.0.blocks.1.attn_mask': torch.zeros(64, 4, 4)}
    model = classifier(SWIN, 64)
    report = load_weights(model, save(tmp_path, dict(model=state)))
    assert report.source == 'microsoft_swin' and len(report.unexpected) == len(indices) + 1
    model.eval()
    torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=0, atol=1e-10)
    again = shaken(timm_swin(), seed=1)
    assert load_weights(again, save(tmp_path, dict(model=state))).source == 'microsoft'
    assert all(torch.equal(value, theirs[name]) for name, value in again.state_dict().items())


@torch.no_grad()
def test_second_swin_of_its_authors(tmp_path):
    from timm.models.swin_transformer_v2 import checkpoint_filter_fn

    network = shaken(timm_swin_v2())
    state = microsoft_names(network.state_dict())
    assert checkpoint_filter_fn(dict(state), network).keys() == network.state_dict().keys() != state.keys()
    model = classifier(SWIN_V2, 64)
    assert load_weights(model, save(tmp_path, dict(model=state))).source == 'microsoft_swin_v2'
    model.eval()
    torch.testing.assert_close(model(IMAGES), network(IMAGES), rtol=0, atol=1e-10)


def facebook_names(state):
    renames = ((r'^stem\.', 'downsample_layers.0.'), (r'^stages\.(\d)\.downsample\.', r'downsample_layers.\1.'),
               (r'\.blocks\.', '.'), (r'\.conv_dw\.', '.dwconv.'), (r'\.mlp\.fc(\d)\.', r'.pwconv\1.'),
               (r'\.mlp\.grn\.weight', '.grn.gamma'), (r'\.mlp\.grn\.bias', '.grn.beta'), (r'^head\.norm\.', 'norm.'),
               (r'^head\.fc\.', 'head.'))
    renamed = {}
    for name, value in state.items():
        for pattern, new in renames:
            name = re.sub(pattern, new, name)
        renamed[name] = value.reshape(1, 1, 1, -1) if '.grn.' in name else value
    return renamed


@torch.no_grad()
@pytest.mark.parametrize('is_second', [False, True])
def test_convnext_of_its_authors(tmp_path, is_second):
    from timm.models.convnext import checkpoint_filter_fn

    options = dict(use_grn=True, ls_init_value=None) if is_second else {}
    network = shaken(timm_convnext(**options))
    state = facebook_names(network.state_dict())
    again = shaken(timm_convnext(**options), seed=1)
    again.load_state_dict(checkpoint_filter_fn(dict(state), again), strict=True)
    model = classifier(CONVNEXT_V2 if is_second else CONVNEXT, 10)
    report = load_weights(model, save(tmp_path, dict(model=state)))
    assert report.source == 'facebook_convnext' and not report.missing and not report.unexpected
    model.eval()
    torch.testing.assert_close(model(IMAGES), again(IMAGES), rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize('quick_gelu', [False, True])
def test_image_tower_of_clip(tmp_path, quick_gelu):
    import open_clip

    network = shaken(open_clip.CLIP(16, dict(image_size=64, layers=2, width=128, patch_size=16), dict(
        context_length=8, vocab_size=49, width=32, heads=2, layers=2), quick_gelu=quick_gelu))
    path = save(tmp_path, network.state_dict())
    layers = dict(act_cfg=dict(type='mmpretrain.QuickGELU')) if quick_gelu else {}
    backbone = dict(CLIP, layer_cfgs=layers)
    model = classifier(backbone, 128)
    report = load_weights(model, path)
    assert report.source == 'openclip_vit' and all(name.startswith('head.') for name in report.missing)
    network.visual.proj = None  # no part of mmpretrain's backbone
    model.eval()
    torch.testing.assert_close(model.extract_features(IMAGES)[-1], network.visual(IMAGES), rtol=0, atol=1e-10)


def test_a_program_of_torchscript_is_named(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / 'clip.pt')
    with pytest.raises(CheckpointError, match=r'a program of TorchScript .* save its state_dict\(\)') as found:
        load_weights(classifier(VIT, 24), tmp_path / 'clip.pt')
    assert 'weights_only' not in str(found.value)


@torch.no_grad()
def test_giant_of_dinov2(tmp_path):
    """timm's SwiGLU is DINOv2's under the names of an ordinary MLP."""
    from timm.layers import SwiGLUPacked

    network = shaken(timm_vit(init_values=1e-5, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, mlp_ratio=16 / 3))
    state = {name.replace('mlp.fc1', 'mlp.w12').replace('mlp.fc2', 'mlp.w3'): value
             for name, value in network.state_dict().items() if not name.startswith('head.')}
    state['mask_token'] = torch.ones(1, 24)
    model = classifier(dict(VIT, layer_scale_init_value=1e-5, layer_cfgs=dict(ffn_type='swiglu_fused')), 24)
    report = load_weights(model, save(tmp_path, state))
    assert report.source in ('timm_vit', 'dino_vit') and all(name.startswith('head.') for name in report.missing)
    model.eval()
    wanted = network.forward_head(network.forward_features(IMAGES), pre_logits=True)
    torch.testing.assert_close(model.extract_features(IMAGES)[-1], wanted, rtol=0, atol=1e-10)


@torch.no_grad()
def test_pretraining_of_mae_leaves_its_decoder_behind(tmp_path):
    network = shaken(timm_vit())
    state = {name: value for name, value in network.state_dict().items() if not name.startswith('head.')}
    state |= {'decoder_embed.weight': torch.ones(8, 24), 'decoder_blocks.0.norm1.weight': torch.ones(8),
              'decoder_pos_embed': torch.ones(1, 17, 8), 'mask_token': torch.ones(1, 1, 8)}
    model = classifier(VIT, 24)
    load_weights(model, save(tmp_path, dict(model=state)))
    model.eval()
    wanted = network.forward_head(network.forward_features(IMAGES), pre_logits=True)
    torch.testing.assert_close(model.extract_features(IMAGES)[-1], wanted, rtol=0, atol=1e-10)


def with_registers():
    """As DINOv2 publishes them, beside a position table that has as many rows as without."""
    return shaken(timm_vit(init_values=1e-5)).state_dict() | {'register_tokens': torch.ones(1, 4, 24)}


@pytest.mark.parametrize(('state', 'first'), [
    (with_registers, 'register_tokens'),
    (lambda: shaken(timm_vit(init_values=1e-5, qk_norm=True)).state_dict(), r'blocks\.0\.attn\.q_norm\.weight'),
], ids=['registers', 'qk_norm'])
def test_parts_without_a_place_are_no_silent_loss(tmp_path, caplog, monkeypatch, state, first):
    from clear.core.logs import logger

    path, backbone = save(tmp_path, state()), dict(VIT, layer_scale_init_value=1e-5)
    with pytest.raises(CheckpointError, match=f'holds {first}, for which VisionTransformer has no place'):
        load_weights(classifier(backbone, 24), path)
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)
    load_weights(classifier(backbone, 24), path, min_matched=0.9)
    assert re.search(first, caplog.text)


@pytest.mark.parametrize(('build', 'backbone', 'channels', 'says'), [
    (torchvision_swin, dict(SWIN, arch=dict(SWIN['arch'], depths=[2, 2, 1, 2])), 64,
     r'first features\.5\.1\.norm1\.weight: they are those of a larger network'),
    (lambda: torchvision_swin(depths=(2, 2, 1, 2)), SWIN, 64,
     r'First missing: backbone\.stages\.2\.blocks\.1\.norm1\.weight'),
    (torchvision_swin, dict(SWIN, arch=dict(SWIN['arch'], embed_dims=16)), 128,
     r"projection\.weight \(8, 3, 4, 4\), expected \(16, 3, 4, 4\)\. Its names fit \(source 'torchvision_swin'\): it "
     'is of another size or configuration of SwinTransformer'),
    (lambda: torchvision_swin(window=4), SWIN, 64, r'bias_table \(49, 1\), expected \(9, 1\)\. Its names fit'),
    (torchvision_convnext, dict(CONVNEXT, arch=dict(depths=[1, 1, 1, 1], channels=[4, 6, 8, 10])), 10,
     r'first features\.3\.1\.block\.0\.weight: they are those of a larger network'),
    (torchvision_convnext, dict(CONVNEXT, arch=dict(depths=[1, 2, 1, 1], channels=[4, 6, 8, 12])), 12,
     r"Its names fit \(source 'torchvision_convnext'\)"),
    (lambda: torchvision_regnet('regnet_x_400mf'), dict(type='RegNet', arch='regnetx_400mf'), 384,
     r'layer4\.0\.downsample\.0\.weight \(400, 160, 1, 1\), expected \(384, 160, 1, 1\)\. Its names fit'),
    (distilled, VIT, 24, r'First unexpected: dist_token.*Its names fit'),
], ids=['deeper_file', 'deeper_model', 'wider', 'window', 'convnext_deeper_file', 'convnext_wider', 'regnet',
        'distilled'])
def test_a_file_of_another_size_is_one_message(tmp_path, build, backbone, channels, says):
    model, path = classifier(backbone, channels), save(tmp_path, build().state_dict())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=says):
        load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('value', [torch.ones(()), torch.ones(3, 5), torch.ones(3, 0)], ids=['number', 'odd', 'empty'])
def test_a_merging_of_a_wrong_shape_is_refused_for_that(tmp_path, value):
    state = torchvision_swin().state_dict() | {'features.2.reduction.weight': value}
    shape = re.escape(str(tuple(value.shape)))
    with pytest.raises(CheckpointError, match=rf'downsample\.reduction\.weight {shape}, expected \(16, 32\)'):
        load_weights(classifier(SWIN, 64), save(tmp_path, state))
