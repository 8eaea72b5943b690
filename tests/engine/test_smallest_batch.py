"""A batch of one sample: refused before training where the model cannot train on it, and only there."""

import copy
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from short_runs import CONFIGS, ROOT, run, train
from torch import nn

from clear.continual.strategies.build import strategy_class
from clear.core.errors import ConfigError
from clear.engine.continual.plan import check_last_batches
from clear.registry import PLUGINS

CPU = torch.device('cpu')


def network(norm=True):
    """Maps of 1 x 1 from images of 4 pixels, of 2 x 2 from 8."""
    return nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4) if norm else nn.Identity(), nn.Dropout(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def check(counts, size=32, strategy='Naive', side=4, model=None, budget=None, plugins=()):
    image = torch.linspace(0, 1, 3 * side**2).view(3, side, side)
    info = SimpleNamespace(train=[[(image,)] * count for count in counts],
                           bucket_names=[str(2010 + i) for i in range(9)])
    cfg = dict(cl_strategy=dict(type=strategy, train_mb_size=size, plugins=list(plugins)),
               max_iters_per_experience=budget)
    parts = [PLUGINS.require(options['type'])(**{key: value for key, value in options.items() if key != 'type'})
             for options in plugins]
    check_last_batches(cfg, SimpleNamespace(
        model=network() if model is None else model, plugins=parts,
        unmixed_batches=strategy_class(strategy).unmixed_batches), info, CPU)


@pytest.mark.parametrize('strategy', ['Naive', 'EWC', 'LwF', 'AGEM'])
def test_a_last_batch_of_one_is_refused_with_sizes_that_fit(strategy):
    with pytest.raises(ConfigError) as caught:
        check([20, 24, 33], strategy=strategy)
    message = str(caught.value)
    assert 'cl_strategy.train_mb_size is 32' in message and "bucket 2 ('2012', 33 samples)" in message
    assert 'Expected more than 1 value per channel' in message
    assert 'Sizes that fit every bucket: 30, 31, 33.' in message
    for size in (30, 31, 33):
        check([20, 24, 33], size, strategy)


@pytest.mark.parametrize(('counts', 'options'), [
    ([20, 24, 33], dict(side=8)),  # four values per channel
    ([20, 24, 33], dict(strategy='Replay')),  # memories join the one
    ([20, 24, 33], dict(plugins=[dict(type='ReplayPlugin')])),
    ([33, 20], dict(plugins=[dict(type='LoadBest')])),  # holds samples out
    ([33, 20], dict(plugins=[dict(type='RWalkPlugin', legacy=True)])),  # trains in eval mode
    ([33, 20], dict(plugins=[dict(type='EWCPlugin', ewc_lambda=1.0)])),  # says nothing of its batches
    ([33, 20], dict(strategy='SCR')),  # two views of each sample
    ([33, 20], dict(strategy='JointTraining')),
    ([20, 24, 33], dict(model=network(norm=False))),
    ([20, 24, 33], dict(budget=1)),  # the run ends before that batch
    ([20, 24, 34], {}), ([64, 96], {}), ([31, 2], {})])
def test_what_can_be_trained_is_not_refused(counts, options):
    check(counts, **options)


@pytest.mark.parametrize(('counts', 'size'), [([33, 20], 32), ([1, 20], 32), ([20], 1)])
def test_the_first_bucket_has_no_memories_yet(counts, size):
    for strategy in ('Replay', 'Cumulative', 'DER'):
        with pytest.raises(ConfigError, match="bucket 0 \\('2010'"):
            check(counts, size, strategy)


@pytest.mark.parametrize('plugin', [dict(type='LoadBest', split='train'), dict(type='RWalkPlugin'),
                                    dict(type='LwFPlugin', alpha=1.0, temperature=2.0)])
def test_plugins_that_change_no_batch_leave_the_last_one(plugin):
    with pytest.raises(ConfigError, match="bucket 2 \\('2012', 33 samples"):
        check([20, 24, 33], plugins=[plugin])


def test_processes_share_the_statistics_of_a_batch(monkeypatch):
    """2 + 1 or 1 + 1 rows on two processes are batches of 3 and of 2; only a batch that is one row is refused."""
    monkeypatch.setattr('clear.core.dist.world_size', lambda: 2)
    check([20, 34, 35])
    with pytest.raises(ConfigError, match="bucket 1 \\('2011', 33 samples"):
        check([20, 33])


def test_a_bucket_of_one_sample_fits_no_size():
    with pytest.raises(ConfigError, match='No size of up to 66 fits every bucket'):
        check([20, 1])


def test_the_trial_leaves_no_trace():
    model = network(norm=False)
    model.insert(1, nn.BatchNorm2d(4))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check([33], side=8, model=model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and model.training


# Whole runs


def write_images(root):
    draws = np.random.default_rng(0)
    for year, count in ((2010, 20), (2011, 24), (2012, 33)):
        for part, number in (('train', count), ('test', 6)):
            for index in range(number):
                path = root / part / str(year) / 'ab'[index % 2] / f'{index}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(draws.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def config(tmp_path):
    write_images(tmp_path / 'data')
    bases = [str(ROOT / 'configs' / '_base_' / name) for name in (
        'scenarios/folder_by_time.py', 'models/resnet18.py', 'strategies/{}.py', 'default_runtime.py')]
    transform = "[dict(type='ToTensor')]"

    def write(strategy='naive', transform=transform):
        path = tmp_path / f'{strategy}.py'
        path.write_text(f"""_base_ = {[base.format(strategy) for base in bases]}
_t = {transform}
scenario = dict(data_root={str(tmp_path / 'data')!r}, train_transform=_t, eval_transform=_t)
model = dict(head=dict(num_classes=2))
cl_strategy = dict(train_mb_size=32, eval_mb_size=32, train_epochs=1, optimizer=dict(lr=0.01), scheduler=None)
threads = 1
""")
        return path

    return write


@pytest.mark.slow
def test_a_dry_run_refuses_it(config, tmp_path):
    done = run('train', config(), '--work-dir', tmp_path / 'run', '--dry-run')
    assert done.code == 2 and "bucket 2 ('2012', 33 samples)" in done.err


@pytest.mark.slow
def test_larger_images_and_memories_train(config, tmp_path):
    larger = "[dict(type='Resize', size=64), dict(type='ToTensor')]"
    train(config(transform=larger), '--work-dir', tmp_path / 'larger')
    train(config('replay'), '--work-dir', tmp_path / 'replay')


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'message'), [
    ('byol', 'BYOL cannot train: Expected more than 1 value'), ('barlowtwins', 'BarlowTwins cannot train: Expected'),
    ('simclr', 'no negatives'), ('vicreg', 'VICReg cannot train')])
def test_pretraining_on_batches_of_one_is_refused(demo_root, tmp_path, name, message):
    [path] = (CONFIGS / 'selfsup').glob(f'{name}_*_demo.py')

    def dry_run(*more):
        return run('train', path, '--work-dir', tmp_path / 'run', '--dry-run', '--cfg-options', 'custom_hooks=[]',
                   f'train_dataloader.dataset.data_root={demo_root}', *more)

    done = dry_run('train_dataloader.batch_size=1')
    assert done.code == 2 and message in done.err and 'at least 2' in done.err
    samples = int(re.search(r'(\d+) samples', dry_run('train_dataloader.batch_size=2').out)[1])
    size = next(size for size in range(2, samples) if samples % size == 1)
    done = dry_run(f'train_dataloader.batch_size={size}', 'train_dataloader.drop_last=False')
    assert done.code == 2 and message.partition(':')[0] in done.err


@pytest.fixture(scope='module')
def demo_root(tmp_path_factory):
    from clear.datasets.make.demo import write_demo

    root = tmp_path_factory.mktemp('demo')
    write_demo(root, limit=100)
    return root
