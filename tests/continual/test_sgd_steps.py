"""Steps of SGD without their wrappers are those of `optimizer.step()`, to the last bit, and only where they may be."""

import warnings

import pytest
import torch
from avalanche.training.templates.base_sgd import BaseSGDTemplate
from many_strategies import built, trained
from tiny_runs import weights, write_stream
from torch import nn

from clear.continual.training import sgd


class Taker:
    """Something with Avalanche's `optimizer_step`; counts what reaches it."""

    def __init__(self, optimizer):
        self.optimizer, self.count = optimizer, 0
        self.optimizer_step = self._counted

    def _counted(self):
        self.count += 1
        self.optimizer.step()

    def take(self):
        method = BaseSGDTemplate.optimizer_step.__get__(self)
        sgd.take_step(method, self.optimizer)


def make(kind=torch.optim.SGD, **options):
    torch.manual_seed(0)
    layer = nn.Linear(37, 5)
    unused = nn.Parameter(torch.ones(2))  # without a gradient
    groups = [dict(params=[layer.weight, unused]), dict(params=[layer.bias], lr=0.3)]
    return layer, unused, kind(groups, **dict(dict(lr=0.1), **options))


def steps_of(optimizer, layer, step, count=4):
    for number in range(count):
        sgd.zero_grad(optimizer)
        assert layer.weight.grad is None and layer.bias.grad is None
        torch.manual_seed(number)
        for parameter in layer.parameters():
            parameter.grad = torch.randn_like(parameter)
        step()


@pytest.fixture
def own_steps(monkeypatch):
    """How often torch's own SGD did a step."""
    seen = []
    step = torch.optim.SGD.step
    monkeypatch.setattr(torch.optim.SGD, 'step', lambda *args, **kwargs: seen.append(1) or step(*args, **kwargs))
    return seen


@pytest.mark.parametrize('options', [
    dict(), dict(lr=1), dict(momentum=0.9), dict(momentum=0.9, nesterov=True), dict(momentum=0.9, dampening=0.3),
    dict(weight_decay=0.1), dict(momentum=0.9, weight_decay=0.1, maximize=True, nesterov=True)], ids=str)
def test_steps_are_torchs_to_the_last_bit(options, own_steps):
    layer, unused, optimizer = make(**options)
    other, _, reference = make(**options)
    steps_of(reference, other, reference.step)
    del own_steps[:]
    steps_of(optimizer, layer, Taker(optimizer).take)
    assert len(own_steps) == ('momentum' in options)  # the one that makes the buffers
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer.bias, other.bias)
    assert torch.equal(unused, torch.ones(2)) and layer.weight.requires_grad
    torch.testing.assert_close(optimizer.state_dict(), reference.state_dict(), rtol=0, atol=0)


def hooked(optimizer):
    optimizer.register_step_post_hook(lambda *args: None)


def patched(optimizer):
    step = optimizer.step
    optimizer.step = lambda: step()


@pytest.mark.parametrize(('kind', 'options', 'change'), [
    (torch.optim.SGD, {}, hooked), (torch.optim.SGD, {}, patched), (torch.optim.SGD, dict(foreach=True), None),
    (torch.optim.SGD, dict(fused=True), None), (torch.optim.SGD, dict(lr=torch.tensor(0.1)), None),
    (type('Own', (torch.optim.SGD,), {}), {}, None)], ids=['hook', 'patch', 'foreach', 'fused', 'rate', 'class'])
def test_other_steps_are_the_optimisers(kind, options, change, own_steps):
    layer, _, optimizer = make(kind, **options)
    if change is not None:
        change(optimizer)
    steps_of(optimizer, layer, Taker(optimizer).take)
    assert len(own_steps) == 4


def test_a_step_that_a_strategy_overrides_is_called():
    layer, _, optimizer = make()
    taker = Taker(optimizer)
    steps_of(optimizer, layer, lambda: sgd.take_step(taker.optimizer_step, optimizer))
    assert taker.count == 4


def test_a_scheduler_learns_of_a_step(own_steps):
    layer, _, optimizer = make()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        steps_of(optimizer, layer, Taker(optimizer).take, 2)
        scheduler.step()
    assert len(own_steps) == 1
    before = layer.weight.detach().clone()
    steps_of(optimizer, layer, Taker(optimizer).take, 1)
    torch.testing.assert_close(before - layer.weight, 0.05 * layer.weight.grad)


@pytest.mark.parametrize('name', ['Naive', 'EWC'])
def test_a_run_is_that_of_the_optimisers_own_steps(name, tmp_path, own_steps, monkeypatch):
    stream = write_stream(tmp_path / 'stream')
    run = trained(built(stream, name, tmp_path / 'one', head='linear'))
    seen = len(own_steps)
    assert seen < run.strategy.clock.train_iterations
    monkeypatch.setattr(sgd, 'is_plain', lambda optimizer: False)
    other = trained(built(stream, name, tmp_path / 'other', head='linear'))
    assert len(own_steps) - seen == run.strategy.clock.train_iterations
    torch.testing.assert_close(weights(run), weights(other), rtol=0, atol=0)
