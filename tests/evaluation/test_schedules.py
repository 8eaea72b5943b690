import pytest
import torch
from torch.optim import lr_scheduler

from clear.core.errors import ConfigError
from clear.evaluation.image.schedules import SCHEDULES, lr_factors, schedule_name

EPOCHS, PER_EPOCH, LR = 5, 7, 0.3
TOTAL = EPOCHS * PER_EPOCH
PEERS = {
    'constant': lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1.0),
    'step': lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.1),
    'cosine': lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, TOTAL),
    'epoch_cosine': lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS),
    'one_cycle': lambda optimizer: lr_scheduler.OneCycleLR(optimizer, LR, total_steps=TOTAL, cycle_momentum=False),
    'poly': lambda optimizer: lr_scheduler.PolynomialLR(optimizer, TOTAL, power=0.9),
}


def by_torch(make, per_epoch_only):
    """The learning rate that torch uses in each iteration."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, rates = make(optimizer), []
    for iteration in range(TOTAL):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        if not per_epoch_only or (iteration + 1) % PER_EPOCH == 0:
            scheduler.step()
    return rates


@pytest.mark.parametrize('name', SCHEDULES)
def test_schedule_is_torchs(name):
    factors = lr_factors(name, EPOCHS, PER_EPOCH)
    expected = by_torch(PEERS[name], name in ('step', 'epoch_cosine'))
    assert (factors * LR).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_options_reach_the_schedule():
    cases = {
        'step': (dict(step_size=1, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 1, 0.5)),
        'cosine': (dict(min_factor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1 * LR)),
        'one_cycle': (dict(pct_start=0.5, div_factor=10.0, final_div_factor=100.0),
                      lambda o: lr_scheduler.OneCycleLR(o, LR, total_steps=TOTAL, pct_start=0.5, div_factor=10.0,
                                                        final_div_factor=100.0, cycle_momentum=False)),
        'poly': (dict(power=2.0), lambda o: lr_scheduler.PolynomialLR(o, TOTAL, power=2.0)),
    }
    for name, (options, make) in cases.items():
        factors = lr_factors(dict(type=name, **options), EPOCHS, PER_EPOCH)
        assert (factors * LR).tolist() == pytest.approx(by_torch(make, name == 'step'), rel=1e-9, abs=1e-12)


def test_errors_name_what_is_known():
    with pytest.raises(ConfigError, match="'cosine'"):
        lr_factors('cosin', 1, 1)
    with pytest.raises(ConfigError, match="no option 'powr'"):
        lr_factors(dict(type='poly', powr=1), 1, 1)
    with pytest.raises(ConfigError, match='step_size of .* is 0'):
        lr_factors(dict(type='step', step_size=0), 4, 1)
    with pytest.raises(ConfigError, match='leave no rise'):
        lr_factors('one_cycle', 1, 2)


def test_names():
    assert schedule_name('step') == 'step'
    assert schedule_name(dict(type='poly', power=0.5)) == 'poly(power=0.5)'
