"""Projectors and prototypes."""

import pytest
import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.models.necks import DINOHead, ProjectionMLP, ProtoCLIPHead, Prototypes, hold
from clear.registry import MODELS


def kinds(options):
    neck = MODELS.build(dict(type='ProjectionMLP', **options))
    return neck, [type(layer).__name__ for layer in neck.layers]


def test_projectors_of_the_papers():
    neck, layers = kinds(dict(in_channels=6, out_channels=4, num_layers=1))  # MoCo v1
    assert layers == ['Linear'] and neck.layers[0].weight.shape == (4, 6)
    neck, layers = kinds(dict(in_channels=6, out_channels=4))  # MoCo v2
    assert layers == ['Linear', 'ReLU', 'Linear']
    assert [neck.layers[index].weight.shape for index in (0, 2)] == [(6, 6), (4, 6)]
    assert neck.layers[0].bias is not None and neck.layers[2].bias is not None
    neck, layers = kinds(dict(in_channels=6, out_channels=4, hidden_channels=5, num_layers=3, norm=True, bias=False,
                              last_bias=False, last_norm=True, last_affine=False))  # SimSiam
    assert layers == ['Linear', 'BatchNorm1d', 'ReLU'] * 2 + ['Linear', 'BatchNorm1d']
    assert all(layer.bias is None for layer in neck.layers if isinstance(layer, nn.Linear))
    assert [layer.affine for layer in neck.layers if isinstance(layer, nn.BatchNorm1d)] == [True, True, False]
    _, layers = kinds(dict(in_channels=6, out_channels=4, norm=True, activation='gelu'))
    assert layers == ['Linear', 'BatchNorm1d', 'GELU', 'Linear']


def test_projection_is_its_layers_by_hand():
    neck = ProjectionMLP(3, 2, 4).double()
    rows = torch.randn(5, 3, dtype=torch.float64)
    first, _, last = neck.layers
    for row, found in zip(rows, neck(rows)):
        hidden = [max(0.0, (row @ weight + bias).item()) for weight, bias in zip(first.weight, first.bias)]
        expected = [sum(h * w for h, w in zip(hidden, weight.tolist())) + bias.item()
                    for weight, bias in zip(last.weight, last.bias)]
        assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize('options, message', [
    (dict(in_channels=0, out_channels=2), 'in_channels is 0'), (dict(in_channels=2, out_channels=2.5), 'out_channels'),
    (dict(in_channels=2, out_channels=2, num_layers=0), 'num_layers is 0'),
    (dict(in_channels=2, out_channels=2, activation='rel'), "did you mean 'relu'")])
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        ProjectionMLP(**options)


@pytest.mark.parametrize('norm_last_layer', [True, False])
def test_dino_head_scores_are_cosines_times_lengths(norm_last_layer):
    head = DINOHead(6, 4, 7, 5, norm_last_layer=norm_last_layer).double()
    with torch.no_grad():
        head.last_layer.mul_(3)
        if not norm_last_layer:
            head.last_scale.copy_(torch.arange(1.0, 5.0)[:, None])
    rows = torch.randn(3, 6, dtype=torch.float64)
    expected = torch.cosine_similarity(head.mlp(rows)[:, None], head.last_layer[None], dim=2)
    scale = 1 if norm_last_layer else torch.arange(1.0, 5.0)
    torch.testing.assert_close(head(rows), expected * scale)
    assert [type(layer).__name__ for layer in head.mlp.layers] == ['Linear', 'GELU', 'Linear', 'GELU', 'Linear']
    assert all(layer.bias.abs().sum() == 0 for layer in head.mlp.layers if isinstance(layer, nn.Linear))
    assert {name for name, _ in head.named_parameters() if 'mlp' not in name} == (
        {'last_layer'} if norm_last_layer else {'last_layer', 'last_scale'})


@pytest.mark.parametrize('num_layers, has_directions', [(0, False), (0, True), (1, False), (2, True), (3, False)])
def test_dino_head_is_the_published_one(num_layers, has_directions):
    """Against torch's layers under its weight normalisation, whose lengths are one."""
    head = DINOHead(6, 4 if has_directions else None, 7, 5, num_layers).double()
    width = 5 if num_layers else 6
    widths = [6, *[7] * (num_layers - 1), 5] if num_layers else [6]
    layers = [module for one, two in zip(widths, widths[1:]) for module in (nn.Linear(one, two), nn.GELU())][:-1]
    network = nn.Sequential(*layers).double()
    network.load_state_dict({name.removeprefix('layers.'): value for name, value in head.mlp.state_dict().items()})
    last = torch.nn.utils.parametrizations.weight_norm(nn.Linear(width, 4, bias=False)).double()
    rows = torch.randn(3, 6, dtype=torch.float64)
    expected = network(rows)
    expected = expected / expected.norm(dim=1, keepdim=True)
    if has_directions:
        with torch.no_grad():
            last.parametrizations.weight.original0.fill_(1)
            last.parametrizations.weight.original1.copy_(head.last_layer)
        expected = last(expected)
    assert head.out_channels == expected.shape[1] == (4 if has_directions else width)
    torch.testing.assert_close(head(rows), expected)


@pytest.mark.parametrize('num_layers', [0, 1, 2])
def test_protoclip_head_by_hand(num_layers):
    head = ProtoCLIPHead(6, 3, 5, num_layers).double()
    hidden = rows = torch.randn(4, 6, dtype=torch.float64)
    linear = [layer for layer in head.mlp.layers if isinstance(layer, nn.Linear)]
    widths = [6, *[5] * num_layers, 3]
    assert [tuple(layer.weight.shape) for layer in linear] == list(zip(widths[1:], widths))
    for layer in linear[:-1]:
        hidden = hidden @ layer.weight.T + layer.bias
        hidden = ((hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()).clamp(min=0)
    hidden = hidden @ linear[-1].weight.T + linear[-1].bias
    torch.testing.assert_close(head(rows), hidden / hidden.norm(dim=1, keepdim=True))


@pytest.mark.parametrize('kind', [DINOHead, ProtoCLIPHead])
def test_heads_refuse_what_is_no_number_of_layers(kind):
    with pytest.raises(ConfigError, match='num_layers is -1'):
        kind(6, num_layers=-1)


def test_prototypes_are_unit_rows_and_stay_so():
    prototypes = Prototypes(4, 9)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(9))
    direction = prototypes.weight.detach().clone()
    with torch.no_grad():
        prototypes.weight.mul_(torch.arange(1.0, 10.0)[:, None])
    prototypes.renormalise()
    torch.testing.assert_close(prototypes.weight.detach(), direction)
    rows = torch.randn(3, 4)
    torch.testing.assert_close(prototypes(rows), rows @ direction.T)


def test_holding_gives_zero_gradient_and_lets_others_pass():
    prototypes, rows = Prototypes(4, 9), torch.randn(3, 4, requires_grad=True)
    prototypes(rows, is_held=True).square().sum().backward()
    assert prototypes.weight.grad.abs().sum() == 0 and rows.grad.abs().sum() > 0
    weight = torch.full((2,), torch.inf, requires_grad=True)
    (hold(weight) * torch.nan).sum().backward()
    assert weight.grad.tolist() == [0, 0], 'zero whatever arrives'
