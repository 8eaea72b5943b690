"""A linear classifier on features is trained without a graph, and a run is that of autograd."""

import pytest
import torch
from many_strategies import assert_same_run, built, stopped, trained
from mmpretrain.models.heads import LinearClsHead
from tiny_runs import results_without_time, weights, write_stream
from torch import nn

from clear.continual.training import linear_head
from clear.continual.training.linear_head import fits, is_cross_entropy, lone_layer
from clear.models.classifier import ComposedClassifier
from clear.models.heads import linear_gradient


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.fixture
def counts(monkeypatch):
    """How many batches were trained on without a graph; products as of large batches."""
    seen = []
    monkeypatch.setattr(linear_gradient, '_LARGE', 1)
    learn = linear_head.learn
    monkeypatch.setattr(linear_head, 'learn', lambda *args: seen.append(1) or learn(*args))
    return seen


@pytest.mark.parametrize('name', ['Naive', 'Cumulative', 'Replay', 'AGEM', 'GDumb'])
def test_a_run_is_that_of_autograd(name, stream, counts, monkeypatch, tmp_path):
    run = trained(built(stream, name, tmp_path / 'one', head='linear'))
    assert len(counts) == run.strategy.clock.train_iterations
    monkeypatch.setattr(linear_head, 'lone_layer', lambda *args: None)
    other = trained(built(stream, name, tmp_path / 'other', head='linear'))
    assert len(counts) == run.strategy.clock.train_iterations
    torch.testing.assert_close(weights(run), weights(other), rtol=1e-6, atol=1e-6)
    run, other = (results_without_time(each.work_dir) for each in (run, other))
    assert run['acc_matrix'] == other['acc_matrix']


def test_resumed_inside_an_experience(stream, counts, tmp_path):
    whole = trained(built(stream, 'Replay', tmp_path / 'whole', head='linear'))
    stopped(built(stream, 'Replay', tmp_path / 'parts', head='linear'), 1, 3)
    assert_same_run(whole, trained(built(stream, 'Replay', tmp_path / 'parts', head='linear'), resume=True))
    assert counts


@pytest.mark.parametrize('name', ['EWC', 'LwF', 'ER_ACE', 'SynapticIntelligence'])
def test_what_adds_to_the_loss_goes_through_autograd(name, stream, counts, tmp_path):
    trained(built(stream, name, tmp_path, head='linear'))
    assert not counts


def classifier(change=lambda model: None):
    model = ComposedClassifier(head=LinearClsHead(3, 4))
    change(model)
    return model


def test_the_layer_of_a_linear_classifier_is_found():
    model = classifier()
    assert lone_layer(model) is lone_layer(model.head.fc) is model.head.fc


@pytest.mark.parametrize(('loss', 'is_plain'), [
    (nn.CrossEntropyLoss(), True), (nn.CrossEntropyLoss(torch.ones(3)), True), (nn.MultiMarginLoss(), False),
    (nn.CrossEntropyLoss(label_smoothing=0.1), False), (nn.CrossEntropyLoss(reduction='sum'), False),
    (nn.CrossEntropyLoss(ignore_index=0), False)])
def test_another_loss_goes_through_autograd(loss, is_plain):
    assert is_cross_entropy(loss) is is_plain


@pytest.mark.parametrize('change', [
    lambda model: setattr(model, 'neck', nn.Identity()),
    lambda model: setattr(model, 'backbone', nn.Identity()),
    lambda model: setattr(model, 'amp_dtype', torch.bfloat16),
    lambda model: setattr(model, 'head', type('Own', (LinearClsHead,), {})(3, 4)),
    lambda model: nn.utils.parametrizations.weight_norm(model.head.fc),
    lambda model: model.head.fc.weight.requires_grad_(False),
    lambda model: model.head.fc.weight.register_hook(torch.neg),
    lambda model: model.head.register_forward_hook(lambda *args: None),
    lambda model: model.half()], ids=['neck', 'backbone', 'amp', 'own head', 'weight norm', 'frozen', 'tensor hook',
                                      'hook', 'half precision'])
def test_another_model_goes_through_autograd(change):
    assert lone_layer(classifier(change)) is None


@pytest.mark.parametrize(('inputs', 'fit'), [
    (torch.zeros(2, 4), True), (torch.zeros(2, 5), False), (torch.zeros(2, 4, 1), False), (torch.zeros(4), False),
    (torch.zeros(2, 4).double(), False), (torch.zeros(2, 4, requires_grad=True), False)])
def test_only_rows_of_features_fit(inputs, fit):
    assert fits(nn.Linear(4, 3), inputs) is fit
