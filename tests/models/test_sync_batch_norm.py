"""Synchronised BatchNorm in two gloo processes against torch's BatchNorm on the whole batch."""

import copy

import pytest
import torch
import torch.distributed as torch_dist
from mmengine.model import revert_sync_batchnorm
from ranks import run_ranks
from torch import nn

from clear.core.errors import ConfigError
from clear.models import build_classifier, convert_sync_batch_norm, freeze, synchronised

WORLD = 2
DTYPES = (torch.float32, torch.float64)
# Rows of each rank. A rank without rows takes one row that must not count.
SHARDS = {'equal': (4, 4), 'unequal': (5, 2), 'one_row': (6, 1), 'empty': (5, 0), 'empty_first': (0, 5)}


def network(dtype=torch.float32):
    """Convolutions, a branch and a linear layer, each with BatchNorm; odd momenta, one without affine parameters."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=None), nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5, momentum=0.3, affine=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(5 * 4, 6), nn.BatchNorm1d(6, eps=1e-3), nn.ReLU(), nn.Linear(6, 3))
    return layers.to(dtype)


def batches():
    """Two batches of 8 rows, far from zero mean, so that sums of squares would lose digits."""
    torch.manual_seed(1)
    return [(torch.randn(8, 3, 5, 5) * 2 + 30, torch.randint(3, (8,))) for _ in range(2)]


def shard_of(rank, shard):
    """(rows, weight): the slice of a rank, or one stand-in row of weight 0."""
    start = sum(shard[:rank])
    return (slice(start, start + shard[rank]), True) if shard[rank] else (slice(7, 8), False)


def train_shards(rank, shard, dtype):
    """Two steps on this rank's rows; the loss is the mean over the global batch."""
    model = network(dtype)
    convert_sync_batch_norm(model)
    rows, counts = shard_of(rank, shard)
    outputs = []
    for images, targets in batches():
        with synchronised(shard[rank]):
            out = model(images[rows].to(dtype))
        loss = nn.functional.cross_entropy(out, targets[rows], reduction='sum') / sum(shard)
        (loss * float(counts)).backward()
        outputs.append(out.detach())
    for value in model.parameters():
        torch_dist.all_reduce(value.grad)
    grads = [value.grad for value in model.parameters()]
    return dict(outputs=outputs, grads=grads, state=model.state_dict())


def replicated_pass(rank):
    """Outside the block each process has its own statistics, here of different rows."""
    model = network()
    convert_sync_batch_norm(model)
    images = batches()[0][0][4 * rank:4 * rank + 4]
    with synchronised(4):
        pass
    return dict(outputs=[model(images).detach()], state=model.state_dict())


def frozen_pass(rank):
    """In eval mode no communication happens: the ranks make different numbers of passes."""
    model = network().eval()
    convert_sync_batch_norm(model)
    with synchronised(4):
        outputs = [model(batches()[0][0]) for _ in range(rank + 1)]
    return dict(outputs=[outputs[0].detach()], state=model.state_dict())


def one_value(rank):
    layer = nn.BatchNorm1d(2)
    convert_sync_batch_norm(layer)
    with synchronised(1 - rank), pytest.raises(ValueError, match='global batch of one row') as caught:
        layer(torch.ones(1, 2))
    return str(caught.value)


def half_precision(rank):
    layer = nn.BatchNorm2d(3)
    convert_sync_batch_norm(layer)
    with synchronised(4):
        return layer(batches()[0][0][4 * rank:4 * rank + 4].bfloat16()).detach()


CASES = {**{(name, dtype): (train_shards, shard, dtype) for name, shard in SHARDS.items() for dtype in DTYPES},
         'replicated': (replicated_pass,),
         'frozen': (frozen_pass,), 'one_value': (one_value,), 'half': (half_precision,)}


def work(rank):
    return {name: case[0](rank, *case[1:]) for name, case in CASES.items()}


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """What every rank got in every case."""
    return run_ranks(work, WORLD, tmp_path_factory.mktemp('ranks'))


def reference(num_rows, dtype):
    model = network(dtype)
    outputs = []
    for images, targets in batches():
        out = model(images[:num_rows].to(dtype))
        nn.functional.cross_entropy(out, targets[:num_rows]).backward()
        outputs.append(out.detach())
    return outputs, [value.grad for value in model.parameters()], model.state_dict()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', SHARDS)
def test_shards_equal_the_whole_batch(results, name, dtype):
    """In float32 the outputs, of inputs far from 0, keep their digits; in float64 everything is held, since float32's
    gradients are small differences of large sums, whose last digits are the processor's.
    """
    shard = SHARDS[name]
    outputs, grads, state = reference(sum(shard), dtype)
    for rank in range(WORLD):
        found, (rows, counts) = results[rank][name, dtype], shard_of(rank, shard)
        if counts:
            for out, expected in zip(found['outputs'], outputs):
                torch.testing.assert_close(out, expected[rows], rtol=0, atol=2e-6 if dtype == torch.float32 else 1e-12)
        assert set(found['state']) == set(state)
        if dtype == torch.float64:
            for gradient, expected in zip(found['grads'], grads):
                torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
            for key, value in state.items():
                torch.testing.assert_close(found['state'][key], value, rtol=1e-12, atol=1e-12)
    for key, value in results[0][name, dtype]['state'].items():
        assert torch.equal(value, results[1][name, dtype]['state'][key]), key


def test_outside_the_block_statistics_are_local(results):
    for rank in range(WORLD):
        model = network()
        out = model(batches()[0][0][4 * rank:4 * rank + 4])
        assert torch.equal(results[rank]['replicated']['outputs'][0], out)
        assert all(torch.equal(value, model.state_dict()[key])
                   for key, value in results[rank]['replicated']['state'].items())


def test_in_eval_mode_nothing_is_communicated(results):
    model = network().eval()
    for rank in range(WORLD):
        assert torch.equal(results[rank]['frozen']['outputs'][0], model(batches()[0][0]))
        assert all(torch.equal(value, model.state_dict()[key])
                   for key, value in results[rank]['frozen']['state'].items())


def test_a_global_batch_of_one_value_is_refused_on_every_rank(results):
    assert all('Expected more than 1 value per channel' in results[rank]['one_value'] for rank in range(WORLD))


def test_half_precision_keeps_its_type(results):
    images = batches()[0][0].bfloat16()
    expected = nn.BatchNorm2d(3)(images.float())
    for rank in range(WORLD):
        out = results[rank]['half']
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), expected[4 * rank:4 * rank + 4], rtol=0, atol=0.02)


# One process

def test_conversion_keeps_objects_and_names():
    model = network()
    before = {name: id(value) for name, value in [*model.named_parameters(), *model.named_modules()]}
    keys = list(model.state_dict())
    assert convert_sync_batch_norm(model) == 3
    assert convert_sync_batch_norm(model) == 3
    assert {name: id(value) for name, value in [*model.named_parameters(), *model.named_modules()]} == before
    assert list(model.state_dict()) == keys
    assert isinstance(model[1], nn.BatchNorm2d) and isinstance(model[8], nn.BatchNorm1d)


def test_one_process_is_plain_batch_norm():
    model, plain = network(), network()
    convert_sync_batch_norm(model)
    images = batches()[0][0]
    with synchronised(8):
        assert torch.equal(model(images), plain(images))
    teacher = copy.deepcopy(model)
    assert torch.equal(teacher.eval()(images), plain.eval()(images))


def test_frozen_batch_norm_stays_frozen():
    model = build_classifier(dict(backbone=dict(type='ResNet', depth=18), neck=dict(type='GlobalAveragePooling'),
                                  head=dict(type='LinearClsHead', num_classes=2, in_channels=512)))
    assert convert_sync_batch_norm(model) == 20
    assert len(freeze(model, freeze_bn=True).batch_norms) == 20
    model.train()
    before = model.backbone.bn1.running_mean.clone()
    with synchronised(2):
        model(torch.rand(2, 3, 32, 32))
    assert torch.equal(model.backbone.bn1.running_mean, before)


def test_other_kinds_of_batch_norm_are_refused():
    class WithActivation(nn.BatchNorm2d):
        pass

    model = nn.Sequential(nn.BatchNorm2d(2), WithActivation(2))
    with pytest.raises(ConfigError, match='1 is a WithActivation, which is no plain BatchNorm'):
        convert_sync_batch_norm(model)
    assert type(model[0]) is nn.BatchNorm2d


def test_number_of_rows_is_checked():
    with pytest.raises(ValueError, match='num_rows is -1'), synchronised(-1):
        pass


def test_what_mmengine_makes_of_sync_bn_can_be_synchronised():
    """A config of mmpretrain with norm_cfg=dict(type='SyncBN') trains in several processes on CPUs."""
    model = revert_sync_batchnorm(nn.Sequential(nn.SyncBatchNorm(3)))
    images = torch.randn(4, 3, 2, 2)
    before = model(images)
    assert convert_sync_batch_norm(model) == 1 and convert_sync_batch_norm(model) == 1
    assert torch.equal(model(images), before) and type(model[0]).__name__ == 'SynchronisedBatchNormXd'
