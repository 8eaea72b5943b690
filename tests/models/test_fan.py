"""FAN: published sizes, and its parts against loops."""

import copy

import pytest
import torch
from torch import nn

from clear.models import FAN, build_classifier
from clear.models.backbones.fan import ChannelProcessing, ClassAttention, FourierPositions, TokenAttention

TINY = dict(embed_dims=16, num_layers=2, num_heads=2)


# Millions, with a head of 1000 classes, as the README of github.com/NVlabs/FAN prints them.
@pytest.mark.parametrize('arch, millions', [('tiny', 7.3), ('small', 28.0), ('base', 54.0), ('large', 80.5)])
def test_number_of_parameters(arch, millions):
    with torch.device('meta'):
        model = FAN(arch)
    count = sum(value.numel() for value in model.parameters()) + (model.embed_dims + 1) * 1000
    assert count / 1e6 == pytest.approx(millions, rel=0.02)


def test_xlarge_is_the_largest():
    with torch.device('meta'):
        large, xlarge = FAN('large'), FAN('xlarge')
    assert (len(xlarge.blocks), xlarge.embed_dims) == (24, 528)
    assert sum(value.numel() for value in xlarge.parameters()) > sum(value.numel() for value in large.parameters())


@pytest.mark.parametrize('size', [(32, 32), (48, 32), (16, 16)])
def test_any_image_size(size):
    torch.manual_seed(0)
    model = FAN(TINY)
    model.patch_embed.eval()  # BatchNorm needs more than one cell to train on.
    feats = model(torch.rand(2, 3, *size))
    assert isinstance(feats, tuple) and feats[0].shape == (2, 16)
    feats[0].square().sum().backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


def test_channel_processing_matches_loops():
    torch.manual_seed(0)
    part = ChannelProcessing(dim=6, hidden_dim=8, num_heads=2, qkv_bias=True, drop_rate=0.0).eval()
    part.temperature.data = torch.tensor([[0.5], [2.0]])
    x = torch.randn(2, 4, 6)
    q = part.q(x)
    values = part.mlp(x, (2, 2))
    out = part(x, (2, 2))
    for n in range(2):
        for c in range(6):
            head = c // 3
            pooled = [sum(x[n, :, k].softmax(0)[token] for k in range(3 * head, 3 * head + 3)) / 3
                      for token in range(4)]
            attention = sum(q[n, :, c].softmax(0)[token] * pooled[token] for token in range(4))
            gate = part.temperature[head, 0] * torch.sigmoid(attention)
            torch.testing.assert_close(out[n, :, c], gate * values[n, :, c])


def test_mlp_convolves_over_the_map():
    torch.manual_seed(0)
    part = ChannelProcessing(dim=4, hidden_dim=3, num_heads=1, qkv_bias=True, drop_rate=0.0).mlp
    x = torch.randn(1, 6, 4)  # a map of 2 x 3
    hidden = part.fc1(x).reshape(1, 2, 3, 3).permute(0, 3, 1, 2)
    hidden = part.conv(hidden).permute(0, 2, 3, 1).reshape(1, 6, 3)
    torch.testing.assert_close(part(x, (2, 3)), part.fc2(nn.functional.gelu(hidden)))


@pytest.mark.parametrize('kind', [TokenAttention, ClassAttention])
def test_attention_matches_torch(kind):
    torch.manual_seed(0)
    part = kind(8, num_heads=2, qkv_bias=True, attn_drop_rate=0.0, drop_rate=0.0)
    peer = nn.MultiheadAttention(8, 2, batch_first=True)
    peer.in_proj_weight, peer.in_proj_bias = part.qkv.weight, part.qkv.bias
    peer.out_proj = part.proj
    x = torch.randn(3, 5, 8)
    query = x[:, :1] if kind is ClassAttention else x
    torch.testing.assert_close(part(x), peer(query, x, x)[0], rtol=1e-5, atol=1e-6)


def test_positions_tell_cells_apart_and_follow_rows_and_columns():
    torch.manual_seed(0)
    encoding = FourierPositions(embed_dim=12)
    code = encoding(3, 4)
    assert code.shape == (1, 12, 3, 4)
    cells = code.flatten(2)[0].T
    assert torch.cdist(cells, cells).add(torch.eye(12)).min() > 1e-3
    # A row's share of the code is the same in each column: differences between rows do not depend on the column.
    torch.testing.assert_close(code[..., 0, 0] - code[..., 1, 0], code[..., 0, 3] - code[..., 1, 3])


def test_options_have_an_effect():
    images = torch.rand(2, 3, 32, 32)

    def feature(**options):
        torch.manual_seed(0)
        model = FAN(TINY, **options)
        model.eval()
        return model(images)[0]

    default = feature()
    for options in (dict(use_pos_embed=False), dict(eta=0.1), dict(channel_heads=4), dict(cls_attn_layers=1),
                    dict(patch_size=8), dict(mlp_ratio=2.0)):
        assert not torch.allclose(feature(**options), default, atol=1e-4), options
    torch.testing.assert_close(feature(drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.5), default)


def test_in_a_classifier():
    torch.manual_seed(0)
    model = build_classifier(dict(backbone=dict(type='FAN', arch=TINY),
                                  head=dict(type='LinearClsHead', num_classes=5, in_channels=16)))
    images = torch.rand(2, 3, 32, 32)
    assert model.backbone.blocks[0].attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.2)
    model.eval()
    other = copy.deepcopy(model)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(other(images), model(images))
        torch.testing.assert_close(model(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('options, words', [
    (dict(arch='huge'), "arch is 'huge', expected one of tiny"), (dict(arch=dict(embed_dims=8)), 'expected one of'),
    (dict(arch=dict(embed_dims=16, num_layers=1, num_heads=3)), '3 heads and 3 channel heads must divide'),
    (dict(arch=TINY, channel_heads=5), '5 channel heads'), (dict(arch=TINY, patch_size=12), 'patch_size is 12')])
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        FAN(**options)
