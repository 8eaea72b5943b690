import math

import pytest
import torch
from banks import blobs, digits
from torch.nn import functional
from torch.optim import lr_scheduler

from clear.core.errors import ConfigError
from clear.evaluation import expand_grid, train_grid
from clear.evaluation.image.grid.points import GridPoint
from clear.evaluation.image.grid.stacked import StackedHeads, initial_head
from clear.evaluation.image.grid.training import TrainedGrid, batch_order
from clear.evaluation.image.schedules import SCHEDULES

EPOCHS = 4


def train_alone(point, features, labels, num_classes, *, epochs, batch_size, momentum, order_seed=0):
    """One head the usual way: nn.Linear, autograd, torch.optim, a torch scheduler."""
    head = torch.nn.Linear(features.shape[1], num_classes, dtype=features.dtype)
    weight, bias = initial_head(num_classes, features.shape[1], point.seed, features.dtype)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    options = dict(lr=point.lr, weight_decay=point.weight_decay)
    optimizer = {'sgd': lambda: torch.optim.SGD(head.parameters(), momentum=momentum, **options),
                 'adam': lambda: torch.optim.Adam(head.parameters(), **options),
                 'adamw': lambda: torch.optim.AdamW(head.parameters(), **options)}[point.optimizer]()
    total = epochs * math.ceil(len(labels) / batch_size)
    scheduler = {
        'constant': lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        'step': lambda: lr_scheduler.StepLR(optimizer, epochs // 2, 0.1),
        'cosine': lambda: lr_scheduler.CosineAnnealingLR(optimizer, total),
        'epoch_cosine': lambda: lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        'one_cycle': lambda: lr_scheduler.OneCycleLR(optimizer, point.lr, total_steps=total, cycle_momentum=False),
        'poly': lambda: lr_scheduler.PolynomialLR(optimizer, total, power=0.9)}[point.schedule]()
    for epoch in range(epochs):
        for rows in batch_order(len(labels), batch_size, epoch, order_seed):
            optimizer.zero_grad()
            functional.cross_entropy(head(features[rows]), labels[rows]).backward()
            optimizer.step()
            if point.schedule not in ('step', 'epoch_cosine'):
                scheduler.step()
        if point.schedule in ('step', 'epoch_cosine'):
            scheduler.step()
    return head


@pytest.mark.parametrize('num_rows, batch_size', [(50, 16), (48, 16), (7, 16), (1, 1)])
def test_grid_equals_heads_trained_one_after_another(num_rows, batch_size):
    features, labels = blobs(num_rows)
    features = features.double()
    # One-cycle needs room to rise.
    schedules = [name for name in SCHEDULES if name != 'one_cycle' or num_rows > batch_size]
    seeds = [0, 5] if num_rows == 50 else [5]
    rates = [0.03, 0.4] if num_rows == 50 else [0.4]
    points = expand_grid(rates, [0.0, 0.01], ['adamw', 'sgd', 'adam'], schedules, seeds)
    options = dict(epochs=EPOCHS, batch_size=batch_size, momentum=0.8)
    grid = train_grid(features, labels, 3, points, **options)
    for column, point in enumerate(points):
        head = train_alone(point, features, labels, 3, **options)
        torch.testing.assert_close(grid.weight[column], head.weight.detach(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(grid.bias[column], head.bias.detach(), rtol=1e-9, atol=1e-9)
    assert not grid.diverged.any()


def test_columns_do_not_depend_on_each_other():
    features, labels = blobs(40)
    features = features.double()
    points = expand_grid([0.1, 1.0], optimizers=['adam', 'sgd'], seeds=[0, 1])
    together = train_grid(features, labels, 3, points, epochs=3, batch_size=16)
    for column, point in enumerate(points):
        alone = train_grid(features, labels, 3, [point], epochs=3, batch_size=16)
        torch.testing.assert_close(together.weight[column], alone.weight[0], rtol=1e-10, atol=1e-12)


def test_every_row_is_in_every_epoch_and_the_last_batch_is_partial():
    batches = batch_order(23, 10, epoch=1, seed=4)
    assert [len(batch) for batch in batches] == [10, 10, 3]
    assert sorted(torch.cat(batches).tolist()) == list(range(23))
    assert not torch.equal(torch.cat(batches), torch.cat(batch_order(23, 10, 2, 4)))


def test_last_partial_batch_is_used():
    features, labels = blobs(17)
    point = GridPoint(lr=0.1)
    last = batch_order(17, 16, 0, 0)[-1]
    moved = features.clone()
    moved[last] += 1
    one, other = (train_grid(rows, labels, 3, [point], epochs=1, batch_size=16) for rows in (features, moved))
    assert not torch.equal(one.weight, other.weight)


def test_diverged_column_is_marked_and_leaves_the_others_alone():
    features, labels = blobs(40)
    points = [GridPoint(lr=0.1), GridPoint(lr=1e38), GridPoint(lr=0.01, optimizer='adam')]
    grid = train_grid(features, labels, 3, points, epochs=3, batch_size=16)
    assert grid.diverged.tolist() == [False, True, False]
    accuracy, loss = grid.evaluate(features, labels)
    assert accuracy.isnan().tolist() == loss.isnan().tolist() == [False, True, False]
    alone = train_grid(features, labels, 3, points[:1], epochs=3, batch_size=16)
    torch.testing.assert_close(grid.weight[0], alone.weight[0])


def test_evaluation_in_chunks_matches_plain_formula(monkeypatch):
    features, labels = digits()
    features, labels = features[:333], labels[:333]
    grid = train_grid(features, labels, 10, expand_grid([0.1, 0.5], seeds=[0, 1]), epochs=1)
    monkeypatch.setattr('clear.evaluation.image.grid.training._LOGITS_PER_CHUNK', 40 * 50)
    accuracy, loss = grid.evaluate(features, labels)
    for column in range(4):
        logits = features @ grid.weight[column].T + grid.bias[column]
        rivals = logits.masked_fill(functional.one_hot(labels, 10).bool(), -torch.inf)
        assert accuracy[column] == (logits[torch.arange(333), labels] > rivals.max(1).values).double().mean()
        assert loss[column].item() == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)


def test_of_equal_logits_that_of_the_true_class_stands_last():
    # Two columns of three classes: of the first all classes are equal, of the second only classes 0 and 1.
    weight = torch.zeros(2, 3, 2)
    bias = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 2.0]])
    grid = TrainedGrid([GridPoint(0.1)] * 2, StackedHeads((weight,), (bias,)), torch.tensor([False, False]))
    for labels, expected in (([0, 1, 2], [0, 1 / 3]), ([0, 0, 0], [0, 0]), ([2, 2, 2], [0, 1])):
        accuracy, _ = grid.evaluate(torch.ones(3, 2), torch.tensor(labels))
        assert accuracy.tolist() == pytest.approx(expected)


def test_grid_order_and_settings():
    points = expand_grid([0.1, 0.2], [0.0], ['sgd', 'adam'], ['step', dict(type='poly', power=2.0)], [3, 4])
    assert len(points) == 16 and [point.seed for point in points[:4]] == [3, 4, 3, 4]
    assert points[2].setting() == dict(lr=0.1, weight_decay=0.0, optimizer='sgd', schedule='poly(power=2.0)')


@pytest.mark.parametrize('wrong, message', [
    (dict(lrs=[]), 'lrs is'), (dict(lrs=[0.1, 0.1]), 'twice'), (dict(lrs=[0.0]), 'above 0'),
    (dict(lrs=[float('nan')]), 'lrs is nan'), (dict(lrs=[0.1], weight_decays=[-1]), 'weight_decays'),
    (dict(lrs=[0.1], optimizers=['lamb']), "'lamb'"), (dict(lrs=[0.1], schedules=['cosin']), "'cosine'")])
def test_wrong_grids(wrong, message):
    with pytest.raises(ConfigError, match=message):
        expand_grid(**wrong)


def test_labels_out_of_range_are_refused():
    features, labels = blobs(6)
    with pytest.raises(ValueError, match='expected 0 ... 1'):
        train_grid(features, labels, 2, [GridPoint(lr=0.1)], epochs=1)
