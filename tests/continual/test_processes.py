"""Several processes train as one does: the same global batches, matrix and, up to rounding, weights."""

import pytest
import torch
import torch.distributed as torch_dist
from many_strategies import NAMES, built, trained
from ranks import run_ranks
from tiny_runs import weights, write_stream

from clear.continual.strategies.build import strategy_class
from clear.core.errors import RegistryError

# Batches of 9 of 28 samples: the last one has one row, so all ranks but one have none.
BATCH = 9
# Sums over shards are added in another order: rounding of float32, over some 24 steps of rate 0.1.
ROUNDING = 1e-6
THREE = ('Naive', 'Replay', 'LwF', 'DER')
SYNCHRONISED = ('Naive', 'Replay', 'EWC', 'LwF')
WITH_DROPOUT = ('Naive', 'Replay', 'LwF', 'EWC', 'AGEM', 'DER')
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def cases(world_size):
    """(name, head, batch, mode): mode None is the one that the runner chooses."""
    if world_size == 3:
        return [(name, 'hidden', BATCH, mode) for name in THREE for mode in modes_of(name)]
    found = [(name, 'hidden', BATCH, mode) for name in NAMES for mode in modes_of(name)]
    # 28 = 4 x 7, in shards of 4 and 3, and 25 + 3, the last one in shards of 2 and 1.
    found += [(name, 'norm', 7, mode) for name in SYNCHRONISED for mode in ('shard', 'gather')]
    found += [('Naive', 'norm', 25, mode) for mode in ('shard', 'gather')]
    return found + dropout_cases()


def dropout_cases():
    return [(name, 'noisy', 7, mode) for name in WITH_DROPOUT for mode in modes_of(name)]


def modes_of(name):
    return {'shard': [None, 'shard', 'gather'], 'gather': [None, 'gather'], 'replicate': [None]}[division_of(name)]


def division_of(name):
    try:
        return strategy_class(name).division
    except RegistryError:  # a form of a strategy under a name of the tests
        return 'replicate'


def outcome(root, name, head, batch, mode):
    """Weights, matrix, training loss and next random number of a run, or what went wrong."""
    runner = built(root, name, head=head, train_mb_size=batch)
    if mode is not None:
        runner._choose_mode = lambda: mode
    trained(runner)
    return dict(weights=weights(runner), matrix=runner.record.acc_matrix, next=torch.rand(1),
                loss=[entry['loss'] for entry in runner.record.train_log])


def work(_rank, world_size, root):
    results = {}
    for case in cases(world_size):
        try:
            results[case] = outcome(root, *case)
        except Exception as error:  # told by the test of this case
            results[case] = f'{type(error).__name__}: {error}'
        # A rank that failed alone would leave the others waiting in their next collective.
        failed = torch.tensor([isinstance(results[case], str)], dtype=torch.int64)
        torch_dist.all_reduce(failed)
        assert failed in (0, world_size), results[case]
    return results


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_stream(tmp_path_factory.mktemp('stream'))


@pytest.fixture(scope='module')
def alone(root):
    """The same case in one process; computed once."""
    known = {}

    def of(name, head, batch):
        if (name, head, batch) not in known:
            known[name, head, batch] = outcome(root, name, head, batch, None)
        return known[name, head, batch]

    return of


@pytest.fixture(scope='module')
def ranks(root, tmp_path_factory):
    known = {}

    def of(world_size):
        if world_size not in known:
            known[world_size] = run_ranks(
                work, world_size, tmp_path_factory.mktemp(f'ranks{world_size}'), world_size, root, timeout_s=800)
        return known[world_size]

    return of


@pytest.mark.parametrize('world_size, case', [(size, case) for size in (2, 3) for case in cases(size)
                                              if case not in dropout_cases()],
                         ids=lambda value: '-'.join(map(str, value)) if isinstance(value, tuple) else str(value))
def test_processes_train_as_one(world_size, case, ranks, alone):
    name, head, batch, _ = case
    one, several = alone(name, head, batch), [results[case] for results in ranks(world_size)]
    for rank in several:
        assert not isinstance(rank, str), rank
        assert rank['matrix'] == one['matrix']
        assert torch.equal(rank['next'], one['next'])
        assert rank['loss'] == pytest.approx(one['loss'], abs=1e-5)
        for key, value in one['weights'].items():
            assert torch.equal(rank['weights'][key], several[0]['weights'][key]), f'{key} differs between the ranks'
            torch.testing.assert_close(rank['weights'][key], value, rtol=ROUNDING, atol=ROUNDING,
                                       msg=lambda text, key=key: f'{key}: {text}')


@pytest.mark.parametrize('case', dropout_cases(), ids=lambda value: '-'.join(map(str, value)))
def test_random_streams_stay_equal_with_dropout(case, ranks, alone):
    """A model draws from a stream of its own, else unequal shards would part what the ranks draw afterwards."""
    first, second = (results[case] for results in ranks(2))
    assert not isinstance(first, str), first
    assert torch.equal(first['next'], second['next']) and first['matrix'] == second['matrix']
    assert all(torch.equal(value, second['weights'][key]) for key, value in first['weights'].items())
    assert torch.equal(first['next'], alone(*case[:3])['next'])
