"""The order of tar shards: that of a plain loop, dealt to processes and workers, from any batch on."""

import itertools
import tarfile

import numpy as np
import pytest
import torch
from pair_shards import COUNTS, TO_TENSOR, write_numbered
from ranks import run_ranks
from torch.utils.data import DataLoader

from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.datasets import ImageTextPairs, ShardBatchSampler, ShardSampler, WebDatasetPairs

pytest.importorskip('webdataset')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_numbered(tmp_path_factory.mktemp('shards'))


class Counted:
    def __init__(self, counts=COUNTS):
        self.counts = np.array(counts)

    def __len__(self):
        return int(self.counts.sum())

    def shard_counts(self):
        return self.counts


def batches(rank=0, world=1, workers=0, batch_size=4, drop_last=False, epoch=0, start=0, counts=COUNTS, **options):
    sampler = ShardSampler(Counted(counts), seed=3, **options)
    sampler.set_epoch(epoch)
    found = ShardBatchSampler(sampler, batch_size, drop_last)
    found._rank, found._world, found.num_workers, found.start = rank, world, workers, start
    given = list(found)
    assert len(given) == len(found) - start
    return given


def by_loops(tars, rank, world, workers, batch_size, epoch, buffer_size, seed=3):
    """Captions of the batches of a process, by reading whole shards with Python's tarfile."""
    order = torch.randperm(len(tars), generator=torch.Generator().manual_seed(derive_seed('shards', seed, 0, epoch)))
    line = []
    for shard in order.tolist():
        with tarfile.open(tars[shard]) as tar:
            texts = [tar.extractfile(each).read().decode() for each in tar if each.name.endswith('.txt')]
        generator = torch.Generator().manual_seed(derive_seed('buffer', seed, 0, epoch, shard))
        line += zip(torch.randint(2**62, (len(texts),), generator=generator).tolist(), texts)
    share = len(line) // world
    own = line[rank * share:(rank + 1) * share]
    sizes = [min(batch_size, share - start) for start in range(0, share, batch_size)]
    given = [[] for _ in sizes]
    for worker in range(workers):
        mine = range(worker, len(sizes), workers)
        run, own = own[:sum(sizes[each] for each in mine)], own[sum(sizes[each] for each in mine):]
        buffer, out = [], []
        for draw, text in run:
            if len(buffer) < buffer_size:
                buffer.append((draw, text))
            else:
                out.append(buffer[draw % buffer_size][1])
                buffer[draw % buffer_size] = draw, text
        out += [text for _, text in sorted(buffer)]
        for each in mine:
            given[each], out = out[:sizes[each]], out[sizes[each]:]
    return given


@pytest.mark.parametrize('world, workers, buffer_size, epoch', [
    (1, 1, 4, 0), (1, 2, 4, 1), (2, 2, 3, 0), (2, 1, 100, 2), (3, 2, 1, 5), (4, 3, 2, 1)])
def test_order_is_that_of_a_plain_loop_over_tar_files(folder, world, workers, buffer_size, epoch):
    captions = [f'pair {row}' for row in range(29)]
    for rank in range(world):
        expected = by_loops([folder / f'{shard}.tar' for shard in range(6)], rank, world, workers, 4, epoch,
                            buffer_size)
        found = batches(rank, world, workers, epoch=epoch, buffer_size=buffer_size)
        assert [[captions[row] for _, row in batch] for batch in found] == expected
        assert {each for batch in found for each, _ in batch} == {epoch}


@pytest.mark.parametrize('world, workers, batch_size, drop_last', [
    *itertools.product([1, 2, 3], [0, 2, 5], [1, 4, 9], [True, False])])
def test_each_sample_once_in_equal_steps(world, workers, batch_size, drop_last):
    parts = [batches(rank, world, workers, batch_size, drop_last, buffer_size=4) for rank in range(world)]
    assert len({tuple(map(len, part)) for part in parts}) == 1
    rows = [row for part in parts for batch in part for _, row in batch]
    step = world * batch_size
    assert len(rows) == len(set(rows)) == (29 // step * step if drop_last else 29 // world * world)


@pytest.mark.parametrize('workers', [0, 2, 3])
def test_any_batch_can_be_the_first(workers):
    whole = batches(1, 2, workers, 2, buffer_size=5)
    for start in range(len(whole) + 1):
        assert batches(1, 2, workers, 2, start=start, buffer_size=5) == whole[start:]
    with pytest.raises(ValueError, match='start is 9'):
        batches(1, 2, workers, 2, start=9)


def test_draws_of_a_shard_are_its_own_whoever_reads_it():
    sampler = ShardSampler(Counted(), seed=3, buffer_size=5)
    whole = list(sampler._line(2, 0, 29))
    assert list(sampler._line(2, 11, 23)) == whole[11:23] and list(sampler._line(2, 29, 29)) == []
    other = ShardSampler(Counted((5, 3, 9, 1, 7, 4, 8)), seed=3)
    drawn = dict(row[::-1] for row in whole)
    assert all(drawn[row] == number for number, row in other._line(2, 0, 37) if row < 29)
    assert dict(row[::-1] for row in sampler._line(3, 0, 29)) != drawn


def test_epochs_seeds_and_no_shuffle():
    orders = [[row for batch in batches(epoch=epoch, buffer_size=4) for _, row in batch] for epoch in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    plain = [row for batch in batches(shuffle=False) for _, row in batch]
    assert plain == list(range(29))
    shards = [row for batch in batches(buffer_size=1) for _, row in batch]
    assert shards != plain and [each for _, each in itertools.groupby(np.repeat(range(6), COUNTS)[shards])]
    assert all(np.diff(shards)[np.diff(np.repeat(range(6), COUNTS)[shards]) == 0] == 1)


def test_one_worker_is_as_none_and_no_state_is_touched():
    state = torch.get_rng_state()
    assert batches(workers=0) == batches(workers=1) != batches(workers=2)
    assert torch.equal(state, torch.get_rng_state())


def test_samplers_refuse_what_has_no_shards(folder):
    with pytest.raises(ConfigError, match='range has none'):
        ShardSampler(range(9))
    with pytest.raises(ConfigError, match='buffer_size'):
        ShardSampler(Counted(), buffer_size=0)
    with pytest.raises(ConfigError, match='not SequentialSampler'):
        ShardBatchSampler(torch.utils.data.SequentialSampler(range(9)), 2)
    shards = dict(type='ImageTextShards', shards=str(folder))
    with pytest.raises(ConfigError, match='do not lie in shards'):
        ShardSampler(ImageTextPairs(dict(type='ConcatPairs', parts=[shards]), TO_TENSOR))
    part = ImageTextPairs(dict(type='Subset', every=2, images=shards), TO_TENSOR)
    assert ShardSampler(part, seed=0).num_shards == 5  # the only pair of shard 3 is left out
    assert part.shard_counts().tolist() == [3, 1, 5, 4, 2]


# Read by a loader


def loaded(folder, rank, world, workers):
    dataset = WebDatasetPairs(str(folder), TO_TENSOR)
    sampler = ShardSampler(dataset, seed=3, buffer_size=4)
    batch_sampler = ShardBatchSampler(sampler, 4, drop_last=False)
    batch_sampler.num_workers = workers
    return [(batch['captions'], batch['rows'].tolist(), [round(float(each.mean()) * 255) for each in
                                                         batch['inputs'][:, 0]])
            for batch in DataLoader(dataset, batch_sampler=batch_sampler, num_workers=workers)]


@pytest.mark.parametrize('workers', [0, 2])
def test_loader_workers_give_the_pairs_of_the_loop(folder, workers):
    found = loaded(folder, 0, 1, workers)
    assert [captions for captions, _, _ in found] == by_loops([folder / f'{shard}.tar' for shard in range(6)], 0, 1,
                                                              max(workers, 1), 4, 0, 4)
    for captions, rows, reds in found:
        assert captions == [f'pair {row}' for row in rows] and reds == rows


def _rank_rows(rank, folder):
    return [row for _, rows, _ in loaded(folder, rank, 2, 2) for row in rows]


def test_two_processes_with_two_workers_see_each_pair_once(folder, tmp_path):
    one, other = run_ranks(_rank_rows, 2, tmp_path, folder)
    assert len(one) == len(other) == 14 and len({*one, *other}) == 28
