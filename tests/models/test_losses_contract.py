"""What every self-supervised loss keeps: building by name, float32 inside autocast, state, finite gradients."""

import copy
import io

import pytest
import torch
from mmengine.registry import DefaultScope
from test_losses_contrastive import leaf, unit
from torch import nn

from clear.models import losses
from clear.registry import MODELS, SHADOWED


def views(count, seed, dtype):
    return [leaf(unit(6, 8, seed=seed + index).to(dtype)) for index in range(count)]


# Name: arguments, and what a call takes, given a dtype.
CASES = {
    'MoCoLoss': (dict(temperature=0.1), lambda dtype: [*views(2, 0, dtype), unit(9, 8, seed=9).to(dtype).T]),
    'CLSALoss': (dict(alpha=0.5), lambda dtype: [views(2, 0, dtype), views(1, 5, dtype), unit(6, 8, seed=7).to(dtype),
                                                 unit(9, 8, seed=9).to(dtype).T]),
    'DistributionalDivergenceLoss': ({}, lambda dtype: [views(2, 0, dtype), views(1, 5, dtype),
                                                        unit(9, 8, seed=9).to(dtype)]),
    'NTXentLoss': (dict(temperature=0.1), lambda dtype: views(2, 0, dtype)),
    'NegativeCosineSimilarity': ({}, lambda dtype: views(2, 0, dtype)),
    'BarlowTwinsLoss': ({}, lambda dtype: views(2, 0, dtype)),
    'VICRegLoss': ({}, lambda dtype: views(2, 0, dtype)),
    'TiCoLoss': (dict(embed_dim=8), lambda dtype: views(2, 0, dtype)),
    'DINOLoss': (dict(out_dim=8), lambda dtype: [views(3, 0, dtype), views(2, 5, dtype)]),
    'SwAVLoss': ({}, lambda dtype: [views(2, 0, dtype), views(1, 5, dtype)]),
}


def build(name):
    return MODELS.build(dict(type=name, **CASES[name][0]))


def value(result):
    return sum(result.values()) if isinstance(result, dict) else result


def leaves(arguments):
    flat = [each for item in arguments for each in (item if isinstance(item, list) else [item])]
    return [each for each in flat if each.requires_grad]


def test_every_loss_is_here():
    of_alignment = {name for name in losses.__all__ if '.alignment.' in getattr(losses, name).__module__}
    assert set(CASES) == set(losses.__all__) - of_alignment
    assert all(MODELS.get(name) is getattr(losses, name) for name in CASES)
    assert 'SwAVLoss' in SHADOWED
    with DefaultScope.overwrite_default_scope('clear'):
        with pytest.raises(TypeError, match=r"feat_dim'\. The class that ours hides is type='mmpretrain.SwAVLoss'\.$"):
            MODELS.build(dict(type='SwAVHead', loss=dict(type='SwAVLoss', feat_dim=4)))
        assert MODELS.build(dict(type='SwAVHead', loss=dict(type='mmpretrain.SwAVLoss', feat_dim=4)))


@pytest.mark.parametrize('name', CASES)
def test_built_by_name_it_gives_a_scalar_with_finite_gradients(name):
    arguments = CASES[name][1](torch.float32)
    loss = build(name)
    assert isinstance(loss, nn.Module) and not list(loss.parameters())
    total = value(loss(*arguments))
    assert total.shape == () and total.dtype == torch.float32
    grads = torch.autograd.grad(total, leaves(arguments), allow_unused=True)
    assert all(grad is None or grad.isfinite().all() for grad in grads)
    assert any(grad is not None and grad.abs().sum() > 0 for grad in grads)


@pytest.mark.parametrize('name', CASES)
def test_inside_autocast_it_is_what_it_is_in_float32(name):
    """The same bfloat16 numbers, given as float32 outside, must give the same bits."""
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = value(build(name)(*CASES[name][1](torch.bfloat16)))
    arguments = [[each.float() for each in item] if isinstance(item, list) else item.float()
                 for item in CASES[name][1](torch.bfloat16)]
    assert half.dtype == torch.float32
    assert torch.equal(half, value(build(name)(*arguments)))


# What a method does not send gradients to, among its arguments. CLSA and SwAV make constants of what else they
# differentiate, so finite differences say nothing of them.
CONSTANTS = {'MoCoLoss': lambda arguments: arguments[1:2], 'NegativeCosineSimilarity': lambda arguments: arguments[1:],
             'DistributionalDivergenceLoss': lambda arguments: arguments[1],
             'DINOLoss': lambda arguments: arguments[1]}


@pytest.mark.parametrize('name', sorted(set(CASES) - {'CLSALoss', 'SwAVLoss'}))
def test_gradients_are_those_of_finite_differences(name):
    loss = build(name).double().eval()
    arguments = CASES[name][1](torch.float64)
    for tensor in CONSTANTS.get(name, lambda _: [])(arguments):
        tensor.requires_grad_(False)
    assert torch.autograd.gradcheck(lambda *_: loss(*arguments), leaves(arguments))


@pytest.mark.parametrize('name', ['DINOLoss', 'TiCoLoss'])
def test_state_survives_saving(name):
    loss = build(name)
    for _ in range(2):
        loss(*CASES[name][1](torch.float32))
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    again = build(name)
    again.load_state_dict(torch.load(file, weights_only=True))
    arguments = CASES[name][1](torch.float32)
    assert torch.equal(again(*arguments), loss(*copy.deepcopy(arguments)))
    assert all(torch.equal(one, other) for one, other in zip(again.buffers(), loss.buffers()))


@pytest.mark.parametrize('name', sorted(set(CASES) - {'DINOLoss', 'TiCoLoss'}))
def test_the_others_have_no_state(name):
    assert not build(name).state_dict()
