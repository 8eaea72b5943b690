"""The one rule that takes a classifier off, over the families of three libraries, with random weights."""

import pytest
import torch
from torch import nn
from torchvision import models

from clear.models.towers.image import MMPretrainEncoder, TimmEncoder
from clear.models.towers.image.strip import fitting_images, strip_classifier
from clear.models.towers.image.torchvision import build_torchvision

ALL = models.list_models(module=models)
# One of every file of torchvision.models.
QUICK = ['alexnet', 'convnext_tiny', 'densenet121', 'efficientnet_b0', 'efficientnet_v2_s', 'googlenet', 'inception_v3',
         'maxvit_t', 'mnasnet0_5', 'mobilenet_v2', 'mobilenet_v3_small', 'regnet_x_400mf', 'resnet18',
         'shufflenet_v2_x0_5', 'squeezenet1_1', 'swin_t', 'swin_v2_t', 'vgg11', 'vit_b_32']


def last_layer(model):
    """torchvision registers the classifier last in every model; the rule under test does not know that."""
    return [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]


def test_the_quick_list_has_every_family():
    assert {models.get_model_builder(name).__module__ for name in ALL} == \
        {models.get_model_builder(name).__module__ for name in QUICK}
    assert len(ALL) >= 80


@torch.no_grad()
@pytest.mark.parametrize('arch', [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                                  for name in ALL])
def test_classifier_of_embedding_is_the_logits(arch):
    torch.manual_seed(0)
    model = build_torchvision(arch).eval()
    size = getattr(model, 'image_size', 299 if arch == 'inception_v3' else 224)
    size = 256 if arch.startswith('swin_v2') else size
    images, classifier = fitting_images(model, size), last_layer(model)
    if not classifier.weight.any():  # torchvision's vision transformers start with a classifier of zeros
        nn.init.normal_(classifier.weight)
    logits = model(images)
    stripped = strip_classifier(model, size)
    embedding = model(images)
    assert embedding.shape == (1, stripped.embed_dim)
    assert len(stripped.removed) == 1
    if isinstance(classifier, nn.Linear):
        assert stripped.embed_dim == classifier.in_features
        torch.testing.assert_close(classifier(embedding), logits)
    else:  # SqueezeNet classifies every cell, rectifies, then averages
        maps = model.features(images)
        torch.testing.assert_close(classifier(maps).relu().mean((2, 3)), logits)
        torch.testing.assert_close(embedding, maps.relu().mean((2, 3)))




# One model of every file of timm.models that has a small one.
TIMM = {
    'beit': 'beit_base_patch16_224', 'byoanet': 'halonet26t', 'byobnet': 'test_byobnet', 'cait': 'cait_xxs24_224',
    'coat': 'coat_tiny', 'convit': 'convit_tiny', 'convmixer': 'convmixer_768_32', 'convnext': 'test_convnext',
    'cpubone': 'cpubone_nano', 'crossvit': 'crossvit_tiny_240', 'csatv2': 'csatv2', 'cspnet': 'cs3darknet_s',
    'cspnext': 'cspnext_tiny', 'davit': 'davit_tiny', 'deit': 'deit_tiny_distilled_patch16_224',
    'densenet': 'densenet121', 'dla': 'dla34', 'dpn': 'dpn48b', 'edgenext': 'edgenext_xx_small',
    'efficientformer': 'efficientformer_l1', 'efficientformer_v2': 'efficientformerv2_s0',
    'efficientnet': 'test_efficientnet', 'efficientvim': 'efficientvim_m1', 'efficientvit_mit': 'efficientvit_b0',
    'efficientvit_msra': 'efficientvit_m0', 'eva': 'eva02_tiny_patch14_224', 'fasternet': 'fasternet_t0',
    'fastvit': 'fastvit_t8', 'focalnet': 'focalnet_tiny_srf', 'gcvit': 'gcvit_xxtiny', 'ghostnet': 'ghostnet_050',
    'hardcorenas': 'hardcorenas_a', 'hgnet': 'hgnet_tiny', 'hiera': 'hiera_tiny_224',
    'hieradet_sam2': 'sam2_hiera_tiny', 'hrnet': 'hrnet_w18_small', 'iformer': 'iformer_t',
    'inception_next': 'inception_next_atto', 'inception_resnet_v2': 'inception_resnet_v2',
    'inception_v3': 'inception_v3', 'inception_v4': 'inception_v4', 'lcnetv2': 'lcnetv2_small',
    'levit': 'levit_128s', 'lowformer': 'lowformer_b0', 'mambaout': 'test_mambaout', 'maxxvit': 'test_maxvit',
    'metaformer': 'caformer_s18', 'mlp_mixer': 'gmlp_ti16_224', 'mobilenetv3': 'mobilenetv3_small_050',
    'mobilevit': 'mobilevit_xxs', 'mvitv2': 'mvitv2_tiny', 'naflexvit': 'naflexvit_base_patch16_gap',
    'nasnet': 'nasnetalarge', 'nest': 'nest_tiny', 'nextvit': 'nextvit_small', 'nfnet': 'test_nfnet',
    'pit': 'pit_ti_distilled_224', 'pnasnet': 'pnasnet5large', 'pvt_v2': 'pvt_v2_b0', 'rdnet': 'rdnet_tiny',
    'regnet': 'regnetx_002', 'repghost': 'repghostnet_050', 'repvit': 'repvit_m0_9', 'res2net': 'res2net50_14w_8s',
    'resnest': 'resnest14d', 'resnet': 'test_resnet', 'resnetv2': 'resnetv2_18', 'rexnet': 'rexnet_100',
    'selecsls': 'selecsls42b', 'senet': 'legacy_seresnet18', 'sequencer': 'sequencer2d_s', 'shvit': 'shvit_s1',
    'sknet': 'skresnet18', 'starnet': 'starnet_s050', 'swiftformer': 'swiftformer_xs',
    'swin_transformer': 'swin_tiny_patch4_window7_224', 'swin_transformer_v2': 'swinv2_tiny_window8_256',
    'swin_transformer_v2_cr': 'swinv2_cr_tiny_224', 'tiny_vit': 'tiny_vit_5m_224', 'tnt': 'tnt_s_legacy_patch16_224',
    'tresnet': 'tresnet_m', 'twins': 'twins_svt_small', 'vgg': 'vgg11', 'visformer': 'visformer_tiny',
    'vision_transformer': 'test_vit', 'vision_transformer_hybrid': 'vit_tiny_r_s16_p8_224',
    'vision_transformer_relpos': 'vit_relpos_small_patch16_224',
    'vision_transformer_sam': 'samvit_base_patch16_224', 'vitamin': 'vitamin_small_224', 'volo': 'volo_d1_224',
    'vovnet': 'vovnet39a', 'xception': 'legacy_xception', 'xception_aligned': 'xception41',
    'xcit': 'xcit_nano_12_p16_224',
}
# Towers of language models and one of 300 million parameters: no small member.
TIMM_LARGE = {'deepseek_vit', 'gemma4_vit', 'qwen3_vit', 'mobilenetv5'}
# timm's own way takes off CAFormer's wide layer, too, does not weigh the branches of EfficientViM, and drops VOLO's
# second classifier, whose largest value the network adds to the class token.
DIFFERENT = {'caformer_s18': (2048, 512), 'efficientvim_m1': (960, 960), 'volo_d1_224': (384, 384)}
TIMM_QUICK = {'test_byobnet', 'test_convnext', 'test_efficientnet', 'test_maxvit', 'test_resnet', 'test_vit',
              'test_nfnet', 'test_mambaout', 'levit_128s', 'efficientvit_m0', 'ghostnet_050', 'cs3darknet_s'}


@pytest.mark.slow
def test_the_list_has_every_file_of_timm():
    import timm  # noqa: F401
    from timm.models._registry import _module_to_models

    files = {name for name in _module_to_models if any('.' not in model for model in _module_to_models[name])}
    assert files - TIMM_LARGE == set(TIMM)
    assert all(arch in _module_to_models[file] for file, arch in TIMM.items())


@pytest.mark.parametrize('arch', [arch if arch in TIMM_QUICK else pytest.param(arch, marks=pytest.mark.slow)
                                  for arch in TIMM.values()])
def test_the_rule_equals_timms_own_way(arch):
    import timm

    torch.manual_seed(0)
    encoder = TimmEncoder(arch)
    own = timm.create_model(arch).eval()
    own.reset_classifier(0)
    images = fitting_images(own, encoder.preprocess.crop)
    with torch.no_grad():
        # Names of what is left are the same: the weights go over.
        unmatched = own.load_state_dict(encoder.model.state_dict(), strict=False)
        if arch in DIFFERENT:
            assert (encoder(images).shape[1], own(images).shape[1]) == DIFFERENT[arch]
            return
        torch.testing.assert_close(encoder(images), own(images), rtol=1e-3, atol=1e-4)
    assert not unmatched.missing_keys


@pytest.mark.slow
@pytest.mark.parametrize(('arch', 'width'), [
    ('resnet18_8xb16_cifar10', 512), ('mobilenet-v3-small-050_3rdparty_in1k', 1024), ('levit-128s_3rdparty_in1k', 384),
    ('conformer-tiny-p16_3rdparty_in1k', 640), ('deit-tiny-distilled_3rdparty_in1k', 192),
])
def test_named_models_of_mmpretrain(arch, width):
    encoder = MMPretrainEncoder(arch=arch)
    size = encoder.preprocess.crop
    assert encoder(torch.rand(1, 3, size, size)).shape == (1, encoder.embed_dim) == (1, width)


# One configuration of every file of mmpretrain's backbones that gives maps or a class token.
BACKBONES = [
    dict(type='AlexNet'), dict(type='BEiTViT', arch='base', out_type='avg_featmap'),
    dict(type='ConvMixer', arch='768/32'), dict(type='ConvNeXt', arch='atto'), dict(type='CSPResNet', depth=50),
    dict(type='CSPDarkNet', depth=53), dict(type='DaViT', arch='tiny'), dict(type='DeiT3', arch='small'),
    dict(type='DenseNet', arch='121'), dict(type='EdgeNeXt', arch='xxsmall'), dict(type='EfficientNet', arch='b0'),
    dict(type='EfficientNetV2', arch='b0'), dict(type='HiViT', arch='tiny'), dict(type='HorNet', arch='tiny'),
    dict(type='HRNet', arch='w18'), dict(type='InceptionV3', num_classes=0), dict(type='LeViT', arch='128s'),
    dict(type='MixMIMTransformer', arch='base'), dict(type='MlpMixer', arch='base'), dict(type='MobileNetV2'),
    dict(type='MobileNetV3', arch='small'), dict(type='MobileOne', arch='s0'), dict(type='MobileViT', arch='xx_small'),
    dict(type='MViT', arch='tiny'), dict(type='PCPVT', arch='small'), dict(type='PoolFormer', arch='s12'),
    dict(type='RegNet', arch='regnetx_400mf'), dict(type='RepLKNet', arch='31B'),
    dict(type='RepMLPNet', arch='B', img_size=224), dict(type='RepVGG', arch='A0'), dict(type='Res2Net', depth=50),
    dict(type='ResNeSt', depth=50), dict(type='ResNet', depth=18), dict(type='ResNet_CIFAR', depth=18),
    dict(type='ResNeXt', depth=50), dict(type='RIFormer', arch='s12'), dict(type='SEResNet', depth=50),
    dict(type='ShuffleNetV1'), dict(type='ShuffleNetV2'), dict(type='SVT', arch='small'),
    dict(type='SwinTransformer', arch='tiny'), dict(type='SwinTransformerV2', arch='tiny', pad_small_map=True),
    dict(type='T2T_ViT'),
    dict(type='TinyViT', arch='5m'), dict(type='TNT', arch='s'), dict(type='VAN', arch='tiny'),
    dict(type='VGG', depth=11), dict(type='Vig', arch='tiny'), dict(type='PyramidVig', arch='tiny'),
    dict(type='VisionTransformer', arch='deit-tiny'), dict(type='ViTEVA02', arch='tiny', img_size=224),
    dict(type='ViTSAM', arch='base', img_size=224, out_channels=0), dict(type='XCiT', patch_size=16, embed_dims=128,
                                                                           depth=2, num_heads=4, mlp_ratio=4),
]


@pytest.mark.slow
@pytest.mark.parametrize('backbone', BACKBONES, ids=lambda cfg: cfg['type'])
def test_backbones_of_mmpretrain(backbone):
    # A mixer gives tokens and no class token: a neck must say how they become one vector.
    neck = dict(type='GlobalAveragePooling', dim=1) if backbone['type'] == 'MlpMixer' else None
    encoder = MMPretrainEncoder(backbone=backbone, neck=neck)
    images = torch.rand(2, 3, encoder.preprocess.crop, encoder.preprocess.crop)
    features = encoder(images)
    assert features.shape == (2, encoder.embed_dim) and features.isfinite().all()
    outputs = encoder.model(images)
    while isinstance(outputs, (tuple, list)):
        outputs = outputs[-1]
    by_hand = torch.stack([value.reshape(len(value), -1).mean(1) if value.ndim == 3 else value for value in outputs])
    torch.testing.assert_close(features, by_hand)
