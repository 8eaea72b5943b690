"""Learning rates over experiences, against schedulers of plain PyTorch."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from clear.continual.strategies import SchedulePlugin
from clear.continual.strategies.build import build_schedule
from clear.core.errors import ConfigError

EXPERIENCES, EPOCHS, ITERATIONS = 3, 4, 5
LOSSES = [1.0, 1.1, 1.2, 0.4]  # of the epochs of every experience; the plateau scheduler acts on the rises


def sequential(optimizer):
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, 2)], [2])


# Name -> how to make the scheduler, whether it steps by epoch, how many steps it can take.
SCHEDULERS = {
    'StepLR': (partial(StepLR, step_size=2, gamma=0.1), True),
    'CosineAnnealingLR': (partial(CosineAnnealingLR, T_max=EPOCHS), True),
    'SequentialLR': (sequential, True),
    'ReduceLROnPlateau': (partial(ReduceLROnPlateau, factor=0.5, patience=0), True),
    # Cycles the momentum as well, and rewrites more keys of the group than any other.
    'OneCycleLR': (partial(OneCycleLR, max_lr=0.7, total_steps=EXPERIENCES * EPOCHS * ITERATIONS + 1), False),
}


def make_optimizer():
    return torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.3, momentum=0.9)


def settings(optimizer):
    group = optimizer.param_groups[0]
    return group['lr'], group['momentum']


def pass_experience(optimizer, begin, after_iteration, after_epoch):
    """Learning rate and momentum that each iteration of one experience uses."""
    used = []
    begin()
    for loss in LOSSES:
        for _ in range(ITERATIONS):
            used.append(settings(optimizer))
            optimizer.step()
            after_iteration()
        after_epoch(loss)
    return used


def by_plugin(plugin, optimizer):
    strategy = SimpleNamespace(optimizer=optimizer, epoch_loss=None)

    def after_epoch(loss):
        strategy.epoch_loss = loss
        plugin.after_training_epoch(strategy)

    return pass_experience(optimizer, lambda: plugin.before_training_exp(strategy),
                           lambda: plugin.after_training_iteration(strategy), after_epoch)


def by_torch(make, by_epoch, experiences):
    """The same from a scheduler that knows nothing of experiences."""
    optimizer = make_optimizer()
    scheduler = make(optimizer)

    def step(loss):
        scheduler.step(loss) if isinstance(scheduler, ReduceLROnPlateau) else scheduler.step()

    return [entry for _ in range(experiences) for entry in pass_experience(
        optimizer, lambda: None, (lambda: None) if by_epoch else (lambda: step(None)),
        step if by_epoch else (lambda loss: None))]


@pytest.mark.parametrize('name', SCHEDULERS)
def test_reset_starts_every_experience_like_the_first(name):
    make, by_epoch = SCHEDULERS[name]
    plugin, optimizer = SchedulePlugin(make, 'reset', by_epoch), make_optimizer()
    expected = by_torch(make, by_epoch, 1)
    assert len({lr for lr, _ in expected}) > 1
    for _ in range(EXPERIENCES):
        assert by_plugin(plugin, optimizer) == expected
    assert (len({momentum for _, momentum in expected}) > 1) == (name == 'OneCycleLR')


@pytest.mark.parametrize('name', SCHEDULERS)
def test_continue_runs_one_schedule_through_the_stream(name):
    make, by_epoch = SCHEDULERS[name]
    plugin, optimizer = SchedulePlugin(make, 'continue', by_epoch), make_optimizer()
    used = [entry for _ in range(EXPERIENCES) for entry in by_plugin(plugin, optimizer)]
    assert used == by_torch(make, by_epoch, EXPERIENCES)
    once = by_torch(make, by_epoch, 1)
    assert used != once * EXPERIENCES


def test_without_a_scheduler_the_rate_stays():
    plugin, optimizer = SchedulePlugin(None), make_optimizer()
    assert {entry for _ in range(2) for entry in by_plugin(plugin, optimizer)} == {(0.3, 0.9)}
    assert plugin.state_dict() == dict(scheduler=None, first_settings=None)


@pytest.mark.parametrize('policy', ['reset', 'continue'])
@pytest.mark.parametrize('name', SCHEDULERS)
def test_a_restored_schedule_goes_on_as_if_never_stopped(name, policy, tmp_path):
    make, by_epoch = SCHEDULERS[name]
    plugin, optimizer = SchedulePlugin(make, policy, by_epoch), make_optimizer()
    by_plugin(plugin, optimizer)
    torch.save(dict(schedule=plugin.state_dict(), optimizer=optimizer.state_dict()), tmp_path / 'state.pth')
    state = torch.load(tmp_path / 'state.pth', weights_only=True)

    restored, other = SchedulePlugin(make, policy, by_epoch), make_optimizer()
    other.load_state_dict(state['optimizer'])
    restored.load_state_dict(state['schedule'], other)
    assert settings(other) == settings(optimizer)
    for _ in range(EXPERIENCES - 1):
        assert by_plugin(restored, other) == by_plugin(plugin, optimizer)


def test_groups_keep_their_own_rates():
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([dict(params=parameters[:1], lr=0.1), dict(params=parameters[1:], lr=0.01)], lr=1.0)
    plugin = SchedulePlugin(partial(StepLR, step_size=1, gamma=0.5))
    for _ in range(2):
        by_plugin(plugin, optimizer)
        assert [group['lr'] for group in optimizer.param_groups] == pytest.approx([0.1 / 16, 0.01 / 16])


def test_a_config_says_when_to_step():
    scheduler = dict(type='StepLR', step_size=1, gamma=0.5, by_epoch=False)
    cfg = dict(scheduler=scheduler, scheduler_policy='continue')
    plugin = build_schedule(cfg)
    assert (plugin.by_epoch, plugin.policy) == (False, 'continue')
    assert cfg['scheduler'] is scheduler and 'by_epoch' in scheduler
    optimizer = make_optimizer()
    by_plugin(plugin, optimizer)
    assert optimizer.param_groups[0]['lr'] == pytest.approx(0.3 * 0.5**(EPOCHS * ITERATIONS))
    assert build_schedule(dict()).make is None


def test_a_value_that_the_scheduler_refuses_is_a_user_error():
    plugin = build_schedule(dict(scheduler=dict(type='OneCycleLR', max_lr=0.1, total_steps=-3)))
    with pytest.raises(ConfigError, match=r'cl_strategy.scheduler \(OneCycleLR\)'):
        plugin.prepare(make_optimizer())
