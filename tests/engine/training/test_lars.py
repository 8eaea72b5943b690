"""LARS against loops written from the published codes, over a drop of the rate."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from torch import nn

from clear.core.errors import ConfigError
from clear.engine.training.keys import runner_config_hash
from clear.engine.training.lars import PublishedLARS
from clear.registry import OPTIMIZERS

ETA, MOMENTUM = 0.001, 0.9
RATES = [1.0, 1.0, 0.1, 0.1, 0.02]
FORMS = {'barlow_twins': {}, 'simclr': dict(rate_in_momentum=True), 'swav': dict(separate_norms=True)}


def by_hand(form, weight, grads, decay, adapt=True):
    """The weight after each step, as the code of that method computes it."""
    weight, gathered, found = weight.clone(), torch.zeros_like(weight), []
    for lr, grad in zip(RATES, grads):
        if form == 'swav':
            step, size = grad.clone(), grad.norm().item()
            if weight.norm().item() != 0 and size != 0:
                length = weight.norm().item()
                step = (grad + decay * weight) * (ETA * length / (size + length * decay + 1e-8))
        else:
            step = grad + decay * weight
            if adapt and weight.norm().item() > 0 and step.norm().item() > 0:
                step = step * (ETA * weight.norm().item() / step.norm().item())
        if form == 'simclr':
            gathered = MOMENTUM * gathered + lr * step
            weight = weight - gathered
        else:
            gathered = MOMENTUM * gathered + step
            weight = weight - lr * gathered
        found.append(weight.clone())
    return found


def by_class(form, weights, grads, decays, excluded):
    params = [nn.Parameter(weight.clone()) for weight in weights]
    groups = [dict(params=[param], weight_decay=decay, lars_exclude=out)
              for param, decay, out in zip(params, decays, excluded)]
    optimizer = PublishedLARS(groups, lr=1.0, momentum=MOMENTUM, eta=ETA, **FORMS[form])
    found = []
    for number, lr in enumerate(RATES):
        for group, param, each in zip(optimizer.param_groups, params, grads):
            group['lr'], param.grad = lr, each[number].clone()
        optimizer.step()
        found.append([param.detach().clone() for param in params])
    return [list(each) for each in zip(*found)]


@pytest.mark.parametrize('form', FORMS)
def test_every_form_matches_its_loops(form):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights = [draw(3, 4), draw(2, 3, 1, 1), draw(5), torch.zeros(4, dtype=torch.float64), draw(2)]
    decays, excluded = [1e-2, 0.0, 1e-2, 1e-2, 1e-2], [False] * 5
    if form != 'swav':
        decays[2], excluded[2] = 0.0, True  # a bias
    grads = [[draw(*weight.shape) for _ in RATES] for weight in weights]
    grads[4][0].zero_()
    found = by_class(form, weights, grads, decays, excluded)
    for weight, each, decay, out, steps in zip(weights, grads, decays, excluded, found):
        for step, expected in zip(steps, by_hand(form, weight, each, decay, adapt=not out)):
            torch.testing.assert_close(step, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(('form', 'after'), [
    ('barlow_twins', (2.9964303, 3.9952404)), ('simclr', (2.9940003, 3.9920004)), ('swav', (2.9964303, 3.9952404))])
def test_a_drop_of_the_rate_by_numbers(form, after):
    """w = (3, 4), g = (.6, .8): the first step is 0.001 * 5 * g; the second has a tenth of the rate."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = PublishedLARS([weight], lr=1.0, **FORMS[form])
    for lr in (1.0, 0.1):
        optimizer.param_groups[0]['lr'] = lr
        weight.grad = torch.tensor([0.6, 0.8], dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor(after, dtype=torch.float64), rtol=0, atol=1e-7)


def test_without_gradient_nothing_moves_and_state_goes_round():
    torch.manual_seed(0)
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(one.state_dict())
    first, second = (PublishedLARS(net.parameters(), lr=0.5, weight_decay=0.1) for net in (one, other))
    first.step()
    assert torch.equal(one.weight, other.weight)
    for net, optimizer, steps in ((one, first, 4), (other, second, 2)):
        for _ in range(steps):
            optimizer.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()
    third = PublishedLARS(other.parameters(), lr=0.5, weight_decay=0.1)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    for _ in range(2):
        third.zero_grad()
        other(torch.ones(1, 3)).square().sum().backward()
        third.step()
    assert torch.equal(one.weight, other.weight)


def test_values_are_checked():
    for options, message in ((dict(lr=-1.0), r'optimizer\.lr is -1\.0'), (dict(lr=0.1, momentum=1.0), 'momentum is 1'),
                             (dict(lr=0.1, eta='x'), "eta is 'x'"), (dict(lr=0.1, separate_norms=1), 'True or False')):
        with pytest.raises(ConfigError, match=message):
            PublishedLARS([nn.Parameter(torch.ones(1))], **options)


def test_it_is_found_by_name_beside_mmpretrains():
    init_default_scope('clear')
    assert OPTIMIZERS.get('PublishedLARS') is PublishedLARS
    assert OPTIMIZERS.get('LARS').__module__.startswith('mmpretrain')


def test_a_run_of_the_earlier_optimiser_is_another_run():
    """So `--resume` refuses to go on with it."""
    hashes = {runner_config_hash(dict(optim_wrapper=dict(optimizer=dict(type=name, lr=0.1))))
              for name in ('LARS', 'PublishedLARS')}
    assert len(hashes) == 2
