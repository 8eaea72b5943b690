"""Shipped pretraining recipes through `tools/train.py`: kills and two processes.

The data are the demo's digits in JPEG files, the models those of the recipes.
"""

import random
import subprocess
from pathlib import Path

import pytest
import torch
from demo_recipes import NARROW, TIMEOUT_S, assert_same, enter, finish, kill_after_saves, outcome, recipe, start
from short_runs import TOOLS, environment, read_results, train

from clear.datasets.make.demo import write_demo
from clear.engine.training.state import load_run

PIL = """
train_dataloader['dataset'].update(image_size=None, transform=dict(
    type='MultiCrop', recipe='moco_v2', options=dict(size=32), changes=dict(flip_prob=0.0)))
model['data_preprocessor'] = dict(_delete_=True, type='ViewPreprocessor')
"""
# In float64, rounding stays rounding: see `test_two_processes_are_one`.
DOUBLE = """
from clear.models.selfsup import MoCo
from clear.registry import MODELS


@MODELS.register_module()
class DoubleMoCo(MoCo):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.double()

    def loss(self, views):
        return super().loss([view.double() for view in views])

    def features(self, images):
        return super().features(images.double())
"""


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(folder, seeds=[0], limit=100)
    return folder


@pytest.fixture
def here(tmp_path, demo, monkeypatch):
    """An empty folder to work in, where the demo lies as the recipes expect it."""
    return enter(tmp_path, demo, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(('method', 'workers', 'form'), [
    ('mocov2', 0, ''), ('mocov2', 2, ''), ('mocov2', 2, PIL), ('clsa-multi', 2, '')],
    ids=['moco', 'moco with workers', 'moco with PIL', 'clsa'])
def test_killed_at_a_random_iteration_ends_as_if_not(here, method, workers, form):
    """Weights, queue, optimiser, generators and results.json with its kNN are those of a run that nobody killed."""
    loading = f"\ntrain_dataloader.update(num_workers={workers}, persistent_workers={workers > 0})\n"
    name = recipe(method, form + loading)
    finish(name, '--work-dir', 'whole')
    saves, delay_s = random.randint(1, 6), random.uniform(0.0, 0.2)
    kill_after_saves(start(name, '--work-dir', 'killed'), Path('killed/latest.pth'), saves, delay_s)
    done = load_run(Path('killed/latest.pth'))['progress']['iter']
    assert 0 < done < 18
    assert f'{done} of 18 iterations are finished' in finish(name, '--work-dir', 'killed', '--resume')
    assert_same('whole', 'killed')
    assert outcome('whole')[0]['state_dict']['queue'].shape == (128, 64)
    assert read_results('whole')['metrics'].keys() >= {'knn_top1'}


# Two processes


def two_processes(name, *options):
    done = subprocess.run([str(TOOLS / 'dist_train.sh'), name, '2', '--work-dir', 'two', '--cfg-options',
                           'train_dataloader.batch_size=8', *options], capture_output=True, text=True,
                          timeout=TIMEOUT_S, env={**environment(), 'PYTHONPATH': f'{TOOLS.parent}:{Path.cwd()}'})
    assert done.returncode == 0, done.stderr
    assert 'batch 8 x 2 process(es)' in done.stdout


def assert_close(atol):
    (one, first), (two, second) = outcome('one'), outcome('two')
    assert (first['world_size'], second['world_size']) == (1, 2)
    assert first['config_hash'] == second['config_hash']
    assert int(one['state_dict']['queue_ptr']) == int(two['state_dict']['queue_ptr'])
    torch.testing.assert_close(two['state_dict'], one['state_dict'], rtol=0, atol=atol)
    for entry, other in zip(one['progress']['train_log'], two['progress']['train_log'], strict=True):
        assert other == pytest.approx(entry, rel=0, abs=atol)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_are_one(here, monkeypatch):
    """Two epochs in float64, where the recipe's steps cannot blow rounding up to what a mistake would give.

    In float32 sums over the 16,384 pixels of a channel differ by 1e-5 after one iteration, and each further step of
    a fresh network at this rate multiplies that by about ten; in float64 1e-12 is left after 18.
    """
    monkeypatch.syspath_prepend(str(here))
    Path('double_moco.py').write_text(DOUBLE)
    name = recipe('mocov2', "sync_bn = True\ncustom_imports = dict(imports=['double_moco'])\n"
                  "model.update(type='DoubleMoCo', shuffle_bn=False)\n" + NARROW)
    train(name, '--work-dir', 'one')
    two_processes(name)
    assert_close(atol=1e-9)
    assert outcome('one')[0]['state_dict']['queue'].dtype == torch.float64


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_are_one_in_single_precision(here):
    """One iteration of the recipe as it is, to the rounding of BatchNorm's sums."""
    name = recipe('mocov2', "sync_bn = True\nmodel.update(shuffle_bn=False)\ncustom_hooks = []\nparam_scheduler = []\n"
                  'train_cfg = dict(_delete_=True, by_epoch=False, max_iters=1)\n')
    train(name, '--work-dir', 'one')
    two_processes(name)
    assert_close(atol=1e-5)
