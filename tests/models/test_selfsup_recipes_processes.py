"""The demo recipes of pretraining in one, two and three processes: one step of one global batch, in float32."""

import pytest
import torch
from ranks import run_ranks
from short_runs import CONFIGS

from clear.core import dist
from clear.core.config import load_config
from clear.models import convert_sync_batch_norm, synchronised
from clear.registry import MODELS

pytestmark = pytest.mark.slow
BATCH = 48
RECIPES = sorted(path.stem for path in (CONFIGS / 'selfsup').glob('*_demo.py') if 'continual' not in path.stem)


def first_step(name, rank=0, world_size=1):
    """Loss and gradients of the global batch, from this process's share of its rows."""
    cfg = load_config(CONFIGS / 'selfsup' / f'{name}.py')[0]
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    images = torch.randint(256, (BATCH, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    batch = dict(inputs=images, seeds=torch.arange(BATCH))
    views = model.data_preprocessor(batch, training=True)['inputs']
    if world_size > 1:
        convert_sync_batch_norm(model)
    rows = BATCH // world_size
    model.set_progress(0, 100, 10)
    with synchronised(rows):
        losses = model([view[rank * rows:(rank + 1) * rows] for view in views], mode='loss')
        loss = sum(value for key, value in losses.items() if 'loss' in key)
        loss.backward()
    grads = {key: dist.sum_over_ranks(value.grad) / world_size for key, value in model.named_parameters()
             if value.grad is not None}
    return dict(loss=dist.sum_over_ranks(loss.detach().reshape(1)) / world_size, grads=grads)


def work(rank, world_size):
    return {name: first_step(name, rank, world_size) for name in RECIPES}


@pytest.fixture(scope='module')
def one():
    torch.set_num_threads(1)
    return {name: first_step(name) for name in RECIPES}


@pytest.fixture(scope='module', params=[2, 3])
def several(request, tmp_path_factory):
    """What the first process found, and how many there were."""
    return run_ranks(work, request.param, tmp_path_factory.mktemp('ranks'), request.param, timeout_s=280)[0]


def test_the_recipes_are_all_there_are():
    assert len(RECIPES) == 10


@pytest.mark.parametrize('name', RECIPES)
def test_several_processes_equal_one(one, several, name):
    whole, parts = one[name], several[name]
    # An eps of 1 beside it: SimSiam's loss is a mean of cosines, which cancel at first.
    torch.testing.assert_close(parts['loss'], whole['loss'], rtol=2e-6, atol=1.2e-7)
    assert parts['grads'].keys() == whole['grads'].keys()
    apart = torch.stack([(parts['grads'][key] - value).norm() / value.norm().clamp(min=1e-12)
                         for key, value in whole['grads'].items()])
    assert apart.median() < 1e-5
