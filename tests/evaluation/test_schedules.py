import pytest
import torch
from torch.optim import lr_scheduler

from clear.core.errors import ConfigError
from clear.evaluation.image.schedules import SCHEDULES, VIRB_ONE_CYCLE, lr_factors, momenta, schedule_name

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


def as_virb_meant(name, epochs, per_epoch, lr, adam):
    """What the classes that ViRB names give when they are stepped in the unit that it states: rates and momenta."""
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.Adam(parameters, lr=lr) if adam else torch.optim.SGD(parameters, lr=lr, momentum=0.9)
    scheduler = {'StepLR': lambda: lr_scheduler.StepLR(optimizer, 2, 0.1),
                 'OneCycle': lambda: lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs,
                                                             anneal_strategy='linear'),
                 'Poly': lambda: lr_scheduler.LambdaLR(optimizer, lambda it: (1 - it / (epochs * per_epoch)) ** 0.9),
                 }[name]()
    rates, found = [], []
    for iteration in range(epochs * per_epoch):
        group = optimizer.param_groups[0]
        rates.append(group['lr'])
        found.append(group['betas'][0] if adam else group['momentum'])
        optimizer.step()
        if name == 'Poly' or (iteration + 1) % per_epoch == 0 and iteration + 1 < epochs * per_epoch:
            scheduler.step()
    return rates, found


@pytest.mark.parametrize('adam', [False, True])
@pytest.mark.parametrize('name, schedule', [('StepLR', dict(type='step', step_size=2)), ('OneCycle', VIRB_ONE_CYCLE),
                                            ('Poly', dict(type='poly', power=0.9))])
def test_the_schedules_of_virb(name, schedule, adam):
    rates, momentum = as_virb_meant(name, 11, 3, LR, adam)
    assert (lr_factors(schedule, 11, 3) * LR).tolist() == pytest.approx(rates, rel=1e-9, abs=1e-15)
    found = momenta(schedule, 11, 3)
    assert momentum == [0.9] * 33 if found is None else found.tolist() == pytest.approx(momentum, rel=1e-12)


def test_the_step_schedule_that_was_recorded_from_virb():
    # 100 epochs of StepLR(50, 0.1) from 0.1: its rates, epoch by epoch.
    assert (lr_factors(dict(type='step', step_size=50), 100, 1) * 0.1).tolist() == \
        pytest.approx([0.1] * 50 + [0.01] * 50)


@pytest.mark.parametrize('anneal', ['cos', 'linear'])
def test_momentum_cycles_by_iteration_too(anneal):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
    scheduler = lr_scheduler.OneCycleLR(optimizer, LR, total_steps=TOTAL, anneal_strategy=anneal, base_momentum=0.8)
    expected = []
    for iteration in range(TOTAL):
        expected.append((optimizer.param_groups[0]['lr'], optimizer.param_groups[0]['momentum']))
        optimizer.step()
        if iteration + 1 < TOTAL:
            scheduler.step()
    schedule = dict(type='one_cycle', anneal=anneal, momentum=[0.8, 0.95])
    both = torch.stack([lr_factors(schedule, EPOCHS, PER_EPOCH) * LR, momenta(schedule, EPOCHS, PER_EPOCH)], 1)
    torch.testing.assert_close(both, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('epochs', [2, 3])
def test_too_few_steps_for_a_rise_are_taken_as_torch_does_where_that_is_asked_for(epochs):
    rates, momentum = as_virb_meant('OneCycle', epochs, 1, LR, adam=False)
    found = lr_factors(VIRB_ONE_CYCLE, epochs, 1, too_few=True) * LR
    assert found.tolist() == pytest.approx(rates, rel=1e-9) and found[-1] < 0.9 * LR
    assert momenta(VIRB_ONE_CYCLE, epochs, 1, too_few=True).tolist() == pytest.approx(momentum, rel=1e-9)
    with pytest.raises(ConfigError, match='leave no rise'):
        momenta(VIRB_ONE_CYCLE, epochs, 1)


@pytest.mark.parametrize('wrong, message', [(dict(anneal='sin'), 'anneal'), (dict(by_epoch=1), 'by_epoch'),
                                            (dict(momentum=0.9), 'lowest, highest'), (dict(momentum=(0.8, 1)), 'is 1')])
def test_wrong_options_of_one_cycle(wrong, message):
    with pytest.raises(ConfigError, match=message):
        lr_factors(dict(type='one_cycle', **wrong), 10, 10)


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
