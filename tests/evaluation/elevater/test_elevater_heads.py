"""Heads on stored features, against a plain torch loop."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clear.core.errors import DataError
from clear.evaluation.elevater.heads.head import BatchNormHead, first_log_scale, language_weights, random_weights
from clear.evaluation.elevater.heads.head_grid import HeadGrid, HeadRule, head_batches

EPOCHS = 3


def rows(count, dim=5, num_classes=3, multi_label=False):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, dim, generator=generator, dtype=torch.float64) * 3 + 1
    if multi_label:
        return features, (torch.rand(count, num_classes, generator=generator) < 0.4).double()
    return features, torch.randint(num_classes, (count,), generator=generator)


def train_alone(features, targets, start, lr, l2, rule):
    """One head by module, autograd and torch.optim, skipping batches of one row."""
    head = BatchNormHead(*start, log_scale=rule.log_scale, normalise=rule.normalise).double()
    with torch.no_grad():
        head.linear.weight.copy_(start[0])
        head.linear.bias.copy_(start[1])
    head.log_scale.data = torch.tensor(rule.log_scale, dtype=torch.float64)
    optimizer = torch.optim.SGD(head.linear.parameters(), lr, momentum=rule.momentum, weight_decay=l2)
    loss_of = nn.BCEWithLogitsLoss() if rule.multi_label else nn.CrossEntropyLoss()
    for epoch in range(EPOCHS):
        head.train()
        for batch in head_batches(len(features), rule.batch_size, rule.seed, epoch):
            optimizer.zero_grad()
            loss_of(head(features[batch]), targets[batch]).backward()
            optimizer.step()
    return head.eval()


@pytest.mark.parametrize('rule', [
    HeadRule(batch_size=8), HeadRule(batch_size=8, log_scale=1.3, normalise=True, momentum=0.5, seed=4),
    HeadRule(batch_size=8, multi_label=True, log_scale=-0.4), HeadRule(batch_size=64)],
    ids=['plain', 'scaled', 'multi-label', 'one-batch'])
@pytest.mark.parametrize('count', [17, 24, 30])
def test_grid_equals_heads_trained_one_after_another(count, rule):
    features, targets = rows(count, multi_label=rule.multi_label)
    start = tuple(value.double() for value in random_weights(3, 5, 0))
    rates, decays = [0.5, 0.5, 1e-3, 0.1], [0.0, 0.3, 1e-2, 1.0]
    grid = HeadGrid(*start, rates, decays, rule)
    for epoch in range(EPOCHS):
        grid.train_epoch(features, targets, epoch)
    logits = torch.cat(list(grid.logits(features)))
    for column, (lr, l2) in enumerate(zip(rates, decays)):
        head = train_alone(features, targets, start, lr, l2, rule)
        torch.testing.assert_close(grid.weight[column], head.linear.weight.detach(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(grid.bias[column], head.linear.bias.detach(), rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(grid.mean, head.batch_norm.running_mean)
        torch.testing.assert_close(grid.var, head.batch_norm.running_var)
        torch.testing.assert_close(logits[column].T, head(features).detach(), rtol=1e-9, atol=1e-9)


def test_blocks_and_parts_change_nothing(monkeypatch):
    features, targets = rows(50)
    start = random_weights(3, 5, 0)

    def train():
        grid = HeadGrid(*start, [0.1] * 5, [0.0, 0.1, 0.2, 0.3, 0.4], HeadRule(batch_size=8))
        for epoch in range(2):
            grid.train_epoch(features.float(), targets, epoch)
        return grid.weight.clone()

    whole = train()
    monkeypatch.setattr('clear.evaluation.elevater.heads.head_grid._CACHE_BYTES', 1)
    monkeypatch.setattr('clear.evaluation.elevater.heads.head_grid._ROWS_AT_ONCE', 16)
    torch.testing.assert_close(train(), whole)


def test_a_last_batch_of_one_row_is_left_out():
    assert [len(batch) for batch in head_batches(17, 8, 0, 0)] == [8, 8]
    assert [len(batch) for batch in head_batches(18, 8, 0, 0)] == [8, 8, 2]
    with pytest.raises(DataError, match='at least 2'):
        head_batches(1, 8, 0, 0)


def test_a_diverged_head_is_dropped_and_scores_0():
    features, targets = rows(40)
    grid = HeadGrid(*random_weights(3, 5, 0), [0.1, 0.1, 0.1, 0.1], [0.0, 1e30, 1e-3, 1e30], HeadRule(batch_size=4))
    alone = HeadGrid(*random_weights(3, 5, 0), [0.1, 0.1], [0.0, 1e-3], HeadRule(batch_size=4))
    for epoch in range(2):
        grid.train_epoch(features.float(), targets, epoch)
        alone.train_epoch(features.float(), targets, epoch)
    assert grid.alive == [0, 2]
    torch.testing.assert_close(grid.weight, alone.weight)
    scores = grid.scores(features.float(), targets, lambda logits, _: logits.flatten(1).sum(1) * 0 + 1)
    assert scores.tolist() == [1, 0, 1, 0]


def test_running_statistics_are_those_of_batch_norm():
    features, targets = rows(30)
    layer = nn.BatchNorm1d(5, affine=False).double()
    for batch in head_batches(30, 8, 0, 0):
        layer(features[batch])
    grid = HeadGrid(*(value.double() for value in random_weights(3, 5, 0)), [0.1], [0.0], HeadRule(batch_size=8))
    grid.train_epoch(features, targets, 0)
    torch.testing.assert_close(grid.mean, layer.running_mean)
    torch.testing.assert_close(grid.var, layer.running_var)


def test_a_head_of_class_embeddings_is_zero_shot_before_it_learns():
    features, _ = rows(40)
    vectors = functional.normalize(torch.randn(3, 5, generator=torch.Generator().manual_seed(1)), dim=1)
    head = BatchNormHead(*language_weights(vectors)).eval()
    cosines = functional.normalize(features.float(), dim=1) @ vectors.T
    assert torch.equal(head(features.float()).argmax(1), cosines.argmax(1))
    grid = HeadGrid(*language_weights(vectors), [0.1], [0.0], HeadRule())
    assert torch.equal(next(grid.logits(features.float()))[0].argmax(0), cosines.argmax(1))


def test_a_merged_projection_gives_the_logits_of_the_embedding():
    hidden, projection, vectors = torch.randn(7, 6), torch.randn(6, 4), torch.randn(3, 4)
    merged = BatchNormHead(*language_weights(vectors, projection), batch_norm=False)
    plain = BatchNormHead(*language_weights(vectors), batch_norm=False)
    assert merged.linear.weight.shape == (3, 6)
    torch.testing.assert_close(merged(hidden), plain(hidden @ projection))


def test_first_logit_scales():
    assert first_log_scale('none', 10) == 0
    assert first_log_scale('ln_cls', 100) == pytest.approx(1.5272, abs=1e-4)
    assert first_log_scale('clip', 10) == pytest.approx(2.6593, abs=1e-4)
    assert first_log_scale('pretrained', 10, 4.6) == 4.6
    with pytest.raises(ValueError, match='no logit scale'):
        first_log_scale('pretrained', 10)


def test_a_trained_scale_takes_a_gradient():
    head = BatchNormHead(*random_weights(3, 5, 0), train_scale=True)
    head(torch.randn(4, 5)).square().sum().backward()
    assert head.log_scale.grad is not None
