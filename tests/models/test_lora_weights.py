"""LoRA on weights: against a by-hand change of the plain network, for every kind of layer it reaches."""

import copy

import pytest
import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.core.files import save_tensors
from clear.models import OpenCLIPImageEncoder, OpenCLIPTextEncoder, TimmEncoder, TorchvisionEncoder
from clear.models.adapters import add_lora, merged_copy

VIT = dict(embed_dim=16, vision_cfg=dict(layers=2, width=32, head_width=16, patch_size=8, image_size=32))
RESNET = dict(embed_dim=16, vision_cfg=dict(layers=(1, 1, 1, 1), width=8, image_size=64))
TEXT = dict(embed_dim=16, text_cfg=dict(width=32, heads=2, layers=2, context_length=16))
SMALL = dict(crop=64, resize=64)
BUILD = {
    'open_clip_vit': (lambda **more: OpenCLIPImageEncoder('ViT-B-32', model_args=VIT, **more), None,
                      ['attn.in_proj_weight', 'attn.out_proj.weight']),
    'attention_pool': (lambda **more: OpenCLIPImageEncoder('RN50', model_args=RESNET, **more), None,
                       [f'attnpool.{part}_proj.weight' for part in 'qkvc']),
    'one_by_one': (lambda **more: OpenCLIPImageEncoder('RN50', model_args=RESNET, **more), ['conv3', 'downsample.0'],
                   ['conv3.weight']),
    'timm': (lambda **more: TimmEncoder('test_vit', **more), ['qkv', 'mlp.fc1'], ['qkv.weight', 'fc1.weight']),
    'torchvision': (lambda **more: TorchvisionEncoder('mobilenet_v3_small', preprocess=SMALL, **more), None,
                    ['.weight']),
    'text': (lambda **more: OpenCLIPTextEncoder('ViT-B-32', model_args=TEXT, **more), None, ['attn.in_proj_weight']),
}


def inputs(tower):
    torch.manual_seed(3)
    if isinstance(tower, OpenCLIPTextEncoder):
        return ['a cat', 'two old dogs']
    return torch.randn(2, 3, tower.preprocess.crop, tower.preprocess.crop)


def randomise(tower):
    torch.manual_seed(4)
    for name, value in tower.named_parameters():
        if name.endswith('lora_up'):
            value.data.normal_(std=0.1)
    return tower


@pytest.mark.parametrize('name', BUILD)
def test_the_change_is_up_times_down_and_merging_keeps_it(name, tmp_path):
    build, targets, ends = BUILD[name]
    torch.manual_seed(0)
    plain = build()
    torch.manual_seed(0)
    tower = build(trainable=dict(lora=dict(rank=2, alpha=6, targets=targets)))
    batch = inputs(tower)
    torch.testing.assert_close(tower(batch), plain(batch), rtol=1e-4, atol=1e-5)  # `up` is zero at first
    randomise(tower)
    expected = copy.deepcopy(plain)
    names = dict(tower.model.named_parameters())
    changed = []
    for key, value in expected.model.named_parameters():
        owner, _, tensor = key.rpartition('.')
        up, down = names.get(f'{owner}.lora_up'), names.get(f'{owner}.lora_down')
        if up is None or tensor not in ('weight', 'in_proj_weight'):
            continue
        changed.append(key)
        with torch.no_grad():
            if tensor == 'in_proj_weight':
                width = value.shape[1]
                for row in range(3):  # query, key, value: a change of its own for each
                    value[row * width:(row + 1) * width] += 6 / 2 * up[row] @ down[row]
            else:
                value += (6 / 2 * up @ down).reshape(value.shape)
    assert all(any(key.endswith(end) for key in changed) for end in ends)
    torch.testing.assert_close(tower(batch), expected(batch), rtol=1e-4, atol=1e-5)
    assert (tower(batch) - plain(batch)).norm() > 1e-2 * plain(batch).norm() or name == 'one_by_one'  # its gains are 0
    # Under grad mode off torch's attention takes another path.
    with torch.no_grad():
        torch.testing.assert_close(tower(batch), expected(batch), rtol=1e-4, atol=1e-5)
    merged = merged_copy(tower.model)
    assert merged.state_dict().keys() == plain.model.state_dict().keys()
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.model.modules()]
    save_tensors(tmp_path / 'merged.pth', merged.state_dict())
    torch.testing.assert_close(build(weights=tmp_path / 'merged.pth')(batch), tower(batch), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tower(batch), expected(batch), rtol=1e-4, atol=1e-5)  # The copy only was merged.


@pytest.mark.parametrize('name', BUILD)
def test_only_the_change_trains(name):
    build, targets, _ = BUILD[name]
    tower = randomise(build(trainable=dict(lora=dict(rank=2, targets=targets))))
    trains = [key for key, value in tower.named_parameters() if value.requires_grad]
    assert trains and all(key.endswith(('lora_up', 'lora_down')) for key in trains)
    # Images: BatchNorm keeps still. Text: dropout acts.
    assert tower.train().model.training is (name == 'text')
    tower(inputs(tower)).square().sum().backward()
    assert all(tower.get_parameter(key).grad is not None for key in trains)
    assert any(tower.get_parameter(key).grad.abs().sum() > 0 for key in trains)
    assert all(value.grad is None for value in tower.parameters() if not value.requires_grad)
    again = copy.deepcopy(tower)
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again.eval()(inputs(tower)), tower.eval()(inputs(tower)))
    assert again.fingerprint() == tower.fingerprint() != build().fingerprint()


def test_told_otherwise_both_train():
    tower = OpenCLIPImageEncoder('ViT-B-32', model_args=VIT, trainable=dict(lora=dict(rank=2), locked=False))
    assert all(value.requires_grad for value in tower.parameters())
    tower = OpenCLIPImageEncoder('ViT-B-32', model_args=VIT, trainable=dict(lora=dict(rank=2), keywords='!ln_post'))
    trains = {key for key, value in tower.model.named_parameters() if value.requires_grad}
    assert {key for key in trains if 'lora' not in key} == {'ln_post.weight', 'ln_post.bias'}


def test_bad_input():
    vit = OpenCLIPImageEncoder('ViT-B-32', model_args=VIT)
    with pytest.raises(ConfigError, match="lora.targets: 'atn' names no weight.*Nearest: 'attn'"):
        add_lora(vit.model, targets='atn')
    with pytest.raises(ConfigError, match=r'lora.rank is 33; for transformer.resblocks.0.attn \(32 -> 32\) .* 32'):
        add_lora(vit.model, rank=33)
    with pytest.raises(ConfigError, match='trainable.lora must be a dict'):
        vit.set_trainable(dict(lora=8))
    with pytest.raises(ConfigError, match='trainable.lora: .*ranc'):
        vit.set_trainable(dict(lora=dict(ranc=8)))
    with pytest.raises(ConfigError, match='has no LoRA to merge'):
        merged_copy(vit.model)
    add_lora(vit.model, rank=2)
    with pytest.raises(ConfigError, match='attn has one already'):
        add_lora(vit.model, rank=2)
    with pytest.raises(ConfigError, match='LoRA: Sequential has no linear layer, no attention and no convolution of'):
        add_lora(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
