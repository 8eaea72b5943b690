"""Heads with a hidden layer, trained together, against each trained alone by autograd and torch.optim."""

import math

import pytest
import torch
from banks import blobs
from torch.nn import functional
from torch.optim import lr_scheduler

from clear.core.errors import ConfigError, DataError
from clear.evaluation import expand_grid, train_grid
from clear.evaluation.heads.embedding import LinearHead, MultiEmbeddingHead
from clear.evaluation.image.grid import updates
from clear.evaluation.image.grid.points import GridPoint, named_points
from clear.evaluation.image.grid.stacked import StackedHeads, initial_layers
from clear.evaluation.image.grid.training import batch_order
from clear.evaluation.image.schedules import VIRB_ONE_CYCLE

EPOCHS, BATCH, HIDDEN = 5, 16, 7


def train_alone(point, features, labels, hidden, drop_last=False):
    """One head the usual way, whose schedule is torch's, and the loss and accuracy of its last epoch."""
    sizes = [features.shape[1], *([hidden] if hidden else []), 3]
    linear = [torch.nn.Linear(inputs, outputs, dtype=features.dtype) for inputs, outputs in zip(sizes, sizes[1:])]
    head = torch.nn.Sequential(linear[0], torch.nn.ReLU(), linear[1]) if hidden else linear[0]
    with torch.no_grad():
        for layer, (weight, bias) in zip(linear, initial_layers(sizes, point.seed, features.dtype)):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    options = dict(lr=point.lr, weight_decay=point.weight_decay)
    momentum = 0.8 if point.momentum is None else point.momentum
    optimizer = {'sgd': lambda: torch.optim.SGD(head.parameters(), momentum=momentum, **options),
                 'adam': lambda: torch.optim.Adam(head.parameters(), **options),
                 'adamw': lambda: torch.optim.AdamW(head.parameters(), **options)}[point.optimizer]()
    one_cycle = isinstance(point.schedule, dict)
    scheduler = lr_scheduler.OneCycleLR(optimizer, point.lr, total_steps=EPOCHS, anneal_strategy='linear') \
        if one_cycle else lr_scheduler.ConstantLR(optimizer, factor=1.0)
    for epoch in range(EPOCHS):
        loss = hits = seen = 0
        for rows in batch_order(len(labels), BATCH, epoch, 0):
            if drop_last and len(rows) < BATCH:
                continue
            optimizer.zero_grad()
            logits = head(features[rows])
            functional.cross_entropy(logits, labels[rows]).backward()
            loss += functional.cross_entropy(logits, labels[rows], reduction='sum').item()
            hits += (logits.argmax(1) == labels[rows]).sum().item()
            seen += len(rows)
            optimizer.step()
        if epoch < EPOCHS - 1:
            scheduler.step()
    return [parameter.detach() for parameter in head.parameters()], loss / seen, hits / seen


@pytest.mark.parametrize('large', [1, 2**15])
@pytest.mark.parametrize('hidden, drop_last', [(HIDDEN, False), (None, False), (1, True)])
def test_grid_equals_heads_trained_one_after_another(hidden, drop_last, large, monkeypatch):
    monkeypatch.setattr(updates, '_LARGE', large)  # one column after another, or all at once
    monkeypatch.setattr(updates, '_AHEAD', 7)
    features, labels = blobs(50)
    features = features.double()
    points = expand_grid([0.03, 0.4], [0.0, 0.01], ['adamw', 'sgd', 'adam'], ['constant', VIRB_ONE_CYCLE], [5])
    points += [GridPoint(0.1, momentum=0.5), GridPoint(0.1, momentum=0.0, seed=1)]
    grid = train_grid(features, labels, 3, points, epochs=EPOCHS, batch_size=BATCH, momentum=0.8, hidden=hidden,
                      drop_last=drop_last, track=True)
    for column, point in enumerate(points):
        parameters, loss, top1 = train_alone(point, features, labels, hidden, drop_last)
        own = [tensor[column] for layer in zip(grid.heads.weights, grid.heads.biases) for tensor in layer]
        for one, other in zip(own, parameters, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
        assert grid.train_loss[column].item() == pytest.approx(loss, rel=1e-9)
        assert grid.train_top1[column].item() == pytest.approx(top1)
    assert not grid.diverged.any()


def test_schedules_that_are_never_stepped_stay_at_their_first_value():
    features, labels = blobs(40)
    features = features.double()
    options = dict(epochs=EPOCHS, batch_size=BATCH, momentum=0.0)
    still = train_grid(features, labels, 3, [GridPoint(0.5, schedule=VIRB_ONE_CYCLE), GridPoint(0.5, schedule='poly')],
                       steps=False, **options)
    # One-cycle begins at a 25th of its rate, with a momentum of 0.95.
    plain = train_grid(features, labels, 3, [GridPoint(0.02, momentum=0.95), GridPoint(0.5)], **options)
    torch.testing.assert_close(still.weight, plain.weight, rtol=1e-12, atol=1e-12)


def test_evaluation_is_that_of_the_registered_heads():
    features, labels = blobs(23)
    grid = train_grid(features, labels, 3, expand_grid([0.1], seeds=[0, 1]), epochs=2, hidden=HIDDEN)
    accuracy, loss = grid.evaluate(features, labels)
    for column, state in enumerate(grid.heads.state_dicts()):
        head = MultiEmbeddingHead(features.shape[1], 3, num_images=1, hidden=HIDDEN)
        head.load_state_dict(state)
        logits = head(features[:, None])
        assert accuracy[column].item() == pytest.approx((logits.argmax(1) == labels).double().mean().item())
        assert loss[column].item() == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    state = train_grid(features, labels, 3, [GridPoint(0.1)], epochs=1).heads.state_dicts()
    LinearHead(features.shape[1], 3).load_state_dict(state[0])


def test_states_of_heads_go_there_and_back():
    heads = StackedHeads.drawn([4, 6, 3], [0, 1, 2])
    again = StackedHeads.of_state_dicts(heads.state_dicts())
    assert all(torch.equal(one, other) for one, other in zip(heads.tensors, again.tensors, strict=True))
    assert len(heads[1:]) == 2 and heads.weights[1].std(0).min() > 0


def test_first_weights_are_within_torchs_bounds():
    (first, first_bias), (second, second_bias) = initial_layers([400, 100, 10], 3)
    for values, fan_in in ((first, 400), (first_bias, 400), (second, 100), (second_bias, 100)):
        assert 0.8 / math.sqrt(fan_in) < values.abs().max() <= 1 / math.sqrt(fan_in)


def test_a_diverged_column_is_marked_whatever_its_layer():
    features, labels = blobs(40)
    points = [GridPoint(0.1), GridPoint(1e38), GridPoint(0.01, optimizer='adam')]
    grid = train_grid(features, labels, 3, points, epochs=3, batch_size=BATCH, hidden=HIDDEN)
    assert grid.diverged.tolist() == [False, True, False]


def test_a_grid_without_a_whole_batch_is_refused_where_the_tail_is_dropped():
    features, labels = blobs(10)
    with pytest.raises(DataError, match='make no batch of 16'):
        train_grid(features, labels, 3, [GridPoint(0.1)], epochs=1, batch_size=16, drop_last=True)


def test_named_settings():
    points = named_points(dict(slow=dict(lr=1e-4), fast=dict(lr=0.1, optimizer='sgd', momentum=0.5, schedule='step')),
                          [0, 1], optimizer='adam')
    assert [point.label() for point in points] == ['slow', 'slow', 'fast', 'fast']
    assert points[0].setting() == dict(name='slow', lr=1e-4, weight_decay=0.0, optimizer='adam', schedule='constant')
    assert points[3].setting()['momentum'] == 0.5 and points[3].seed == 1


@pytest.mark.parametrize('wrong, message', [
    ({}, 'settings is'), (dict(a=1), 'settings.a is 1'), (dict(a=dict(optimizer='sgd')), 'settings.a is'),
    (dict(a=dict(lr=0)), 'settings.a.lr is 0'), (dict(a=dict(lr=1, momentun=0.9)), 'momentum'),
    (dict(a=dict(lr=1, optimizer='lamb')), "'lamb'"), (dict(a=dict(lr=1, weight_decay=-1)), 'weight_decay')])
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        named_points(wrong, [0])
