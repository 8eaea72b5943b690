"""Order of samples in pretraining: one global order for any number of processes, from any batch on."""

import pytest
import torch
import torch.distributed as torch_dist
from ranks import run_ranks

from clear.core import dist
from clear.core.errors import ConfigError
from clear.datasets.loaders.samplers import EpochSampler, GlobalBatchSampler


def batches(count, batch_size, *, epoch=0, start=0, **options):
    sampler = EpochSampler(range(count), seed=3)
    sampler.set_epoch(epoch)
    batch_sampler = GlobalBatchSampler(sampler, batch_size, **options)
    batch_sampler.start = start
    return list(batch_sampler)


@pytest.fixture
def as_rank(monkeypatch):
    def set_rank(rank, world_size):
        monkeypatch.setattr(dist, 'rank', lambda: rank)
        monkeypatch.setattr(dist, 'world_size', lambda: world_size)

    return set_rank


def test_every_sample_once_with_the_epoch():
    sampler = EpochSampler(range(50), seed=3)
    orders = []
    for epoch in (0, 1, 7):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert {each for each, _ in keys} == {epoch} and sorted(index for _, index in keys) == list(range(50))
        orders.append([index for _, index in keys])
    assert len(sampler) == 50 and orders[0] != orders[1] != orders[2] and orders[0] != list(range(50))


def test_order_follows_from_seed_and_epoch_alone():
    first = list(EpochSampler(range(50), seed=3))
    torch.manual_seed(9)
    sampler = EpochSampler(range(50), seed=3)
    sampler.set_epoch(4)
    list(sampler)
    sampler.set_epoch(0)
    state = torch.get_rng_state()
    assert list(sampler) == first and torch.equal(torch.get_rng_state(), state)
    assert list(EpochSampler(range(50), seed=4)) != first
    assert list(EpochSampler(range(4), seed=3, shuffle=False)) == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_a_later_epoch_does_not_change_an_iteration():
    sampler = EpochSampler(range(6), seed=3)
    batch_sampler = GlobalBatchSampler(sampler, 2)
    expected, iterator = list(batch_sampler), iter(batch_sampler)
    first = next(iterator)
    sampler.set_epoch(1)
    assert [first, *iterator] == expected


@pytest.mark.parametrize('count, batch_size, drop_last, expected', [
    (10, 3, True, [3, 3, 3]), (10, 3, False, [3, 3, 3, 1]), (9, 3, False, [3, 3, 3]), (2, 3, False, [2]),
    (1, 1, True, [1])])
def test_sizes_of_batches(count, batch_size, drop_last, expected):
    found = batches(count, batch_size, drop_last=drop_last)
    assert [len(batch) for batch in found] == expected
    sampler = EpochSampler(range(count), seed=3)
    assert [key for batch in found for key in batch] == list(sampler)[:sum(expected)]
    assert len(GlobalBatchSampler(sampler, batch_size, drop_last)) == len(expected)


@pytest.mark.parametrize('world_size, batch_size', [(2, 6), (3, 4), (4, 3)])
def test_parts_of_ranks_are_the_batch_of_one_process(world_size, batch_size, as_rank):
    whole = batches(40, 12, epoch=2)
    parts = []
    for rank in range(world_size):
        as_rank(rank, world_size)
        parts.append(batches(40, batch_size, epoch=2))
    assert [sum(each, []) for each in zip(*parts, strict=True)] == whole and len(whole) == 3


@pytest.mark.parametrize('count, tail', [(12, 0), (13, 0), (14, 1), (17, 2)])
def test_last_batch_is_of_one_size_on_all_ranks(count, tail, as_rank):
    order = list(EpochSampler(range(count), seed=3))
    last = []
    for rank in (0, 1):
        as_rank(rank, 2)
        found = batches(count, 3, drop_last=False)
        assert len(found) == 2 + (tail > 0)
        last += found[2] if tail else []
    assert last == order[12:12 + 2 * tail]


@pytest.mark.parametrize('start', [0, 1, 4, 5])
def test_start_gives_the_tail_of_the_epoch(start):
    assert batches(50, 10, start=start) == batches(50, 10)[start:]


def test_start_counts_once_and_not_in_the_length():
    sampler = GlobalBatchSampler(EpochSampler(range(50), seed=3), 10)
    sampler.start = 3
    assert len(sampler) == 5
    iter(sampler)  # as a loader with workers does before it iterates
    assert len(list(sampler)) == 2 and sampler.start == 0
    assert len(sampler) == len(list(sampler)) == 5
    for start in (-1, 6):
        sampler.start = start
        with pytest.raises(ValueError, match=f'start is {start}, expected 0 ... 5'):
            next(iter(sampler))


def test_too_few_samples(as_rank):
    with pytest.raises(ConfigError, match='3 samples are fewer than one batch on each of 1 processes, 1 x 4 = 4'):
        batches(3, 4)
    as_rank(1, 2)
    with pytest.raises(ConfigError, match='2 x 4 = 8'):
        batches(7, 4)
    with pytest.raises(ConfigError, match='fewer than one for each of 2 processes'):
        batches(1, 4, drop_last=False)
    for batch_size in (0, 2.0):
        with pytest.raises(ConfigError, match='batch_size is'):
            batches(7, batch_size)


def _draw(rank):
    sampler = EpochSampler(range(20), seed=None)  # drawn once, for all
    own = torch.tensor(list(GlobalBatchSampler(sampler, 4)))
    both = [torch.empty_like(own) for _ in range(2)]
    torch_dist.all_gather(both, own)
    return torch.cat(both, 1), torch.tensor(list(sampler))


def test_two_processes(tmp_path):
    (found, order), (again, other) = run_ranks(_draw, 2, tmp_path)
    assert torch.equal(found, again) and torch.equal(order, other)
    assert torch.equal(found.reshape(16, 2), order[:16])
