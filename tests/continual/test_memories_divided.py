"""Memories divided into groups: places of small groups go to the others, and a resumed one goes on alike."""

import pytest
import torch
from avalanche.training import storage_policy as stock
from toy_streams import built, domain_stream, train, uneven_stream

from clear.continual.buffers import (
    ClassBalancedBuffer,
    ClassBalancedBufferWithLogits,
    ExperienceBalancedBuffer,
    ParametricBuffer,
)
from clear.continual.buffers.balanced import share_out
from clear.continual.scenarios.base import TensorBucket, task_aware
from clear.core.errors import ConfigError

# Avalanche's own calls of deprecated names.
pytestmark = pytest.mark.filterwarnings('ignore:Call to deprecated function')


class Agent:
    """What a memory reads of a strategy."""

    device, eval_mb_size = 'cpu', 8

    def __init__(self, experience, number):
        self.experience = experience
        self.clock = type('Clock', (), dict(train_exp_counter=number))


class Bucket:
    def __init__(self, dataset):
        self.dataset = dataset


def buckets_of(counts):
    """A bucket for each {class: samples}; the one input of a sample is its number in the stream."""
    start, buckets = 0, []
    for by_class in counts:
        targets = torch.tensor([label for label, count in by_class.items() for _ in range(count)])
        buckets.append(TensorBucket(torch.arange(start, start + len(targets))[:, None].float(), targets))
        start += len(targets)
    return task_aware(buckets)


def held(buffer, counts):
    """Samples by group after every bucket."""
    sizes = []
    for number, dataset in enumerate(buckets_of(counts)):
        bucket = Bucket(dataset)
        buffer.post_adapt(Agent(bucket, number), bucket)
        sizes.append({group: len(part.buffer) for group, part in sorted(buffer.buffer_groups.items())})
    return sizes


def by_size(*sizes):
    return [{0: size} for size in sizes]


@pytest.mark.parametrize('max_size, sizes, places', [
    (10, [20], [10]), (10, [20, 20, 20], [4, 3, 3]), (10, [2, 20, 20], [2, 4, 4]), (10, [2, 5, 3], [2, 5, 3]),
    (10, [2, 5, 9], [2, 4, 4]), (11, [1, 3, 9, 9], [1, 3, 4, 3]), (10, [0, 20], [0, 10]), (10, [3, 3], [3, 3]),
    (10, [4, 4, 4], [4, 3, 3]), (5, [2, 2, 2], [2, 2, 1]), (3, [9, 9, 9, 9], [1, 1, 1, 0])])
def test_places_are_shared_out(max_size, sizes, places):
    assert share_out(max_size, dict(enumerate(sizes))) == dict(enumerate(places))


@pytest.mark.parametrize('sizes, rows', [
    ([2, 20, 20], [[2], [2, 8], [2, 4, 4]]), ([2, 5, 3], [[2], [2, 5], [2, 5, 3]]),
    ([2, 5, 3, 9], [[2], [2, 5], [2, 5, 3], [2, 3, 3, 2]]), ([20, 2, 20], [[10], [8, 2], [4, 2, 4]])])
def test_places_of_a_small_experience_go_to_the_others(sizes, rows):
    found = held(ExperienceBalancedBuffer(10), by_size(*sizes))
    assert [list(row.values()) for row in found] == rows
    grouped = held(ParametricBuffer(10, groupby='experience'), by_size(*sizes))
    assert [list(row.values()) for row in grouped] == rows


@pytest.mark.parametrize('make', [ExperienceBalancedBuffer, stock.ExperienceBalancedBuffer])
def test_legacy_loses_them_as_avalanche(make):
    legacy = dict(legacy=True) if make is ExperienceBalancedBuffer else {}
    found = held(make(10, **legacy), by_size(2, 20, 20))
    assert [list(row.values()) for row in found] == [[2], [2, 5], [2, 3, 3]]


@pytest.mark.parametrize('make', [ClassBalancedBuffer, lambda size: ParametricBuffer(size, groupby='class')])
def test_places_of_a_rare_class_go_to_the_others(make):
    counts = [{2: 20, 0: 1, 1: 20}, {3: 20}, {0: 9}]
    # Class 0 has 1 sample, then 10: with 10 places for four classes it gets 3.
    assert held(make(10), counts) == [{0: 1, 1: 5, 2: 4}, {0: 1, 1: 3, 2: 3, 3: 3}, {0: 3, 1: 3, 2: 2, 3: 2}]


def contents(buffer):
    data = buffer.buffer
    return [(int(data[row][0]), int(data[row][1]), int(data[row][2])) for row in range(len(data))]


@pytest.mark.parametrize('kind, counts', [
    ('ExperienceBalancedBuffer', by_size(9, 8, 12)), ('ClassBalancedBuffer', [{0: 9, 1: 8, 2: 9}] * 3)])
def test_where_every_group_fills_its_share_the_samples_are_avalanches(kind, counts):
    found = []
    for make in (getattr(stock, kind), globals()[kind]):
        torch.manual_seed(0)
        buffer = make(10)
        held(buffer, counts)
        found.append(contents(buffer))
    assert found[0] == found[1] and len(found[0]) == 10


def test_samples_of_an_experience_are_kept_with_the_same_probability():
    counts, runs = torch.zeros(12), 300
    for seed in range(runs):
        torch.manual_seed(seed)
        buffer = ExperienceBalancedBuffer(6)
        held(buffer, by_size(2, 10))
        counts[[number for number, *_ in contents(buffer)]] += 1
    assert (counts[:2] == runs).all() and (counts[2:] / runs - 0.4).abs().max() < 0.12  # four deviations


def test_fewer_places_than_experiences_keep_a_uniform_choice_of_them(caplog):
    counts, runs = torch.zeros(10), 150
    for seed in range(runs):
        torch.manual_seed(seed)
        buffer = ExperienceBalancedBuffer(3)
        held(buffer, by_size(*[2] * 10))
        assert len(buffer.buffer) == 3
        counts[[task for *_, task in contents(buffer)]] += 1
    assert (counts / runs - 0.3).abs().max() < 0.15  # four deviations; Avalanche's are the first three
    assert caplog.text.count('3 places for 4 groups') == runs


def test_herded_exemplars_are_cut_from_the_end():
    class FirstHalfFirst(stock.ExemplarsSelectionStrategy):
        """Prefers even numbers, then odd ones; called again on a part of them it would mix them anew."""

        def make_sorted_indices(self, strategy, data):
            calls.append(len(data))
            return sorted(range(len(data)), key=lambda row: (int(data[row][0]) % 2, row))

    calls = []
    buffer = ParametricBuffer(6, groupby='experience', selection_strategy=FirstHalfFirst())
    assert held(buffer, by_size(6, 6, 6))[-1] == {1: 2, 2: 2, 3: 2}
    assert [number for number, *_ in contents(buffer)] == [0, 2, 6, 8, 12, 14] and calls == [6, 6, 6]


def test_resizing_shares_out_again():
    buffer = ExperienceBalancedBuffer(10)
    held(buffer, by_size(2, 20, 20))
    buffer.resize(None, 7)
    assert [len(group.buffer) for group in buffer.buffer_groups.values()] == [2, 3, 2]


def test_a_memory_with_logits_shares_out_as_well():
    stream = list(uneven_stream([3, 24]).train_stream)
    strategy = built('DER', dict(mem_size=12, batch_size_mem=4))
    sizes = []
    for experience in stream:
        train(strategy, [experience])
        sizes.append({label: len(group.buffer) for label, group in strategy.storage_policy.buffer_groups.items()})
    assert sizes == [{0: 1, 1: 1, 2: 1}, {0: 3, 1: 3, 2: 3, 3: 3}]
    assert isinstance(strategy.storage_policy, ClassBalancedBufferWithLogits)


@pytest.mark.parametrize('kind, options', [
    ('Replay', dict(mem_size=12)), ('GDumb', dict(mem_size=12)), ('DER', dict(mem_size=12)),
    ('ER_ACE', dict(mem_size=12)), ('MIR', dict(mem_size=12, batch_size_mem=4, subsample=6)),
    ('CoPE', dict(mem_size=12)), ('SCR', dict(mem_size=12))])
def test_every_strategy_with_such_a_memory_has_both_forms(kind, options):
    for legacy in (False, True):
        strategy = built(kind, dict(**options, legacy=legacy))
        owners = [part for part in (strategy, *strategy.plugins) if hasattr(part, 'storage_policy')]
        assert [owner.storage_policy.legacy for owner in owners] == [legacy]


@pytest.mark.parametrize('kind, key', [('Replay', 'storage_policy'), ('GDumb', 'buffer')])
def test_legacy_beside_a_memory_is_refused(kind, key):
    memory = dict(type='ClassBalancedBuffer', max_size=9)
    with pytest.raises(ConfigError, match=f'legacy is about the default memory; set it in {key}'):
        built(kind, {key: memory, 'legacy': True})
    assert built(kind, {key: {**memory, 'legacy': True}})


@pytest.mark.parametrize('kind', ['ExperienceBalancedBuffer', 'ClassBalancedBuffer', 'ParametricBuffer'])
@pytest.mark.parametrize('size', [0, -5, 600.0, float('nan')])
def test_a_size_that_is_none_is_refused(kind, size):
    with pytest.raises(ValueError, match='max_size is .*at least 1'):
        globals()[kind](size)


def test_replay_on_equal_buckets_is_as_before():
    losses = [train(built('Replay', dict(mem_size=9, legacy=legacy)), domain_stream(3).train_stream)
              for legacy in (False, True)]
    assert losses[0] == losses[1]
