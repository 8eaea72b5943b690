"""mmengine's OneCycleLR and PolyLR with the momentum beside it, against torch's schedulers, step by step."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch.optim import lr_scheduler

from clear.core.errors import ConfigError
from clear.registry import PARAM_SCHEDULERS

TOTAL = 20


def optimizer_of(adam):
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    return torch.optim.Adam(parameters, lr=0.1) if adam else torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def sequence(optimizer, steps, train=None):
    """Rate and momentum in every step."""
    found = []
    for _ in range(TOTAL):
        group = optimizer.param_groups[0]
        found.append((group['lr'], group['betas'][0] if 'betas' in group else group['momentum']))
        (train or optimizer.step)()
        if len(found) < TOTAL:
            for step in steps:
                step()
    return torch.tensor(found, dtype=torch.float64)


def by_mmengine(adam, *cfgs):
    optimizer = optimizer_of(adam)
    wrapper = OptimWrapper(optimizer)
    schedulers = [PARAM_SCHEDULERS.build(cfg, default_args=dict(optimizer=wrapper)) for cfg in cfgs]
    return sequence(optimizer, [scheduler.step for scheduler in schedulers], wrapper.step)


@pytest.mark.parametrize('adam', [False, True])
@pytest.mark.parametrize('anneal', ['cos', 'linear'])
def test_both_schedulers_together_are_torchs_one_cycle(adam, anneal):
    optimizer = optimizer_of(adam)
    peer = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=TOTAL, anneal_strategy=anneal)
    shared = dict(anneal_strategy=anneal, end=TOTAL, by_epoch=False)
    found = by_mmengine(adam, dict(type='OneCycleLR', eta_max=0.1, **shared), dict(type='OneCycleMomentum', **shared))
    torch.testing.assert_close(found, sequence(optimizer, [peer.step]), rtol=1e-9, atol=1e-12)


def test_mmengines_poly_ends_one_step_later():
    optimizer = optimizer_of(False)
    peer = lr_scheduler.PolynomialLR(optimizer, TOTAL, power=0.9)
    found = by_mmengine(False, dict(type='PolyLR', power=0.9, eta_min=0, end=TOTAL + 1, by_epoch=False))
    torch.testing.assert_close(found, sequence(optimizer, [peer.step]), rtol=1e-9, atol=1e-12)


def test_epochs_become_iterations():
    def built(**options):
        return PARAM_SCHEDULERS.build(dict(type='OneCycleMomentum', **options),
                                      default_args=dict(optimizer=OptimWrapper(optimizer_of(False)), epoch_length=5))

    scheduler, plain = built(end=4, convert_to_iter_based=True), built(end=TOTAL, by_epoch=False)
    assert scheduler.values == plain.values and not scheduler.by_epoch


def test_state_round_trip():
    def make():
        optimizer = OptimWrapper(optimizer_of(False))
        return optimizer, PARAM_SCHEDULERS.build(dict(type='OneCycleMomentum', end=TOTAL, by_epoch=False),
                                                 default_args=dict(optimizer=optimizer))

    (first, one), (second, two) = make(), make()
    for _ in range(7):
        first.step()
        one.step()
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        one.step()
        two.step()
    assert first.param_groups[0]['momentum'] == second.param_groups[0]['momentum']


@pytest.mark.parametrize('wrong, message', [(dict(), 'an end'), (dict(end=3), 'leave no rise'),
                                            (dict(end=20, max_momentum=1.0), 'max_momentum'),
                                            (dict(end=20, anneal_strategy='sin'), 'anneal_strategy')])
def test_wrong_cycles(wrong, message):
    with pytest.raises(ConfigError, match=message):
        PARAM_SCHEDULERS.build(dict(type='OneCycleMomentum', **wrong),
                               default_args=dict(optimizer=OptimWrapper(optimizer_of(False))))
