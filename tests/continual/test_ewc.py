"""Importances by samples and by batches against loops, and the penalties made of them by hand."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWCPlugin
from avalanche.training.plugins import MASPlugin as AvalancheMASPlugin
from own_strategies import HEAD, plugin, run, spy
from tiny_runs import built, config, weights, write_stream
from torch.utils.data import DataLoader

from clear.continual import batch_gradients, sample_gradients
from clear.continual.repairs.regularisation.memory_aware_synapses import MASPlugin
from clear.continual.sample_gradients import mean_over_samples, sum_one_by_one, sum_vectorised
from clear.continual.training.loaders import BatchIterator, batched_reads
from clear.models import build_classifier
from clear.models.heads import linear_gradient
from clear.models.heads.linear_gradient import cross_entropy_slopes, squared_norm_slopes


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.mark.parametrize('head', ['LinearClsHead', HEAD])
def test_per_sample_fisher_is_the_mean_of_squared_gradients_by_loops(head, stream):
    runner = built(config(stream, 'EWC', head=head, fisher=None))
    run(runner)
    inputs, targets = runner.info.train[-1].inputs, runner.info.train[-1].labels
    model = runner.strategy.model.eval()
    ewc = plugin(runner, 'PerSampleEWCPlugin')
    importances = ewc.compute_importances(model, runner.strategy._criterion, runner.strategy.optimizer,
                                          runner.experiences[-1].dataset, torch.device('cpu'), 8)
    for name, parameter in model.named_parameters():
        expected = torch.zeros_like(parameter)
        for x, y in zip(inputs, targets):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(x[None]), y[None]).backward()
            expected += parameter.grad**2 / len(inputs)
        torch.testing.assert_close(importances[name].data, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('loss, measure', [(torch.nn.CrossEntropyLoss(), torch.square),
                                           (lambda output, _: output.pow(2).sum(), torch.abs)])
def test_both_ways_to_sample_gradients_agree_and_leave_gradients_alone(loss, measure):
    model = build_classifier(dict(backbone=dict(type='LeNet5'), neck=dict(type='GlobalAveragePooling'),
                                  head=dict(type='LinearClsHead', num_classes=10, in_channels=120)))
    model.head.fc.bias.requires_grad_(False)
    inputs, targets = torch.randn(3, 1, 32, 32), torch.tensor([1, 5, 5])
    one = sum_vectorised(model, loss, measure, inputs, targets)
    other = sum_one_by_one(model, loss, measure, inputs, targets, torch.zeros(3, dtype=torch.int64))
    assert one.keys() == other.keys() and 'head.fc.bias' not in one
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-9)
    assert all(value.grad is None for value in model.parameters())


def test_the_rows_of_a_pass_over_a_layer_do_not_change_the_means(stream, monkeypatch):
    runner = run(built(config(stream, 'EWC')))
    found = []
    for rows in (1, 1024):
        monkeypatch.setattr(sample_gradients, 'LAYER_ROWS', rows)
        found.append(mean_over_samples(runner.strategy.model, torch.nn.CrossEntropyLoss(), torch.square,
                                       runner.experiences[0].dataset, device=torch.device('cpu'), batch_size=5))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize('mode', ['separate', 'online'])
@pytest.mark.parametrize('fisher', ['batch', 'sample'])
def test_ewc_penalty_of_the_second_experience(fisher, mode, stream):
    """lambda * sum F (theta - theta*)^2, with F and theta* taken by hand at the end of the first experience."""
    decay = dict(decay_factor=0.5) if mode == 'online' else dict(decay_factor=None)
    runner = built(config(stream, 'EWC', fisher=fisher, mode=mode, ewc_lambda=3.0, **decay))
    kept, penalties = {}, []

    def after_first(strategy):
        if strategy.clock.train_exp_counter == 0 and strategy.clock.train_exp_epochs == 2:
            kept['anchor'] = weights(runner)
            kept['fisher'] = {name: torch.zeros_like(value) for name, value in strategy.model.named_parameters()}
            size = 1 if fisher == 'sample' else strategy.train_mb_size
            batches = torch.arange(28).split(size)
            bucket = runner.info.train[0]
            for rows in batches:
                loss = torch.nn.functional.cross_entropy(strategy.model(bucket.inputs[rows]), bucket.labels[rows])
                gradients = torch.autograd.grad(loss, list(strategy.model.parameters()))
                for value, gradient in zip(kept['fisher'].values(), gradients):
                    value += gradient**2 / len(batches)

    def before_backward(strategy):
        if strategy.clock.train_exp_counter == 1:
            plain = torch.nn.functional.cross_entropy(strategy.mb_output, strategy.mb_y)
            expected = sum((kept['fisher'][name] * (value - kept['anchor'][name])**2).sum()
                           for name, value in strategy.model.named_parameters())
            penalties.append((float((strategy.loss - plain).detach()), 3.0 * float(expected.detach())))

    spy(runner, '_after_training_exp', after_first)
    spy(runner, 'backward', before_backward)
    run(runner)
    # The first iteration begins at the anchor.
    assert penalties[0] == (0.0, 0.0) and all(expected > 0 for _, expected in penalties[1:])
    for found, expected in penalties:
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize('large', [False, True])
@pytest.mark.parametrize('class_weights', [None, [0.5, 1.0, 2.0, 3.0]])
def test_fisher_of_batches_is_avalanches(class_weights, large, stream, monkeypatch):
    """The same numbers, gradients left behind and random numbers used as by the class that ours stands for."""
    monkeypatch.setattr(batch_gradients, 'ROWS_AT_ONCE', 20)  # two batches of 8
    runner = built(config(stream, 'EWC', fisher='batch'))
    run(runner)
    criterion = torch.nn.CrossEntropyLoss(None if class_weights is None else torch.tensor(class_weights))
    monkeypatch.setattr(linear_gradient, '_LARGE', 1 if large else 10**9)
    loops = calls_of(AvalancheEWCPlugin, 'compute_importances', monkeypatch)
    found = results_of((plugin(runner, 'EWCPlugin').compute_importances, AvalancheEWCPlugin(1.0).compute_importances),
                       lambda compute: compute(runner.strategy.model, criterion, runner.strategy.optimizer,
                                               runner.experiences[-1].dataset, torch.device('cpu'), 8),
                       runner.strategy.model)
    torch.testing.assert_close(*found, rtol=1e-5 if large else 0, atol=1e-8 if large else 0)
    assert len(loops) == 2 - large


@pytest.mark.parametrize('large', [False, True])
def test_importances_of_batches_of_mas_are_avalanches(large, stream, monkeypatch):
    monkeypatch.setattr(batch_gradients, 'ROWS_AT_ONCE', 20)
    runner = run(built(config(stream)))
    strategy = runner.strategy
    strategy.experience = runner.experiences[-1]
    monkeypatch.setattr(linear_gradient, '_LARGE', 1 if large else 10**9)
    loops = calls_of(AvalancheMASPlugin, '_get_importance', monkeypatch)
    with batched_reads():
        found = results_of((MASPlugin(importance='batch')._get_importance, AvalancheMASPlugin()._get_importance),
                           lambda compute: compute(strategy), strategy.model)
    torch.testing.assert_close(*found, rtol=1e-5 if large else 0, atol=1e-7 if large else 0)
    assert len(loops) == 2 - large


@pytest.mark.parametrize(('loss', 'slopes', 'measure'), [
    (torch.nn.CrossEntropyLoss(), cross_entropy_slopes, torch.square),
    (torch.nn.CrossEntropyLoss(torch.tensor([0.5, 1.0, 2.0, 3.0])),
     partial(cross_entropy_slopes, class_weights=torch.tensor([0.5, 1.0, 2.0, 3.0])), torch.square),
    (lambda output, _: output.pow(2).sum(), lambda logits, _, size: squared_norm_slopes(logits, size), torch.abs)],
    ids=['plain', 'weights', 'norm'])
def test_means_over_samples_by_known_slopes_are_those_by_autograd(loss, slopes, measure, stream, monkeypatch):
    monkeypatch.setattr(batch_gradients, 'ROWS_AT_ONCE', 10)
    monkeypatch.setattr(batch_gradients, 'MEASURED_ROWS', 4)
    runner = run(built(config(stream)))
    model, found = runner.strategy.model, []
    loops = calls_of(sample_gradients, 'sum_vectorised', monkeypatch)
    for known in (slopes, None):
        model.zero_grad()
        torch.manual_seed(0)
        means = mean_over_samples(model, loss, measure, runner.experiences[0].dataset, device=torch.device('cpu'),
                                  batch_size=5, slopes=known)
        assert bool(loops) == (known is None) and all(value.grad is None for value in model.parameters())
        found.append((means, torch.rand(1)))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-8)


def calls_of(owner, name, monkeypatch):
    seen, method = [], getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: seen.append(1) or method(*args, **kwargs))
    return seen


def results_of(ways, call, model):
    """What each way gives, the gradients it leaves behind, and the random number behind it."""
    found = []
    for compute in ways:
        torch.manual_seed(0)
        importances = call(compute)
        found.append(([value.data.clone() for value in importances.values()],
                      [parameter.grad.clone() for parameter in model.parameters()], torch.rand(1)))
    return found


def test_loops_over_samples_read_by_batches(stream):
    """Plugins' own loaders get the batches and use the random numbers that they always do."""
    dataset = run(built(config(stream))).experiences[0].dataset
    passes = []
    for reads in (nullcontext(), batched_reads()):
        torch.manual_seed(0)
        with reads:
            loader = DataLoader(dataset, batch_size=8, shuffle=True, collate_fn=dataset.collate_fn)
            iterator = iter(loader)
            passes.append(([list(batch) for batch in iterator], torch.rand(1)))
    assert isinstance(iterator, BatchIterator)
    torch.testing.assert_close(*passes, rtol=0, atol=0)
    assert not isinstance(iter(DataLoader(dataset, batch_size=8)), BatchIterator)
