"""Every model recipe builds, and its parts fit: a quick look at all of them, six for real, the rest when slow."""

import functools
import math
import re
from collections import Counter

import pytest
import torch
from doc_pages import ROOT, names_in, table
from mmengine import Config
from torch import nn
from torch.overrides import TorchFunctionMode

from clear.core.config import configs_folder
from clear.core.configs.signatures import accepted_arguments, check_keys
from clear.models import FAN, LoRALinear, build_classifier, freeze
from clear.registry import MODELS

FILES = {path.stem: path for path in sorted((configs_folder() / '_base_' / 'models').glob('*.py'))}
# How many recipes each backbone has; those of the earlier repository, but for the last three.
FAMILIES = {
    'Conformer': 4, 'ConvMixer': 3, 'ConvNeXt': 5, 'EfficientNet': 11, 'HRNet': 7, 'MlpMixer': 2, 'MobileNetV2': 1,
    'MobileNetV3': 3, 'PoolFormer': 5, 'RegNet': 8, 'RepMLPNet': 1, 'RepVGG': 2, 'Res2Net': 6, 'ResNeSt': 4,
    'ResNet': 10, 'ResNetV1c': 1, 'ResNetV1d': 3, 'ResNet_CIFAR': 7, 'ResNeXt': 4, 'SEResNet': 2, 'SEResNeXt': 2,
    'ShuffleNetV1': 1, 'ShuffleNetV2': 1, 'SwinTransformer': 6, 'T2T_ViT': 3, 'TNT': 1, 'PCPVT': 1, 'SVT': 1, 'VGG': 8,
    'VisionTransformer': 4, 'AdaptFormer': 4, 'FAN': 5, 'LoRA': 3}
# By the text: reading 127 configs takes seconds, which every run of the tests would pay for when it collects them.
TYPES = {name: re.search(r"backbone=dict\(\s*type='(\w+)'", path.read_text()) for name, path in FILES.items()}
OURS = {name: FILES[name] for name, match in TYPES.items() if match and match[1] in FAMILIES}
SMALL = ('efficientnet_b0', 'mobilenet_v3_small_cifar', 'shufflenet_v2', 'resnet18_cifar', 'lora_deit_tiny_p16',
         'adaptformer_deit_tiny_p16')
# Their convolutions in groups, or tables that are made on the CPU, do not run without values.
NEED_VALUES = re.compile('mobilenet|shufflenet|t2t')
# The same network in torchvision, which publishes its number of parameters.
PEERS = {
    'resnet34': 'resnet34', 'resnet101': 'resnet101', 'resnet152': 'resnet152', 'wide_resnet50': 'wide_resnet50_2',
    'resnext50_32x4d': 'resnext50_32x4d', 'resnext101_32x8d': 'resnext101_32x8d', 'vgg11': 'vgg11', 'vgg13': 'vgg13',
    'vgg16': 'vgg16', 'vgg19': 'vgg19', 'vgg11_bn': 'vgg11_bn', 'vgg13_bn': 'vgg13_bn', 'vgg16_bn': 'vgg16_bn',
    'vgg19_bn': 'vgg19_bn', 'mobilenet_v2': 'mobilenet_v2', 'mobilenet_v3_large': 'mobilenet_v3_large',
    'mobilenet_v3_small': 'mobilenet_v3_small', 'shufflenet_v2': 'shufflenet_v2_x1_0', 'convnext_tiny': 'convnext_tiny',
    'convnext_small': 'convnext_small', 'convnext_base': 'convnext_base', 'convnext_large': 'convnext_large',
    'swin_tiny_224': 'swin_t', 'swin_small_224': 'swin_s', 'swin_base_224': 'swin_b', 'vit_base_p16': 'vit_b_16',
    'vit_base_p32': 'vit_b_32', 'vit_large_p16': 'vit_l_16', 'vit_large_p32': 'vit_l_32',
    **{f'efficientnet_b{i}': f'efficientnet_b{i}' for i in range(8)}}


class WithoutValues(TorchFunctionMode):
    """Let models be built on the meta device: rates of stochastic depth are read as numbers, means are logged."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs['device'] = 'cpu'
        if func is torch.Tensor.cpu and args[0].is_meta:
            return torch.zeros(args[0].shape, device='cpu')
        return func(*args, **kwargs)


@functools.cache
def recipe(name):
    return Config.fromfile(str(OURS[name])).to_dict()


def image_size(backbone):
    own = 32 if 'CIFAR' in backbone['type'] else 224
    return backbone.get('img_size') or backbone.get('backbone', {}).get('img_size') or own


def num_classes(model):
    return model['head']['num_classes'] if 'head' in model else model['backbone']['num_classes']


def test_number_of_recipes():
    backbones = [recipe(name)['model']['backbone']['type'] for name in OURS]
    assert Counter(backbones) == FAMILIES
    assert sum(FAMILIES.values()) - 12 == 117


@pytest.mark.parametrize('name', OURS)
def test_recipe_is_short_and_its_keys_are_known(name):
    text = OURS[name].read_text()
    assert text.startswith('# ') and len(text.splitlines()) <= 12
    assert re.search(r'arXiv:\d{4}\.\d{4,5}|of the earlier demo', text)
    assert all(len(line) <= 120 for line in text.splitlines())
    config = recipe(name)
    assert set(config) <= {'model', 'frozen'}
    assert set(config['model']) <= {'backbone', 'neck', 'head', 'init_cfg'}
    necks = config['model'].get('neck', [])
    for part in [config['model']['backbone'], config['model'].get('head'), *([necks] if necks else [])]:
        for one in part if isinstance(part, list) else [part] if part else []:
            check_keys(name, set(one) - {'type'}, accepted_arguments(MODELS.require(one['type'])), one['type'])
    # Image networks are published with ImageNet's or CIFAR's classes; two are set up for CLEAR-10.
    expected = 11 if name in ('resnet18', 'resnet50') else 10 if 'cifar' in name else 1000
    assert num_classes(config['model']) == expected


def test_documentation_lists_every_recipe():
    listed = [name for row in table(ROOT / 'docs' / 'models.md', 'family') for name in names_in(row[1])]
    assert sorted(listed) == sorted(FILES)


def test_documented_sizes_of_fan_are_those_of_the_code():
    for arch, width, blocks, heads, millions in table(ROOT / 'docs' / 'models.md', '`arch`'):
        with torch.device('meta'):
            model = FAN(arch.strip("`'"))
        count = sum(value.numel() for value in model.parameters()) + 1000 * (model.embed_dims + 1)
        found = (model.embed_dims, len(model.blocks), model.blocks[0].attn.num_heads, f'{count / 1e6:.1f} M')
        assert found == (int(width), int(blocks), int(heads), millions)


def check(model, name, images):
    model.train()
    freeze(model, recipe(name).get('frozen', []))
    model.eval()
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (len(images), num_classes(recipe(name)['model']))
    return logits


@pytest.mark.parametrize('name', SMALL)
def test_small_recipe_trains(name):
    torch.manual_seed(0)
    config = recipe(name)
    model = build_classifier(config['model'])
    size = 224 if 'deit' in name else 64
    logits = check(model, name, torch.rand(2, 3, size, size))
    assert logits.isfinite().all()
    trainable = sum(value.numel() for value in model.parameters() if value.requires_grad)
    total = sum(value.numel() for value in model.parameters())
    if 'deit' in name:
        # DeiT-tiny has 5.5 M without its head; adapters of width 64: 12 x (2 x 192 x 64 + 64 + 192); LoRA of rank 8:
        # 12 x 8 x (192 + 576). The head has 192 x 1000 + 1000.
        added = 12 * 8 * (192 + 576) if 'lora' in name else 12 * (2 * 192 * 64 + 64 + 192)
        assert trainable == added + 193000
        assert any(isinstance(module, LoRALinear) for module in model.modules()) == ('lora' in name)
    else:
        assert trainable == total
    model.train()
    model(torch.rand(2, 3, size, size)).square().mean().backward()
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)


@pytest.fixture
def no_bookkeeping(monkeypatch):
    """mmengine compares all parameters after each module's initialisation, for a log that nobody reads."""
    monkeypatch.setattr('mmengine.model.weight_init.update_init_info', lambda module, init_info: None)
    monkeypatch.setattr('mmengine.model.base_module.update_init_info', lambda module, init_info: None)


@pytest.mark.slow
@pytest.mark.parametrize('name', OURS)
def test_recipe_builds_and_its_parts_fit(name, no_bookkeeping):
    config = recipe(name)['model']
    size = image_size(config['backbone'])
    if NEED_VALUES.search(name):
        model = build_classifier(config)
        assert check(model, name, torch.rand(2, 3, size, size)).isfinite().all()
    else:
        with torch.device('meta'), WithoutValues():
            model = build_classifier(config)
            check(model, name, torch.rand(2, 3, size, size))
    if name in PEERS:
        from torchvision import models

        published = models.get_model_weights(PEERS[name]).DEFAULT.meta['num_params']
        assert sum(value.numel() for value in model.parameters()) == published


@pytest.mark.slow
@pytest.mark.parametrize('name', ['resnet50_cifar', 'convnext_tiny', 'swin_tiny_224', 'hrnet_w18', 'poolformer_s12',
                                  'conformer_tiny_p16', 'fan_tiny', 'adaptformer_deit_tiny_p16', 'vgg11'])
def test_recipe_on_real_images_has_a_sensible_loss(name):
    """Initialisation included: the loss of an untrained network is near ln(classes)."""
    torch.manual_seed(0)
    config = recipe(name)['model']
    model = build_classifier(config).train()  # by batch statistics: the running ones are of no batch yet
    size = image_size(config['backbone'])
    with torch.no_grad():
        logits = model(torch.rand(2, 3, size, size))
    classes = num_classes(config)
    assert nn.functional.cross_entropy(logits, torch.tensor([0, 1])).item() == pytest.approx(math.log(classes), rel=0.2)
