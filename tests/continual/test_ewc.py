"""Importances by samples and by batches against loops, and the penalties made of them by hand."""

from contextlib import nullcontext

import pytest
import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWCPlugin
from own_strategies import HEAD, plugin, run, spy
from tiny_runs import built, config, weights, write_stream
from torch.utils.data import DataLoader

from clear.continual.sample_gradients import sum_one_by_one, sum_vectorised
from clear.continual.training.loaders import BatchIterator, batched_reads
from clear.models import build_classifier


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


def test_fisher_of_batches_is_avalanches(stream):
    """The same numbers, gradients left behind and random numbers used as by the class that ours stands for."""
    runner = built(config(stream, 'EWC', fisher='batch'))
    run(runner)
    found = []
    for compute in (plugin(runner, 'EWCPlugin').compute_importances, AvalancheEWCPlugin(1.0).compute_importances):
        torch.manual_seed(0)
        importances = compute(runner.strategy.model, runner.strategy._criterion, runner.strategy.optimizer,
                              runner.experiences[-1].dataset, torch.device('cpu'), 8)
        gradients = [parameter.grad for parameter in runner.strategy.model.parameters()]
        found.append(([value.data for value in importances.values()], gradients, torch.rand(1)))
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-12)


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
