"""Self-supervised training in two gloo processes: equal to one, and shuffling BN where it has an effect."""

import pytest
import torch
import torch.distributed as torch_dist
from ranks import run_ranks
from selfsup_cases import CASES, TinyBackbone, build, make_views, mlp, total
from torch import nn

from clear.core import dist
from clear.core.errors import ConfigError
from clear.models import convert_sync_batch_norm, synchronised
from clear.models.selfsup import MoCo
from clear.models.selfsup.parts.shuffle_bn import shuffle_rows, shuffling_matters, unshuffle_rows

pytestmark = pytest.mark.slow
WORLD, ROWS, STEPS = 2, 4, 4


def train(name, norm, rows):
    """SGD with averaged gradients on some rows of every batch: losses, gradients of the last step, state."""
    model = build(name, norm)
    convert_sync_batch_norm(model)
    parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
    losses = []
    for step in range(STEPS):
        views = [view[rows] for view in make_views(name, step, batch=ROWS)]
        with synchronised(len(views[0])):
            loss = total(model(views, mode='loss'))
            grads = torch.autograd.grad(loss, list(parameters.values()))
        grads = [dist.sum_over_ranks(grad.contiguous()) / dist.world_size() for grad in grads]
        with torch.no_grad():
            for parameter, grad in zip(parameters.values(), grads):
                parameter -= 0.1 * grad
        losses.append(loss.detach())
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    return dict(losses=torch.stack(losses), grads=grads, state=state)


def statistics_of_keys(rank):
    """Local BatchNorm: with shuffling a key encoder sees rows of both processes, and hands keys back in order."""
    # Rank 1's images are far brighter, so that statistics of a mixed batch are unmistakable.
    images = torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(rank), dtype=torch.float64) + 9 * rank
    found = {}
    for shuffle in (True, False):
        torch.manual_seed(3)
        model = MoCo(TinyBackbone(), mlp(), queue_size=16, shuffle_bn=shuffle).double().train()
        torch.manual_seed(11 * (rank + 1))  # Ranks draw differently: rank 0's order must count.
        key = model.encode_keys(images)
        model.remember(key)
        found[shuffle] = dict(key=key, mean=model.encoder_k.backbone.bn.running_mean.clone(),
                              queue=model.queue[:, :WORLD * ROWS].clone(), ptr=model.queue_ptr.clone())
    return found


def order_of_rows(rank):
    torch.manual_seed(5 + rank)
    rows = torch.arange(3) + 10 * rank
    shuffled, order = shuffle_rows(rows)
    return dict(rows=rows, shuffled=shuffled, order=order, back=unshuffle_rows(2 * shuffled, order))


def who_shuffles(rank):
    local, eval_mode, without = TinyBackbone(), TinyBackbone().eval(), TinyBackbone(norm=False)
    converted = TinyBackbone()
    convert_sync_batch_norm(converted)
    torchs = nn.SyncBatchNorm.convert_sync_batchnorm(TinyBackbone())
    return [shuffling_matters(net) for net in (local, eval_mode, without, converted, torchs)]


def too_small_a_queue(rank):
    model = build('MoCo', queue_size=7)
    try:
        model(make_views('MoCo', batch=4), mode='loss')
    except ConfigError as error:
        return str(error)


def work(rank):
    found = {(name, norm): train(name, norm, slice(rank * ROWS // WORLD, (rank + 1) * ROWS // WORLD))
             for name in CASES for norm in (True, False)}
    found.update(keys=statistics_of_keys(rank), order=order_of_rows(rank), who=who_shuffles(rank),
                 small=too_small_a_queue(rank))
    torch_dist.barrier()
    return found


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What every rank found."""
    return run_ranks(work, WORLD, tmp_path_factory.mktemp('ranks'), timeout_s=150)


def close(found, expected, tolerance=1e-9):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('norm', [True, False], ids=['synchronised', 'no_norm'])
@pytest.mark.parametrize('name', CASES)
def test_two_processes_equal_one(results, name, norm):
    whole = train(name, norm, slice(0, ROWS))
    parts = [result[name, norm] for result in results]
    close(torch.stack([part['losses'] for part in parts]).mean(0), whole['losses'])
    for index, grad in enumerate(whole['grads']):
        close(parts[0]['grads'][index], grad.contiguous())
    for key, value in whole['state'].items():
        close(parts[0]['state'][key], value)
        close(parts[1]['state'][key], parts[0]['state'][key], tolerance=0)


def test_shuffling_mixes_what_batch_norm_sees(results):
    means = {shuffle: [result['keys'][shuffle]['mean'] for result in results] for shuffle in (True, False)}
    apart = (means[False][0] - means[False][1]).abs().max()
    assert (means[True][0] - means[True][1]).abs().max() < 0.8 * apart
    # Every row is in exactly one batch, so the mean over processes stays.
    close(sum(means[True]), sum(means[False]))


def test_shuffled_keys_come_back_in_order(results):
    """Encoded one process after the other by hand, with the order that rank 0 drew."""
    images = torch.cat([torch.randn(ROWS, 3, 8, 8, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
                        + 9 * rank for rank in range(WORLD)])
    torch.manual_seed(11)
    order = torch.randperm(WORLD * ROWS)
    expected = torch.empty(WORLD * ROWS, 5, dtype=torch.float64)
    for batch in order.view(WORLD, ROWS):
        torch.manual_seed(3)
        model = MoCo(TinyBackbone(), mlp(), queue_size=16).double().train()
        with torch.no_grad():
            rows = model.encoder_k(images[batch])
        for place, row in zip(batch, rows):
            expected[place] = row / row.norm()
    for rank, result in enumerate(results):
        close(result['keys'][True]['key'], expected[rank * ROWS:(rank + 1) * ROWS])
        close(result['keys'][True]['queue'], expected.T.contiguous())
        assert int(result['keys'][True]['ptr']) == WORLD * ROWS


def test_rows_are_a_permutation_of_rank_0_and_come_back(results):
    torch.manual_seed(5)
    order = torch.randperm(6)
    everything = torch.tensor([0, 1, 2, 10, 11, 12])
    for rank, result in enumerate(results):
        found = result['order']
        assert torch.equal(found['order'], order)
        assert torch.equal(found['shuffled'], everything[order[3 * rank:3 * rank + 3]])
        assert torch.equal(found['back'], 2 * found['rows'])


def test_only_local_statistics_need_shuffling(results):
    assert results[0]['who'] == results[1]['who'] == [True, False, False, False, False]
    assert not shuffling_matters(TinyBackbone()), 'one process'


def test_a_queue_smaller_than_the_global_batch_is_refused(results):
    assert results[0]['small'] == ('queue_size (7) is smaller than the global batch (2 x 4 = 8): every key would be '
                                   'overwritten at once. Use at least 8.')
