"""Translated loaders against Avalanche's and torch's own: the same batches, and the same random numbers afterwards."""

import gc
import multiprocessing
from itertools import islice

import pytest
import torch
from avalanche.benchmarks.utils.data_loader import (
    GroupBalancedDataLoader,
    GroupBalancedInfiniteDataLoader,
    MultiDatasetDataLoader,
    ReplayDataLoader,
    TaskBalancedDataLoader,
)
from avalanche.benchmarks.utils.utils import concat_datasets
from avalanche.models import SimpleMLP
from avalanche.training.utils import cycle
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from clear.continual.scenarios.base import TensorBucket, task_aware
from clear.continual.training.loaders import BatchIterator, IndexLoader, SeedTape, translate, translate_iterator

SIZES = (17, 12, 4)


class Images(Dataset):
    """Samples that are made one by one, as images are."""

    def __init__(self, bucket):
        self.bucket, self.targets = bucket, bucket.targets

    def __len__(self):
        return len(self.bucket)

    def __getitem__(self, index):
        return self.bucket[index]


def data(sizes=SIZES, images=False):
    """One data set per size; row i of data set e holds 100 e + i."""
    buckets = [TensorBucket(100.0 * number + torch.arange(float(size))[:, None], torch.arange(size) % 3)
               for number, size in enumerate(sizes)]
    return task_aware([Images(bucket) for bucket in buckets] if images else buckets)


def plain(dataset, **options):
    return DataLoader(dataset, collate_fn=dataset.collate_fn, **options)


# Each makes a loader from three data sets.
LOADERS = {
    'task balanced': lambda d: TaskBalancedDataLoader(concat_datasets(d), batch_size=5, shuffle=True),
    'task balanced, one task': lambda d: TaskBalancedDataLoader(d[0], batch_size=5, shuffle=True),
    'task balanced, no repeats': lambda d: TaskBalancedDataLoader(concat_datasets(d), batch_size=6, shuffle=True,
                                                                  oversample_small_groups=False),
    'task balanced, repeats': lambda d: TaskBalancedDataLoader(concat_datasets(d), batch_size=6, shuffle=True,
                                                               oversample_small_groups=True),
    'group balanced': lambda d: GroupBalancedDataLoader(d, batch_size=7, shuffle=True, oversample_small_groups=True),
    'in order': lambda d: GroupBalancedDataLoader(d, batch_size=7, shuffle=False, oversample_small_groups=True),
    'drop_last': lambda d: GroupBalancedDataLoader(d, batch_size=9, shuffle=True, oversample_small_groups=True,
                                                   drop_last=True),
    # The memory of 4 is drawn anew in mid-epoch.
    'replay': lambda d: ReplayDataLoader(d[0], d[2], batch_size=3, batch_size_mem=3, shuffle=True,
                                         oversample_small_tasks=True),
    'replay, memory by task': lambda d: ReplayDataLoader(
        d[0], concat_datasets(d[1:]), batch_size=3, batch_size_mem=4, task_balanced_dataloader=True, shuffle=True,
        oversample_small_tasks=True),
    'replay, no repeats': lambda d: ReplayDataLoader(d[0], d[2], batch_size=3, batch_size_mem=3, shuffle=True),
    'larger memory': lambda d: ReplayDataLoader(d[2], d[0], batch_size=3, batch_size_mem=3, shuffle=True),
    'several': lambda d: MultiDatasetDataLoader(d, [2, 3, 1], shuffle=True, oversample_small_datasets=True),
    'plain, shuffled': lambda d: plain(d[0], batch_size=5, shuffle=True),
    'plain, in order': lambda d: plain(d[0], batch_size=5),
    'plain, drop_last': lambda d: plain(d[0], batch_size=5, shuffle=True, drop_last=True),
    'plain, one batch': lambda d: plain(d[0], batch_size=50, shuffle=True),
    'plain, of parts': lambda d: plain(concat_datasets([d[2], d[0].subset([3, 1])]), batch_size=4, shuffle=True),
}


def lists(batches):
    return [[column.tolist() for column in batch] for batch in batches]


def passes(loader, seed=3, count=2):
    """Batches of some passes, and the random number after each."""
    torch.manual_seed(seed)
    found = []
    for _ in range(count):
        found += [lists(loader), torch.rand(1).item()]
    return found


@pytest.mark.parametrize('images', [False, True], ids=['tensors', 'samples'])
@pytest.mark.parametrize('name', LOADERS)
def test_batches_and_random_numbers_are_those_of_the_original(name, images):
    original, translated = LOADERS[name](data(images=images)), translate(LOADERS[name](data(images=images)))
    assert type(translated) is IndexLoader and (translated.blocks is None) == images
    expected = passes(original)
    assert len(expected[0]) == len(translated) and passes(translated) == expected
    if name not in ('in order', 'plain, in order', 'plain, one batch'):
        assert expected[0] != expected[2]  # another order in the second pass


def test_the_memory_is_drawn_anew_in_mid_epoch():
    """What makes the case 'replay' one: without it the number of draws would not matter."""
    torch.manual_seed(3)
    batches = lists(translate(LOADERS['replay'](data())))
    memory = [value for batch in batches for [value] in batch[0] if value >= 200]
    draws = [tuple(memory[start:start + 4]) for start in (0, 4, 8)]
    assert all(set(draw) == {200.0, 201.0, 202.0, 203.0} for draw in draws) and len(set(draws)) > 1


@pytest.mark.parametrize('make', [lambda d: d[:2], lambda d: [d[2], d[2].subset([])]], ids=['two', 'one is empty'])
def test_endless_loaders(make):
    def loader():
        return GroupBalancedInfiniteDataLoader(make(data()), batch_size=6, shuffle=True)

    translated = translate(loader())
    assert type(translated) is IndexLoader and len(translated) >= 10**10
    if all(len(dataset) for dataset in make(data())):
        torch.manual_seed(0)
        expected = lists(islice(iter(loader()), 15)), torch.rand(1)
        torch.manual_seed(0)
        assert (lists(islice(iter(translated), 15)), torch.rand(1)) == expected
    else:
        first = lists(islice(iter(translated), 4))
        assert {value for batch in first for [value] in batch[0]} == {200.0, 201.0, 202.0, 203.0}


def test_a_loader_over_nothing_is_empty():
    empty = data()[0].subset([])
    assert lists(IndexLoader([empty], [4], shuffle=True)) == []
    assert lists(IndexLoader([empty, empty], [4, 4], shuffle=True, terminating=None)) == []


def test_samples_without_targets_attribute_are_collated_by_their_own():
    """torch's loader over a plain data set keeps its columns."""
    dataset = TensorDataset(torch.arange(7.0), torch.arange(7))
    loader = DataLoader(dataset, batch_size=3, shuffle=True)
    assert passes(translate(loader)) == passes(loader)


# Iterators that strategies keep


@pytest.mark.parametrize('kind', ['cycle', 'iter'])
def test_a_generator_that_has_not_begun_is_replaced(kind):
    def make(seed):
        torch.manual_seed(seed)
        loader = LOADERS['group balanced'](data())
        return cycle(loader) if kind == 'cycle' else iter(loader)

    count = 9 if kind == 'cycle' else 6  # more than one pass, or all of it
    original = make(1)
    expected = lists(islice(original, count)), torch.rand(1)
    translated = translate_iterator(make(1))
    assert type(translated) is BatchIterator
    assert (lists(islice(translated, count)), torch.rand(1)) == expected
    if kind == 'iter':
        with pytest.raises(StopIteration):
            next(translated)


def test_what_is_no_known_loader_stays():
    datasets = data()

    class Weighted(RandomSampler):
        pass

    begun = cycle(LOADERS['group balanced'](datasets))
    next(begun)
    model = SimpleMLP()
    others = [DataLoader(datasets[0], batch_size=2, sampler=Weighted(datasets[0])),
              DataLoader(datasets[0], batch_size=2, sampler=RandomSampler(datasets[0], replacement=True)),
              DataLoader(datasets[0], batch_size=2, sampler=RandomSampler(datasets[0], num_samples=3)),
              DataLoader(datasets[0], batch_size=2, shuffle=True, generator=torch.Generator()),
              DataLoader(datasets[0], batch_size=2, generator=torch.Generator()),
              DataLoader(datasets[0], batch_size=2, sampler=RandomSampler(datasets[0], generator=torch.Generator())),
              DataLoader(datasets[0], batch_size=None), [1, 2], None, model]
    assert all(translate(other) is other for other in others)
    assert translate_iterator(begun) is begun and translate_iterator(model) is model
    numbers = (number for number in [1, 2])
    assert translate_iterator(numbers) is numbers and next(numbers) == 1


# Going on in the middle


def tail(loader, state, random_state):
    """Batches from a state on and the random number behind them, in other surroundings."""
    torch.manual_seed(999)
    loader.resume(state)
    iterator = iter(loader)
    torch.set_rng_state(random_state)
    return lists(iterator), torch.rand(1)


@pytest.mark.parametrize('name, num_workers', [
    *[(name, number) for name in ('replay', 'task balanced, repeats', 'drop_last', 'plain, in order')
      for number in (None, 0)], ('replay', 2)],
    ids=lambda value: {None: 'tensors', 0: 'samples', 2: 'workers'}.get(value, value))
def test_a_pass_goes_on_at_every_position(name, num_workers):
    def make():
        loader = translate(LOADERS[name](data(images=num_workers is not None)))
        loader.num_workers = num_workers or 0
        return loader

    torch.manual_seed(5)
    whole = lists(make()), torch.rand(1)
    positions = range(len(whole[0]) + 1)
    for position in positions if not num_workers else (1, positions[-1]):  # workers take time to start
        torch.manual_seed(5)
        iterator = iter(make())
        head = lists(islice(iterator, position))
        state, random_state = iterator.state_dict(), torch.get_rng_state()
        assert state['position'] == position and all(type(seed) is int for seed in state['seeds'])
        rest, number = tail(make(), state, random_state)
        assert (head + rest, number) == whole


def test_an_iterator_that_repeats_goes_on_at_every_position():
    def make():
        return translate_iterator(cycle(LOADERS['group balanced'](data())))

    torch.manual_seed(5)
    whole = lists(islice(make(), 14))
    for position in range(14):
        torch.manual_seed(5)
        iterator = make()
        list(islice(iterator, position))
        state, random_state = iterator.state_dict(), torch.get_rng_state()
        torch.manual_seed(999)
        other = BatchIterator(make().loader, state)
        torch.set_rng_state(random_state)
        assert lists(islice(other, 14 - position)) == whole[position:]


def test_resuming_is_for_the_next_pass_only():
    loader = translate(LOADERS['plain, shuffled'](data()))
    iterator = iter(loader)
    list(islice(iterator, 3))
    loader.resume(iterator.state_dict())
    assert len(list(loader)) == 1 and len(list(loader)) == 4


def test_an_end_stays_the_end():
    iterator = iter(translate(LOADERS['plain, shuffled'](data())))
    assert len(list(iterator)) == 4
    assert list(BatchIterator(iterator.loader, iterator.state_dict())) == []


@pytest.mark.parametrize('shard', [None, (1, 2)])
def test_workers_of_a_pass_that_is_left_go_at_once(shard):
    """Kept until the next garbage collection they would be inherited by the workers of the next pass."""
    loader = LOADERS['plain, shuffled'](data(images=True))
    loader = IndexLoader([loader.dataset], [3], shuffle=True, num_workers=2, shard=shard)
    gc.disable()
    try:
        for _ in loader:
            workers = multiprocessing.active_children()
            break
        assert len(workers) == 2 and loader.iterator is None
        assert not multiprocessing.active_children()
    finally:
        gc.enable()


def test_a_tape_hands_out_what_was_drawn_before():
    torch.manual_seed(0)
    first = SeedTape()
    drawn = [first.draw() for _ in range(3)]
    torch.manual_seed(0)
    expected = [int(torch.empty((), dtype=torch.int64).random_()) for _ in range(3)]
    state = torch.get_rng_state()
    second = SeedTape(first.seeds)
    assert [second.draw() for _ in range(3)] == drawn == expected
    assert torch.equal(torch.get_rng_state(), state)  # nothing was drawn
    assert second.draw() not in drawn and first.seeds == drawn


# Several processes: the loader is told the sizes of one of them


def test_the_longest_data_set_ends_a_pass_under_several_processes():
    """Avalanche divides batches among processes and then takes another data set for the longest."""
    alone = translate(LOADERS['several'](data()))
    original = LOADERS['several'](data())
    original.termination_dataset = 2
    translated = translate(original)
    assert translated.terminating == alone.terminating == 0
    assert passes(translated) == passes(alone)
