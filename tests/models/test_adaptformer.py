"""Adapters in a Vision Transformer: nothing changes at the start, only they train, weights of the plain network fit."""

import copy

import pytest
import torch
from mmengine import Config
from torch import nn

from clear.core.errors import CheckpointError
from clear.models import build_classifier, freeze, load_weights
from clear.models.backbones.adaptformer import Adapter

ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)
PLAIN = dict(type='VisionTransformer', arch=ARCH, img_size=32, patch_size=16)
HEAD = dict(type='LinearClsHead', num_classes=5, in_channels=24)
RECIPE = 'configs/_base_/models/adaptformer_base_p16.py'


def build(seed=0, **options):
    torch.manual_seed(seed)
    kind = options.pop('type', 'AdaptFormer')
    return build_classifier(dict(backbone=dict(PLAIN, type=kind, **options), head=HEAD)).eval()


@pytest.fixture
def images():
    torch.manual_seed(7)
    return torch.rand(2, 3, 32, 32)


@pytest.fixture
def plain():
    """A plain network whose biases and norms are not zeros and ones, so that each of them counts."""
    model = build(type='VisionTransformer')
    torch.manual_seed(3)
    for value in model.parameters():
        value.data += 0.1 * torch.randn_like(value)
    return model


def disturb(model):
    torch.manual_seed(5)
    for name, value in model.named_parameters():
        if '.adapter.' in name:
            value.data += 0.3 * torch.randn_like(value)


@pytest.mark.parametrize('options', [{}, dict(place='sequential'), dict(layer_norm='in'), dict(learn_scale=True),
                                     dict(bottleneck=3)])
def test_pretrained_network_is_unchanged_at_the_start(plain, images, tmp_path, options):
    torch.save(plain.state_dict(), tmp_path / 'plain.pth')
    adapted = build(seed=1, **options)
    report = load_weights(adapted, tmp_path / 'plain.pth', min_matched=1.0)
    assert report.missing and all('.adapter.' in name for name in report.missing)
    assert not report.unexpected
    with torch.no_grad():
        # The order of additions differs between the two, hence not bit for bit.
        torch.testing.assert_close(adapted(images), plain(images), rtol=1e-5, atol=1e-6)
        disturb(adapted)
        assert not torch.allclose(adapted(images), plain(images), atol=1e-3)


def by_hand(adapted, images, place, layer_norm):
    """The network's equation, block by block, from its tensors."""
    backbone = adapted.backbone
    x = backbone.patch_embed(images)[0]
    x = torch.cat([backbone.cls_token.expand(len(x), -1, -1), x], dim=1) + backbone.pos_embed
    for layer in backbone.layers:
        attended = x + layer.attn(layer.ln1(x))
        hidden = nn.functional.gelu(nn.functional.linear(layer.ln2(attended), layer.ffn.layers[0][0].weight,
                                                         layer.ffn.layers[0][0].bias))
        change = nn.functional.linear(hidden, layer.ffn.layers[1].weight, layer.ffn.layers[1].bias)
        a = layer.adapter
        norm = lambda t: nn.functional.layer_norm(t, (24,), a.norm.weight, a.norm.bias)  # noqa: E731, B023
        given = attended if place == 'parallel' else change
        given = norm(given) if layer_norm == 'in' else given
        extra = (given @ a.down.weight.T + a.down.bias).clamp(min=0) @ a.up.weight.T + a.up.bias
        extra = extra * float(a.scale)
        x = attended + change + (norm(extra) if layer_norm == 'out' else extra)
    return adapted.head((backbone.ln1(x)[:, 0],))


@pytest.mark.parametrize('place', ['parallel', 'sequential'])
@pytest.mark.parametrize('layer_norm', [None, 'in', 'out'])
@pytest.mark.parametrize('learn_scale', [False, True])
def test_output_is_the_equation(images, place, layer_norm, learn_scale):
    model = build(place=place, layer_norm=layer_norm, learn_scale=learn_scale, scale=0.4)
    disturb(model)
    with torch.no_grad():
        torch.testing.assert_close(model(images), by_hand(model, images, place, layer_norm), rtol=1e-5, atol=1e-6)


def test_legacy_is_the_equation_of_the_demo_and_disturbs(images):
    model = build(legacy=True)
    adapter = model.backbone.layers[0].adapter
    assert adapter.scale.item() == 1 and adapter.scale.requires_grad
    assert adapter.dropout.p == 0 and adapter.down.out_features == 64
    with torch.no_grad():
        torch.testing.assert_close(model(images), by_hand(model, images, 'parallel', 'out'), rtol=1e-5, atol=1e-6)
        tokens = torch.randn(4, 24)
        assert adapter(tokens).abs().mean() > 0.1  # not zero at the start
        before = adapter(tokens)
        adapter.scale.fill_(10.0)  # LayerNorm cancels the scale, but for its eps.
        torch.testing.assert_close(adapter(tokens), before, rtol=1e-2, atol=1e-2)


def test_published_defaults():
    adapter = build().backbone.layers[0].adapter
    assert (adapter.scale, adapter.dropout.p, adapter.down.out_features, adapter.layer_norm) == (0.1, 0.1, 64, None)
    assert not adapter.up.weight.any() and not adapter.up.bias.any() and adapter.down.weight.any()


def test_initialisation_of_the_model_leaves_the_zeros():
    init = dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.5)
    model = build_classifier(dict(backbone=dict(PLAIN, type='AdaptFormer'), head=HEAD, init_cfg=init))
    assert not model.backbone.layers[1].adapter.up.weight.any()
    assert not model.backbone.layers[1].adapter.down.bias.any()


def test_patterns_of_the_recipe_leave_adapters_and_head(images):
    model = build(num_prompts=2)
    frozen = Config.fromfile(RECIPE).frozen
    freeze(model, frozen)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(2):  # `down` gets a gradient once `up` has left zero.
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {name for name, _ in model.named_parameters()
                if '.adapter.' in name or name.endswith('.prompts') or name.startswith('head.')}
    assert moved == expected
    assert {name for name, value in model.named_parameters() if value.requires_grad} == expected


def test_prompts_are_seen_by_a_block_and_then_taken_off(images):
    model = build(num_prompts=2)
    layer, tokens = model.backbone.layers[0], torch.randn(2, 5, 24)
    assert layer.prompts.shape == (1, 2, 24)
    with torch.no_grad():
        longer = torch.cat([layer.prompts.expand(2, -1, -1), tokens], dim=1)
        torch.testing.assert_close(layer(tokens), layer._block(longer)[:, 2:])
        assert not torch.allclose(layer(tokens), layer._block(tokens), atol=1e-4)
    assert model(images).shape == (2, 5)
    model(images).sum().backward()
    assert layer.prompts.grad.any()


def test_copy_and_state_dict(images):
    model = build(learn_scale=True, num_prompts=1)
    disturb(model)
    teacher = copy.deepcopy(model)
    other = build(seed=2, learn_scale=True, num_prompts=1)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(teacher(images), model(images))
        assert torch.equal(other(images), model(images))


def test_a_foreign_file_is_refused_still(tmp_path):
    torch.save({'backbone.cls_token': torch.zeros(1, 1, 24)}, tmp_path / 'other.pth')
    with pytest.raises(CheckpointError, match='First missing: backbone.pos_embed'):
        load_weights(build(), tmp_path / 'other.pth')


@pytest.mark.parametrize('options, words', [
    (dict(layer_norm='both'), "layer_norm is 'both'"), (dict(place='before'), "place is 'before'"),
    (dict(init='bert'), "init is 'bert'"), (dict(bottleneck=0), 'bottleneck is 0'),
    (dict(num_prompts=-1), 'num_prompts is -1'), (dict(legacy=True, scale=0.5), 'legacy=True fixes scale'),
    (dict(legacy=True, num_prompts=2), 'legacy=True fixes num_prompts')])
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_adapter_works_alone():
    adapter = Adapter(6, bottleneck=2, dropout=0.0)
    x = torch.randn(3, 6, requires_grad=True)
    assert not adapter(x).any()
    assert sorted(adapter.added_tensors) == ['down.bias', 'down.weight', 'up.bias', 'up.weight']
