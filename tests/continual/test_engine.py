"""The mix-in: random numbers, training averages, stopping, and the arithmetic of several processes."""

import copy
import random

import numpy as np
import pytest
import torch
from tiny_runs import built, config, same_weights, stop_in, train, weights, write_stream
from torch import nn

from clear.continual.training.counts import sums_of_batch
from clear.continual.training.loaders import IndexLoader
from clear.continual.training.mixin import EngineMixin
from clear.continual.training.parallel import average_batch_norm
from clear.continual.training.traits import Traits
from clear.core.errors import Interrupted, TrainingError
from clear.core.seeding import derive_seed, seed_everything


@pytest.fixture(scope='module')
def stream(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


def batches_of(runner):
    """Train; the rows of every iteration as (experience, epoch, inputs)."""
    seen, after = [], runner._on_iteration

    def note(strategy):
        after(strategy)
        seen.append((strategy.clock.train_exp_counter, strategy.clock.train_exp_epochs, strategy.mb_x.tolist()))

    runner._on_iteration = note
    runner.train()
    return seen


# Random numbers


def test_sample_order_depends_on_seed_experience_and_epoch_alone(stream):
    first = batches_of(built(config(stream)))
    runner = built(config(stream, optimizer=dict(type='Adam', lr=0.3)))
    torch.manual_seed(999)
    np.random.seed(7)
    random.seed(8)
    assert batches_of(runner) == first
    other = batches_of(built(config(stream) | dict(seed=4)))
    assert other != first and len(other) == len(first)
    # Every epoch shows all rows of its bucket once, in an order of its own.
    epochs = {(e, p): [row for at, ep, rows in first if (at, ep) == (e, p) for row in rows]
              for e in range(3) for p in range(2)}
    for (experience, _), rows in epochs.items():
        assert sorted(rows) == sorted(runner.info.train[experience].inputs.tolist())
    assert epochs[0, 0] != epochs[0, 1]


def test_order_is_that_of_the_documented_seeds(stream):
    """What a plain script has to do to see the same batches."""
    runner = built(config(stream))
    seen = batches_of(runner)
    for experience in range(3):
        data = runner.info.train[experience].inputs
        for epoch in range(2):
            seed_everything(derive_seed(3, 'epoch', experience, epoch))
            # A DataLoader draws the seed of its workers, then the seed of its sampler.
            torch.empty((), dtype=torch.int64).random_()
            generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
            order = torch.randperm(28, generator=generator)
            expected = [data[rows].tolist() for rows in order.split(8)]
            assert [rows for at, ep, rows in seen if (at, ep) == (experience, epoch)] == expected


def test_augmentations_are_told_where_training_stands(stream):
    runner = built(config(stream))
    context, told = runner.info.context, set()

    def note(strategy):
        told.add((context.seed, context.experience, context.epoch, strategy.clock.train_exp_counter,
                  strategy.clock.train_exp_epochs))

    runner.strategy.attach(seed=3, context=context, on_iteration=note)
    runner.strategy.train(runner.experiences, eval_streams=[])
    assert told == {(3, i, epoch, i, epoch) for i in range(3) for epoch in range(2)}


# Averages


def test_epoch_loss_and_accuracy_are_means_over_samples(stream):
    # With a rate of 0 the model does not change, so the averages are those of the whole bucket.
    runner = built(config(stream, optimizer=dict(type='SGD', lr=0.0)))
    torch.nn.init.normal_(runner.model.head.fc.weight, generator=torch.Generator().manual_seed(0))
    epochs = []
    runner.strategy.attach(seed=0, on_epoch=lambda strategy: epochs.append((strategy.epoch_loss,
                                                                            strategy.epoch_accuracy)))
    runner.strategy.train(runner.experiences, eval_streams=[])
    expected = []
    for bucket in runner.info.train:
        loss = correct = 0
        for x, y in bucket:
            logits = runner.model(x[None])[0].detach().double()
            loss += float(logits.exp().sum().log() - logits[y]) / len(bucket)
            correct += int(logits.argmax()) == y
        expected += [(loss, correct / len(bucket))] * 2
    np.testing.assert_allclose(epochs, expected, rtol=1e-6)


def test_the_reported_loss_includes_the_terms_of_the_strategy(stream):
    plain, strong = (train(config(stream, 'EWC', ewc_lambda=value, mode='separate', decay_factor=None))
                     for value in (0.0, 10.0))
    assert plain.record.train_log[0] == strong.record.train_log[0]
    assert strong.record.train_log[1]['loss'] > plain.record.train_log[1]['loss']


@pytest.mark.parametrize('rates', [dict(lr=3e38), dict(lr=1.0, weight_decay=3e38), dict(lr=1.0, momentum=3e38)])
def test_a_loss_that_is_not_finite_stops_the_run(rates, stream):
    with pytest.raises(TrainingError, match=r'training loss is (nan|inf) in experience 0, epoch [01]. Try a smaller'):
        train(config(stream, optimizer=dict(type='SGD', **rates)))


# Stopping


@pytest.mark.parametrize('experience, iteration', [(0, 1), (1, 5), (2, 8)])
def test_a_stop_comes_at_the_end_of_the_iteration(experience, iteration, stream):
    runner = built(config(stream))
    stop_in(runner, experience, iteration)
    with pytest.raises(Interrupted, match='continue with --resume'):
        runner.train()
    clock = runner.strategy.clock
    assert (clock.train_exp_counter, clock.train_exp_iterations) == (experience, iteration)
    assert len([row for row in runner.record.acc_matrix if row[0] is not None]) == experience


# Several processes: rows


@pytest.mark.parametrize('world_size', [1, 2, 3, 5])
@pytest.mark.parametrize('sizes', [(8, 4), (17, 8), (7, 5), (1, 1)])
def test_shards_are_the_rows_of_each_batch(world_size, sizes, stream):
    count, batch_size = sizes
    bucket = built(config(stream)).experiences[0].dataset.subset(list(range(count)))
    batches = [rows.tolist() for rows in torch.arange(count).split(batch_size)]
    inputs = [bucket[row][0].tolist() for row in range(count)]
    per_rank, counts = [], []
    for rank in range(world_size):
        loader = IndexLoader([bucket], [batch_size], shuffle=False, shard=(rank, world_size))
        assert len(loader) == len(batches)
        iterator, rows, shards = iter(loader), [], []
        for batch in iterator:
            rows.append([inputs.index(sample) for sample in batch[0].tolist()])
            shards.append(iterator.shard_rows)
        per_rank.append(rows)
        counts.append(shards)
    for number, batch in enumerate(batches):
        assert all(count[number][1] == len(batch) for count in counts)
        assert sum(count[number][0] for count in counts) == len(batch)
        real = [rows[number] for rows, count in zip(per_rank, counts) if count[number][0]]
        assert sorted(row for rows in real for row in rows) == batch
        assert real[0] == batch[::world_size]
        # A rank without a row takes the first of the batch, with weight 0.
        idle = [rows[number] for rows, count in zip(per_rank, counts) if not count[number][0]]
        assert idle == [batch[:1]] * max(0, world_size - len(batch))


def as_rank(patch, rank, world_size):
    patch.setattr('clear.core.dist.rank', lambda: rank)
    patch.setattr('clear.core.dist.world_size', lambda: world_size)


@pytest.mark.parametrize('world_size', [2, 3])
@pytest.mark.parametrize('num_workers', [0, 2])
def test_loaders_of_the_ranks_share_the_batches_of_one_process(world_size, num_workers, stream, monkeypatch):
    runner = built(config(stream, train_mb_size=9))  # 28 rows: 9, 9, 9, 1
    strategy = runner.strategy
    strategy.attach(seed=0, mode='shard')
    strategy.is_training = True

    def epoch(rank, world_size):
        as_rank(monkeypatch, rank, world_size)
        strategy.experience = runner.experiences[0]
        strategy.train_dataset_adaptation()
        seed_everything(11)
        strategy.make_train_dataloader(num_workers=num_workers if world_size > 1 else 0)
        if num_workers:
            strategy.dataloader.blocks = None  # sample by sample, as images are read
        iterator = iter(strategy.dataloader)
        batches, shards = [], []
        for batch in iterator:
            batches.append(batch[0].tolist())
            shards.append(iterator.shard_rows)
        return batches, shards, torch.rand(1).item()

    whole, _, number = epoch(0, 1)
    assert [len(batch) for batch in whole] == [9, 9, 9, 1]
    ranks = [epoch(rank, world_size) for rank in range(world_size)]
    assert {number} == {after for *_, after in ranks}  # every rank's random numbers stay the same
    for position, batch in enumerate(whole):
        for rank, (batches, shards, _) in enumerate(ranks):
            own = batch[rank::world_size]
            assert shards[position] == (len(own), len(batch))
            assert batches[position] == (own or batch[:1])


# Several processes: gradients


class Template:
    """What the backward pass needs of a strategy."""

    def backward(self):
        self.loss.backward()


class OneRank(EngineMixin, Template, Traits):
    def __init__(self, model, shard, inputs, targets):
        self.model = model
        self.mode, self.scaler, self.device = 'shard', None, 'cpu'
        self._num_rows, self._batch_sums = shard, None
        self.mb_output, self.mb_y = model(inputs), targets
        self.loss = nn.functional.cross_entropy(self.mb_output, targets)


def gradient_by_loop(model, inputs, targets):
    """Mean over the samples of the gradient of each sample's cross-entropy."""
    total = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in model.parameters()]
    for x, y in zip(inputs, targets):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        for part, slope in zip(total, torch.autograd.grad(loss, list(model.parameters()))):
            part += slope.double() / len(inputs)
    return total


@pytest.mark.parametrize('world_size', [1, 2, 3])
@pytest.mark.parametrize('size', [1, 2, 7, 8])
@pytest.mark.parametrize('penalty', [0.0, 0.5])
def test_summed_gradients_are_those_of_the_whole_batch(world_size, size, penalty, monkeypatch):
    torch.manual_seed(size)
    model, inputs, targets = nn.Linear(3, 4), torch.randn(size, 3), torch.randint(4, (size,))
    expected = gradient_by_loop(model, inputs, targets)
    for part, parameter in zip(expected, model.parameters()):
        part += 2 * penalty * parameter.detach().double()  # a term that does not depend on the batch, as EWC's
    summed, sums, reduced = [torch.zeros_like(part) for part in expected], torch.zeros(4), []
    monkeypatch.setattr('clear.core.dist.sum_flat', lambda tensors: reduced.append(len(list(tensors))))
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        own = list(range(size))[rank::world_size]
        rows = own or [0]
        strategy = OneRank(copy.deepcopy(model), (len(own), size), inputs[rows], targets[rows])
        strategy.loss = strategy.loss + penalty * sum((value**2).sum() for value in strategy.model.parameters())
        strategy.backward()
        sums += sums_of_batch(strategy._batch_loss, strategy._judged_output(), strategy.mb_y, len(own)) \
            if world_size == 1 else strategy._batch_sums
        for part, parameter in zip(summed, strategy.model.parameters()):
            part += parameter.grad.double()
    for part, wanted in zip(summed, expected):
        torch.testing.assert_close(part, wanted, rtol=1e-5, atol=1e-7)
    # Weight, bias, and the sums of the log, together.
    assert reduced == ([3] * world_size if world_size > 1 else [])
    whole = nn.functional.cross_entropy(model(inputs), targets)
    whole += penalty * sum((value**2).sum() for value in model.parameters())
    correct = (model(inputs).argmax(1) == targets).sum().item()
    assert sums.tolist() == pytest.approx([whole.item() * size, size, correct, size], rel=1e-5)


def test_batch_norm_statistics_are_averaged_over_ranks(monkeypatch):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, track_running_stats=False))
    model[0].running_mean.copy_(torch.tensor([1.0, 3.0]))
    average_batch_norm(model)  # one process: nothing to do
    assert model[0].running_mean.tolist() == [1.0, 3.0]
    monkeypatch.setattr('clear.core.dist.world_size', lambda: 2)

    def add_the_other_rank(buffers):
        mean, variance = buffers
        mean += torch.tensor([3.0, 5.0])
        variance += torch.tensor([2.0, 4.0])

    monkeypatch.setattr('clear.core.dist.sum_flat', add_the_other_rank)
    average_batch_norm(model)
    assert model[0].running_mean.tolist() == [2.0, 4.0] and model[0].running_var.tolist() == [1.5, 2.5]


def test_a_seed_gives_the_same_run_and_another_seed_another(stream):
    one, again, other = (train(config(stream) | dict(seed=seed)) for seed in (1, 1, 2))
    assert same_weights(weights(one), weights(again)) and not same_weights(weights(one), weights(other))
