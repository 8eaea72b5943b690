"""Every shipped config holds decisions and survives a dump; one of the earlier demo runs. See also test_recipes.py."""

import re
import shutil

import pytest
from clear_trees import write_clear_tree
from mmengine.config import Config
from short_runs import CONFIGS, ROOT, run, train

from clear.core.config import config_hash, load_config
from clear.core.errors import ClearError
from clear.engine.continual.keys import check_continual_config, with_defaults
from clear.engine.scopes import settle
from clear.engine.training.keys import check_runner_config

ALL = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
BASES = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' in path.parts)
SMALL = ['scenario.train_transform.0.size=32', 'scenario.train_transform.1.size=32',
         'scenario.eval_transform.0.size=32', 'scenario.eval_transform.1.size=32']


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """`images`: a tree of 11 classes."""
    root = tmp_path_factory.mktemp('data')
    write_clear_tree(root / 'images', num_buckets=2, num_classes=11, per_class=4, image_size=32)
    return root


def test_there_is_a_config_for_everything_that_is_promised():
    names = {path.relative_to(CONFIGS).with_suffix('').as_posix() for path in ALL}
    strategies = ('naive', 'cumulative', 'joint', 'replay', 'gdumb', 'ewc', 'lwf', 'agem', 'si')
    assert {f'demo/{strategy}_lenet5_demo' for strategy in strategies} <= names
    for strategy in ('naive', 'replay', 'lwf', 'ewc'):
        for net, data in (('resnet18', 'clear10'), ('resnet50', 'clear10'), ('linear', 'moco-b0')):
            recipe = rf'clear10/{strategy}_{net}_.*_{data}'
            assert [name for name in names if re.fullmatch(recipe, name)], recipe


@pytest.mark.parametrize('path', [*ALL, *BASES], ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_config_holds_decisions_only(path):
    text = path.read_text()
    for word in ('import ', 'environ', 'open(', '/home', '/data/', '/mnt', 'api_key', 'password'):
        assert word not in text, word
    roots = re.findall(r"""data_root['"]?\s*[=:]\s*(.*?)[,)\n]""", text)  # by the text: reading 300 files takes long
    assert all(re.fullmatch(r"'data/[\w/]+'", root) for root in roots), roots


# One strategy is enough for every run; the other files hold the same kinds of values.
@pytest.mark.parametrize('path', [pytest.param(path, marks=[] if path.stem.startswith('naive') else [pytest.mark.slow])
                                  for path in ALL], ids=lambda path: path.stem)
def test_dumped_config_reloads(path, tmp_path):
    config = Config.fromfile(str(path))
    (tmp_path / 'dumped.py').write_text(config.pretty_text)
    again = Config.fromfile(str(tmp_path / 'dumped.py'))
    assert again.to_dict() == config.to_dict()
    assert config_hash(again) == config_hash(config)


@pytest.mark.slow
def test_every_ordinary_recipe_names_parts_and_keys_that_there_are():
    seen = 0
    for path in (path for path in ALL if path.relative_to(CONFIGS).parts[0] in ('alignment', 'mmpretrain', 'selfsup')):
        config, assigned = load_config(path)
        if 'train_dataloader' in config and 'stream' not in config:
            settle(config)
            try:
                check_runner_config(config, assigned)
            except ClearError as error:
                pytest.fail(f'{path}: {error}')
            seen += 1
    assert seen > 80


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
    assert set(names) == set(present)
    for name in present:
        text = (CONFIGS / '_base_' / f'{name}.py').read_text()
        assert len(text.splitlines()) == 1
    assert ROOT / 'configs' == CONFIGS


@pytest.mark.parametrize('path', ALL, ids=lambda path: path.stem)
def test_every_recipe_begins_with_the_command_that_runs_it(path):
    shown = re.fullmatch(r'# (?:python|bash) (tools/\S+) (configs/\S+)( 8)?', path.read_text().split('\n')[0])
    assert shown and (ROOT / shown[1]).is_file() and ROOT / shown[2] == path
    assert ('_8xb' in path.name) == (shown[3] is not None) == (shown[1] == 'tools/dist_train.sh')


def test_what_recipes_say_was_measured_stands_in_the_docs():
    pages = ' '.join(page.read_text() for page in (ROOT / 'docs').glob('*.md'))
    measured = [line for path in ALL for line in path.read_text().split('\n')[1:3]
                if line.startswith(('# Test accuracy of', '# Seed 0: in_domain', '# kNN, random then trained',
                                    '# kNN before, then after', '# Zero-shot before, then after'))]
    assert len(measured) > 30
    for line in measured:
        for value in re.findall(r'-?0\.\d{3}', line):
            assert value in pages, line
