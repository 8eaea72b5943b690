"""Every shipped config: loads, passes the checks, builds on data of its kind, and takes one step."""

import math
import re
import shutil
from pathlib import Path

import pytest
from clear_trees import write_clear_tree
from mmengine.config import Config
from short_runs import CONFIGS, ROOT, read_results, run, train

from clear.core.config import config_hash, load_config, parse_options
from clear.datasets.demo import write_demo
from clear.engine.continual_config import KNOWN, check_continual_config, with_defaults
from clear.engine.continual_runner import ContinualRunner

ALL = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
BASES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' in path.parts)
# method_net[_gpus x batch - schedule]_data, as in naive_resnet18_1x64-step-70e_clear10
RECIPE = re.compile(r'[a-z]+_[a-z0-9]+(_\d+x\d+-[a-z]+-\d+e)?_[a-z0-9-]+')
SMALL = ['scenario.train_transform.0.size=32', 'scenario.train_transform.1.size=32',
         'scenario.eval_transform.0.size=32', 'scenario.eval_transform.1.size=32']


def kind(path):
    """'features', 'demo' or the data name of a continual config; None for others and for those with an encoder."""
    config = Config.fromfile(str(path))
    if 'cl_strategy' not in config or config.scenario.get('feature'):
        return None
    return 'features' if config.scenario.get('feature_type') else config.scenario.get('data_name')


def stem(path):
    return path.stem


SHIPPED = [path for path in ALL if kind(path)]


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """A tree for each kind of config: demo digits, images of 11 classes, and their 2048-d features."""
    root = tmp_path_factory.mktemp('data')
    write_demo(root / 'demo', seeds=[0], limit=100)
    write_clear_tree(root / 'images', num_buckets=2, num_classes=11, per_class=4, image_size=32)
    write_clear_tree(root / 'features', num_buckets=2, num_classes=11, per_class=4, features=2048, images=False)
    return root


def tiny_options(path, roots):
    """Options that put a config on the small tree of its kind."""
    if kind(path) in ('features', 'demo'):
        return [f'scenario.data_root={roots / kind(path)}']
    return [f'scenario.data_root={roots / "images"}', 'num_workers=0', *SMALL]


def test_there_is_a_config_for_everything_that_is_promised():
    names = {path.relative_to(CONFIGS).with_suffix('').as_posix() for path in SHIPPED}
    strategies = ('naive', 'cumulative', 'joint', 'replay', 'gdumb', 'ewc', 'lwf', 'agem', 'si')
    assert {f'demo/{strategy}_lenet5_demo' for strategy in strategies} <= names
    for strategy in ('naive', 'replay', 'lwf', 'ewc'):
        for net, data in (('resnet18', 'clear10'), ('resnet50', 'clear10'), ('linear', 'moco-b0')):
            recipe = rf'clear10/{strategy}_{net}_.*_{data}'
            assert [name for name in names if re.fullmatch(recipe, name)], recipe


@pytest.mark.parametrize('path', SHIPPED, ids=stem)
def test_config_is_a_recipe(path):
    assert RECIPE.fullmatch(path.stem), path.stem
    config, assigned = load_config(path)
    check_continual_config(with_defaults(config))
    assert assigned <= KNOWN | {'_transform', '_normalize'}
    # The name says what the config does.
    method, net = path.stem.split('_')[:2]
    spelled = {'joint': 'JointTraining', 'si': 'SynapticIntelligence', 'lwf': 'LwF', 'gdumb': 'GDumb'}
    assert config.cl_strategy.type == spelled.get(method, config.cl_strategy.type)
    assert config.cl_strategy.type.lower() == spelled.get(method, method).lower()
    backbone = config.model.get('backbone')
    found = 'linear' if backbone is None else f"{backbone.type.lower()}{backbone.get('depth', '')}"
    assert found == net
    if written := re.search(r'_1x(\d+)-step-(\d+)e_', path.stem):
        assert (config.cl_strategy.train_mb_size, config.cl_strategy.train_epochs) == tuple(map(int, written.groups()))


@pytest.mark.parametrize('path', [*ALL, *BASES], ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_config_holds_decisions_only(path):
    text = path.read_text()
    for word in ('import ', 'environ', 'open(', '/home', '/data/', '/mnt', 'api_key', 'password'):
        assert word not in text, word
    config = Config.fromfile(str(path))
    for section in ('scenario', 'data'):
        root = (config.get(section) or {}).get('data_root', 'data')
        assert Path(root).parts[0] == 'data'


@pytest.mark.parametrize('path', ALL, ids=stem)
def test_dumped_config_reloads(path, tmp_path):
    config = Config.fromfile(str(path))
    (tmp_path / 'dumped.py').write_text(config.pretty_text)
    again = Config.fromfile(str(tmp_path / 'dumped.py'))
    assert again.to_dict() == config.to_dict()
    assert config_hash(again) == config_hash(config)


@pytest.mark.parametrize('path', SHIPPED, ids=stem)
def test_config_builds(path, roots):
    config, _ = load_config(path, parse_options(tiny_options(path, roots)))
    runner = ContinualRunner(config)
    runner.build()
    assert runner.size == (10 if kind(path) == 'demo' else 2)
    # On 34 or 71 images in a bucket a batch of the recipe is one step or two.
    epochs = config.cl_strategy.train_epochs
    assert all(iterations >= epochs for iterations in runner.iterations)


def one_step(path, roots, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(path, '--work-dir', 'run', '--cfg-options', *tiny_options(path, roots), 'cl_strategy.train_epochs=1',
          'threads=1')
    results = read_results('run')
    assert all(math.isfinite(entry['loss']) for entry in results['extras']['train_log'])
    assert all(value is not None for row in results['acc_matrix'] for value in row)


# The demo's are trained by tests/tools/test_train.py.
@pytest.mark.parametrize('path', [path for path in SHIPPED if kind(path) == 'features'], ids=stem)
def test_feature_config_takes_a_step(path, roots, tmp_path, monkeypatch):
    one_step(path, roots, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('path', [path for path in SHIPPED if kind(path) not in ('features', 'demo')], ids=stem)
def test_image_config_takes_a_step(path, roots, tmp_path, monkeypatch):
    one_step(path, roots, tmp_path, monkeypatch)


# A config file of the earlier demo

OLD_DEMO = """
_base_ = ['../_base_/clear10.py', '../_base_/naive.py']
name = 'resnet50_clear10_naive'
batch_size = 64
num_epochs = 70
model = dict(
    backbone=dict(type='ResNet', depth=50),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=11, in_channels=2048))
cl_strategy = dict(
    train_mb_size=batch_size,
    eval_mb_size=batch_size,
    train_epochs=num_epochs,
    optimizer=dict(lr=0.01, weight_decay=1e-5),
    scheduler=dict(step_size=30))
work_dir = f'./work_dirs/{name}'
loggers = [
    dict(type='TextLogger'),
    dict(type='InteractiveLogger'),
    dict(type='WandBLogger', project_name='CLEAR', run_name=name)]
"""


@pytest.fixture
def old_demo(tmp_path, monkeypatch):
    """The file one folder below a copy of `configs/`."""
    shutil.copytree(CONFIGS / '_base_', tmp_path / 'configs' / '_base_')
    (tmp_path / 'configs' / 'old').mkdir()
    path = tmp_path / 'configs' / 'old' / 'demo.py'
    path.write_text(OLD_DEMO)
    monkeypatch.chdir(tmp_path)
    return path


def test_old_demo_config_passes_all_checks(old_demo):
    config, assigned = load_config(old_demo)
    check_continual_config(with_defaults(config))
    assert {'name', 'batch_size', 'num_epochs'} <= assigned
    strategy = config.cl_strategy
    assert (strategy.train_mb_size, strategy.eval_mb_size, strategy.train_epochs) == (64, 64, 70)
    assert strategy.type == 'Naive'
    assert strategy.optimizer.to_dict() == dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-5)
    assert strategy.scheduler.to_dict() == dict(type='StepLR', step_size=30, gamma=0.1)
    assert (config.scenario.type, config.scenario.data_name) == ('CLEAR', 'clear10')
    assert config.work_dir == './work_dirs/resnet50_clear10_naive'


@pytest.mark.parametrize('key', ['dataset_root', 'data_root'])
def test_old_demo_config_dry_run(old_demo, roots, tmp_path, key):
    before = sorted(tmp_path.rglob('*'))
    finished = train(old_demo, '--dry-run', '--cfg-options', f'scenario.{key}={roots / "images"}', *SMALL)
    assert sorted(tmp_path.rglob('*')) == before
    for words in ('11 classes', 'Naive', '70 epochs', 'work_dirs/resnet50_clear10_naive'):
        assert words in finished.out
    assert '23,530,571 parameters' in finished.out  # ResNet-50 without its 1000 classes: 23,508,032; 11 x 2048 + 11


@pytest.mark.parametrize('key', ['dataset_type', 'type'])
def test_old_demo_scenario_type(old_demo, roots, key):
    finished = run('train', old_demo, '--dry-run', '--cfg-options', f'scenario.{key}=CLEER')
    assert finished.code == 2 and "'CLEAR' (clear)" in finished.err


def test_old_demo_helpers_cannot_be_options(old_demo):
    finished = run('train', old_demo, '--cfg-options', 'batch_size=32')
    assert finished.code == 2 and "'batch_size' is a helper variable" in finished.err


@pytest.mark.slow
def test_old_demo_config_trains(old_demo, roots, tmp_path, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    import wandb

    try:
        finished = train(old_demo, '--cfg-options', f'scenario.dataset_root={roots / "images"}', *SMALL,
                         'cl_strategy.train_epochs=1')
    finally:
        wandb.finish()  # its service would outlive the test
    assert 'in_domain' in finished.out
    work_dir = tmp_path / 'work_dirs' / 'resnet50_clear10_naive'
    assert (work_dir / 'results.json').is_file()
    assert list(work_dir.glob('[0-9]*.log')), 'TextLogger writes a file named by the time'
    assert list(work_dir.glob('wandb/offline-run-*/run-*.wandb'))
    # Nothing outside the work_dir.
    assert {path.name for path in tmp_path.iterdir()} == {'configs', 'work_dirs'}


def test_old_names_of_bases_are_there():
    names = ('clear10', 'clear100', 'naive', 'ewc', 'lwf', 'agem', 'replay', 'reservoir', 'si', 'prototype')
    present = [name for name in names if (CONFIGS / '_base_' / f'{name}.py').is_file()]
    assert set(names) - set(present) <= {'reservoir', 'prototype'}, 'those two come with their strategies'
    for name in present:
        text = (CONFIGS / '_base_' / f'{name}.py').read_text()
        assert len(text.splitlines()) == 1
    assert ROOT / 'configs' == CONFIGS
