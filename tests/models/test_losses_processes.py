"""Losses in two gloo processes against one with the whole batch: the mean of the losses and of the gradients."""

import pytest
import torch
from ranks import run_ranks
from test_losses_contrastive import unit

from clear.core import dist
from clear.core.dist import gather_rows
from clear.models.losses import (
    BarlowTwinsLoss,
    CLSALoss,
    DINOLoss,
    NTXentLoss,
    SwAVLoss,
    TiCoLoss,
    VICRegLoss,
)

pytestmark = pytest.mark.slow
WORLD, ROWS, DIM = 2, 6, 5
QUEUE = unit(7, DIM, seed=50).T

# Name: the loss, given `gather`; how many views; how they are given to it.
CASES = {
    'nt_xent': (lambda gather: NTXentLoss(0.2, gather=gather), 2, lambda views: views),
    'barlow': (lambda gather: BarlowTwinsLoss(0.02, gather=gather), 2, lambda views: views),
    'vicreg': (lambda gather: VICRegLoss(gather=gather), 2, lambda views: views),
    'tico': (lambda gather: TiCoLoss(DIM, gather=gather).double(), 2, lambda views: views),
    'dino': (lambda gather: DINOLoss(DIM, gather=gather).double(), 4, lambda views: (views[:2], views[2:])),
    'swav': (lambda gather: SwAVLoss(gather=gather), 3, lambda views: (views[:2], views[2:])),
    'swav_queue': (lambda gather: SwAVLoss(gather=gather), 4, lambda views: (views[:2], (), views[2:])),
    'clsa': (lambda gather: CLSALoss(0.2, 0.3, gather=gather), 4,
             lambda views: (views[:2], views[2:3], views[3], QUEUE)),
}
SHARDS = {'equal': (3, 3), 'unequal': (4, 2)}
# These need rows of one number in every process.
EQUAL_ONLY = {'nt_xent', 'clsa', 'dino', 'swav', 'swav_queue'}


def run(name, rows, gather=True):
    """Two steps on some rows of the batch, so that state takes part: losses, gradients of the last, state."""
    make, num_views, arrange = CASES[name]
    loss, losses = make(gather), []
    for step in range(2):
        views = [unit(ROWS, DIM, seed=100 * step + index)[rows].clone().requires_grad_() for index in range(num_views)]
        result = loss(*arrange(views))
        result = sum(result.values()) if isinstance(result, dict) else result
        losses.append(result.detach())
    grads = torch.autograd.grad(result, views, materialize_grads=True)
    return dict(losses=torch.stack(losses), grads=grads, state=loss.state_dict())


def collectives(rank):
    rows = torch.full((2, 3), float(rank + 1), requires_grad=True)
    gathered = gather_rows(rows)
    weight = torch.arange(12.0).view(4, 3) * (rank + 1)
    [gather_grad] = torch.autograd.grad((gathered * weight).sum(), rows)
    total = dist.sum_with_gradient(rows)
    [sum_grad] = torch.autograd.grad((total * (rank + 1)).sum(), rows)
    return dict(gathered=gathered.detach(), gather_grad=gather_grad, total=total.detach(), sum_grad=sum_grad)


def work(rank):
    found = {'collectives': collectives(rank)}
    for kind, shard in SHARDS.items():
        start = sum(shard[:rank])
        for name in CASES:
            if kind == 'equal' or name not in EQUAL_ONLY:
                found[kind, name] = run(name, slice(start, start + shard[rank]))
    for name in CASES:
        found['local', name] = run(name, slice(3 * rank, 3 * rank + 3), gather=False)
    return found


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What every rank got in every case."""
    return run_ranks(work, WORLD, tmp_path_factory.mktemp('ranks'))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize('kind, name', [(kind, name) for kind in SHARDS for name in CASES
                                        if kind == 'equal' or name not in EQUAL_ONLY])
def test_processes_equal_the_whole_batch(results, kind, name):
    whole = run(name, slice(0, ROWS))
    parts = [result[kind, name] for result in results]
    close(torch.stack([part['losses'] for part in parts]).mean(0), whole['losses'])
    for index, expected in enumerate(whole['grads']):
        # A process has gradients for its own rows only; averaging over processes divides them by their number.
        close(torch.cat([part['grads'][index] for part in parts]) / WORLD, expected)
    for key, expected in whole['state'].items():
        close(parts[0]['state'][key], expected)
        assert torch.equal(parts[0]['state'][key], parts[1]['state'][key])


@pytest.mark.parametrize('name', CASES)
def test_without_gather_each_process_is_alone(results, name):
    for rank in range(WORLD):
        alone, found = run(name, slice(3 * rank, 3 * rank + 3)), results[rank]['local', name]
        close(found['losses'], alone['losses'])
        for one, other in zip(found['grads'], alone['grads']):
            close(one, other)
    whole = run(name, slice(0, ROWS))
    mean = torch.stack([result['local', name]['losses'] for result in results]).mean(0)
    assert not torch.allclose(mean, whole['losses'], atol=1e-6), 'the global batch must matter'


def test_collectives_by_hand(results):
    for rank in range(WORLD):
        found = results[rank]['collectives']
        assert found['gathered'].tolist() == [[1.0] * 3] * 2 + [[2.0] * 3] * 2
        # Both processes used the rows, one with weight w and one with 2 w.
        assert torch.equal(found['gather_grad'], 3 * torch.arange(12.0).view(4, 3)[2 * rank:2 * rank + 2])
        assert torch.equal(found['total'], torch.full((2, 3), 3.0))
        assert torch.equal(found['sum_grad'], torch.full((2, 3), 3.0))
