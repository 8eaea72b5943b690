"""LoRA: zero at the start, only it trains, merging changes nothing, and the network stays what it was."""

import copy
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.models import LoRALinear, apply_lora, build_classifier, load_weights, merge_lora

VIT = dict(type='VisionTransformer', img_size=32, patch_size=16,
           arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48))
SWIN = dict(type='SwinTransformer', pad_small_map=True, img_size=64,
            arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2]))
HEAD = dict(type='LinearClsHead', num_classes=5, in_channels=24)
GAP = dict(type='GlobalAveragePooling')


def build(seed=0, lora=True, backbone=VIT, **options):
    torch.manual_seed(seed)
    backbone = dict(type='LoRA', backbone=backbone, **options) if lora else backbone
    if 'Swin' in str(backbone):
        return build_classifier(dict(backbone=backbone, neck=GAP,
                                     head=dict(type='LinearClsHead', num_classes=5, in_channels=96))).eval()
    return build_classifier(dict(backbone=backbone, head=HEAD)).eval()


def images(size=32):
    torch.manual_seed(7)
    return torch.rand(2, 3, size, size)


def disturb(model):
    torch.manual_seed(5)
    for name, value in model.named_parameters():
        if 'lora_' in name:
            value.data += 0.3 * torch.randn_like(value)


def test_layer_is_its_equation():
    torch.manual_seed(0)
    layer = nn.Linear(5, 4)
    lora = LoRALinear(layer, rank=2, alpha=6.0)
    nn.init.normal_(lora.lora_up)
    x = torch.randn(3, 5)
    weight = layer.weight + 3.0 * lora.lora_up @ lora.lora_down
    torch.testing.assert_close(lora(x), x @ weight.T + layer.bias)
    assert lora.weight is layer.weight and lora.bias is layer.bias


@pytest.mark.parametrize('backbone, targets, size', [(VIT, ['qkv', 'ffn.layers.0.0'], 32), (SWIN, ['qkv', 'proj'], 64)])
def test_zero_at_the_start_and_merged_equals_unmerged(tmp_path, backbone, targets, size):
    plain = build(lora=False, backbone=backbone)
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    model = build(seed=1, backbone=backbone, rank=2, targets=targets)
    report = load_weights(model, tmp_path / 'plain.pth', min_matched=1.0)
    assert all('lora_' in name for name in report.missing) and not report.unexpected
    with torch.no_grad():
        assert torch.equal(model(images(size)), plain(images(size)))
        disturb(model)
        unmerged = model(images(size))
        assert not torch.allclose(unmerged, plain(images(size)), atol=1e-3)
        count = sum(isinstance(module, LoRALinear) for module in model.modules())
        assert merge_lora(model) == count > 0
        torch.testing.assert_close(model(images(size)), unmerged, rtol=1e-4, atol=1e-5)
    # Merged, it is a plain network again.
    assert set(model.state_dict()) == set(plain.state_dict())


def test_only_lora_and_head_train():
    model = build(rank=2, targets=['qkv', 'attn.proj'])
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):  # `lora_down` gets a gradient once `lora_up` has left zero.
        optimizer.zero_grad()
        model(images()).square().sum().backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    layers = [f'backbone.layers.{i}.attn.{name}' for i in range(2) for name in ('qkv', 'proj')]
    assert moved == {f'{layer}.{part}' for layer in layers for part in ('lora_down', 'lora_up')} | \
        {'head.fc.weight', 'head.fc.bias'}
    assert moved == {name for name, value in model.named_parameters() if value.requires_grad}


def test_initialisation_is_that_of_the_plain_network():
    plain, model = build(lora=False), build(rank=2)
    qkv = model.backbone.layers[0].attn.qkv
    assert not qkv.lora_up.any() and qkv.lora_down.any()
    fc = model.backbone.layers[0].ffn.layers[0][0].weight
    assert fc.std().item() == pytest.approx(plain.backbone.layers[0].ffn.layers[0][0].weight.std().item(), rel=0.1)
    init = dict(type='Constant', layer='Linear', val=0.25, bias=0.0)
    model = build_classifier(dict(backbone=dict(type='LoRA', backbone=VIT, rank=2), head=HEAD, init_cfg=init))
    qkv = model.backbone.layers[0].attn.qkv
    assert (qkv.weight == 0.25).all() and not qkv.lora_up.any() and (qkv.lora_down != 0.25).all()


def test_copy_state_dict_and_attributes():
    model = build(rank=2)
    disturb(model)
    teacher, other = copy.deepcopy(model), build(seed=3, rank=2)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(teacher(images()), model(images()))
        assert torch.equal(other(images()), model(images()))
    teacher.backbone.layers[0].attn.qkv.lora_up.data.zero_()
    assert model.backbone.layers[0].attn.qkv.lora_up.any()
    assert type(model.backbone).__name__ == 'VisionTransformer' and model.backbone.img_size == (32, 32)
    assert model.num_classes == 5


def test_adaptation_of_avalanche_leaves_it_alone():
    from avalanche.models.utils import avalanche_model_adaptation

    model = build(rank=2)
    before, logits = {name: value.clone() for name, value in model.state_dict().items()}, model(images())
    avalanche_model_adaptation(model, SimpleNamespace(classes_in_this_experience=[0, 1]))
    assert torch.equal(model(images()), logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.backbone.layers[0].attn.qkv.weight.requires_grad


def test_dropout_is_of_the_change_only():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    lora = LoRALinear(layer, rank=2, alpha=2.0, dropout=1.0)
    nn.init.normal_(lora.lora_up)
    x = torch.randn(3, 4)
    assert torch.equal(lora.train()(x), layer(x))
    assert not torch.allclose(lora.eval()(x), layer(x))


@pytest.mark.parametrize('targets', [['layers.0.*.qkv'], 'layers.0.attn.qkv', ['*.0.attn.qkv']])
def test_targets_by_pattern(targets):
    model = build(rank=2, targets=targets)
    changed = [name for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    assert changed == ['backbone.layers.0.attn.qkv']


@pytest.mark.parametrize('options, words', [
    (dict(targets=['qvk']), "target 'qvk' names no linear layer of VisionTransformer. Nearest: 'qkv'"),
    (dict(rank=0), 'rank is 0'), (dict(rank=25), r'rank is 25; for layers.0.attn.qkv \(24 -> 72\).* 1 and 24'),
    (dict(alpha=0), 'alpha is 0')])
def test_wrong_options(options, words):
    with pytest.raises(ConfigError, match=f'model.backbone: LoRA: {words}'):
        build(**options)


def test_a_layer_that_is_never_called_is_refused():
    beit = dict(VIT, type='BEiTViT')
    with pytest.raises(ConfigError, match='BEiTAttention reads the weight of layers.0.attn.qkv itself'):
        build(backbone=beit)
    torch_layer = nn.TransformerEncoderLayer(8, 2)
    with pytest.raises(ValueError, match="target 'out_proj' names no linear layer"):
        apply_lora(torch_layer, rank=2, targets=['out_proj'])


def test_batch_norm_in_the_frozen_network_is_pointed_out():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.warns(UserWarning, match='freeze_bn=True'):
        apply_lora(network, rank=2, targets=['0'])
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        apply_lora(nn.Sequential(nn.Linear(4, 4)), rank=2, targets=['0'])


def test_pretrained_weights_of_the_inner_network_are_refused():
    inner = dict(VIT, init_cfg=dict(type='Pretrained', checkpoint='vit.pth'))
    with pytest.raises(ConfigError, match=r"model.backbone.backbone.init_cfg: 'Pretrained'.*load_from='vit.pth'"):
        build(backbone=inner)
