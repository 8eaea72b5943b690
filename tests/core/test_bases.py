"""Configs of packages: as bases, on the command line, and imported."""

import re
from pathlib import Path

import pytest
from mmengine.config import Config

from clear.core.config import base_tree, find_config, load_config
from clear.core.configs.bases import configs_folder, resolve_base, shipped_file
from clear.core.errors import ConfigError, DataError

pytest.importorskip('mmpretrain')
RESNET = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'


def written(folder, text):
    path = folder / 'config.py'
    path.write_text(text)
    return path


def test_names_of_packages_are_files():
    assert resolve_base('clear::demo/demo.py') == configs_folder() / 'demo' / 'demo.py' == find_config('demo/demo.py')
    assert find_config(RESNET) == resolve_base(RESNET.removesuffix('.py'))
    assert resolve_base(RESNET).as_posix().endswith('mmpretrain/.mim/configs/resnet/resnet18_8xb16_cifar10.py')


@pytest.mark.parametrize(('name', 'message'), [
    ('clear::demo/dem.py', "does not exist. Nearest configs of clear: 'demo/demo.py'"),
    ('mmpretrain::resnet18_8xb16_cifar10', "Nearest configs of mmpretrain: 'resnet/resnet18_8xb16_cifar10.py'"),
    ('nothing::a/b.py', "'nothing' is no installed package with configs"),
    ('json::a/b.py', "'json' is no installed package with configs"),
    ('clear::../setup.py', 'lies outside the configs of clear'),
])
def test_what_is_not_there(tmp_path, name, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        find_config(name)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(written(tmp_path, f'_base_ = [{name!r}]'))


def test_bases_of_both_packages_and_a_file_of_ones_own(tmp_path):
    (tmp_path / 'mine.py').write_text("_base_ = ['clear::_base_/models/linear_2048.py']\nseed = 3\n")
    path = written(tmp_path, f"_base_ = [{RESNET!r}, 'mine.py']\nmodel = dict(backbone=dict(depth=34))\n")
    with pytest.raises(ConfigError, match='Duplicate key'):  # two bases may not give the same key
        load_config(path)
    (tmp_path / 'mine.py').write_text("_base_ = ['clear::_base_/strategies/naive.py']\nseed = 3\n")
    cfg = load_config(path)[0]
    assert (cfg.model.backbone.depth, cfg.model._scope_, cfg.seed) == (34, 'mmpretrain', 3)
    assert cfg.cl_strategy.type == 'Naive' and '_scope_' not in cfg.cl_strategy


@pytest.mark.parametrize('line', ['import *', 'import model, train_dataloader'])
def test_bases_that_are_imported(tmp_path, line):
    path = written(tmp_path, f"""
from mmengine.config import read_base
with read_base():
    from mmpretrain.configs.resnet.resnet18_8xb16_cifar10 {line}
from torch.nn import Linear
train_dataloader.update(batch_size=2)
""")
    cfg = load_config(path)[0]
    old = Config.fromfile(resolve_base(RESNET))
    assert cfg.model == old.model and cfg.train_dataloader.batch_size == 2
    assert ('param_scheduler' in cfg) == line.endswith('*')


def test_a_module_that_is_not_there(tmp_path):
    path = written(tmp_path, 'from mmengine.config import read_base\n'
                   'with read_base():\n    from mmpretrain.configs.resnet.resnet18_8xb1_cifar10 import *\n')
    with pytest.raises(ConfigError, match=r"Nearest: 'resnet\.resnet18_8xb16_cifar10'"):
        load_config(path)


def test_mmengine_is_as_it_was(tmp_path):
    before = Config._get_cfg_path, Config._get_base_modules
    load_config(written(tmp_path, f'_base_ = [{RESNET!r}]'))
    assert (Config._get_cfg_path, Config._get_base_modules) == before


def test_a_chain_of_all_formats_from_another_folder(tmp_path, monkeypatch):
    """YAML, JSON and Python with an import in one chain, which ends in a shipped config with bases of its own."""
    (tmp_path / 'c.yaml').write_text("_base_: ['clear::demo/naive_lenet5_demo.py']\nseed: 3\n")
    (tmp_path / 'd.json').write_text('{"_base_": "c.yaml", "threads": 2}')
    path = written(tmp_path, "import numpy\n_base_ = ['d.json']\nnum_workers = int(numpy.sqrt(4))\n")
    cfg = load_config(path)[0]
    assert (cfg.seed, cfg.threads, cfg.num_workers, cfg.model.backbone.type) == (3, 2, 2, 'LeNet5')
    monkeypatch.chdir(tmp_path)
    assert base_tree('config.py') == [
        'config.py', '  d.json', '    c.yaml', '      clear::demo/naive_lenet5_demo.py',
        *(f'        clear::_base_/{name}.py' for name in ('scenarios/demo', 'models/lenet5_demo', 'strategies/naive',
                                                         'default_runtime'))]


def test_tree_of_configs_of_packages(tmp_path):
    assert base_tree(RESNET)[:2] == [RESNET, '  mmpretrain::_base_/models/resnet18_cifar.py']
    path = written(tmp_path, 'from mmengine.config import read_base\n'
                   'with read_base():\n    from mmpretrain.configs.resnet.resnet18_8xb16_cifar10 import *\n')
    assert '  import mmpretrain.configs.resnet.resnet18_8xb16_cifar10' in base_tree(path)


@pytest.mark.parametrize('name', ['configs/evaluation/demo_pairs.tsv', 'evaluation/demo_pairs.tsv',
                                  'clear::evaluation/demo_pairs.tsv'])
def test_data_files_of_configs_are_found_from_anywhere(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert shipped_file(name) == configs_folder() / 'evaluation' / 'demo_pairs.tsv'
    assert shipped_file('own.tsv') == Path('own.tsv')
    if '::' not in name:
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text('mine')
        assert shipped_file(name) == Path(name)  # what lies here is the user's


def test_data_files_that_shipped_configs_name_are_found_from_anywhere(tmp_path, monkeypatch):
    """A path below `configs/` in a value would be looked for in the current folder alone."""
    monkeypatch.chdir(tmp_path)
    named = {name for path in configs_folder().rglob('*.py')
             for name in re.findall(r"'(configs/[^']+)'", path.read_text())}
    assert named and all(shipped_file(name).is_file() for name in named)
    from clear.curation.buckets.rules import made_rule
    from clear.datasets import read_images
    from clear.evaluation.text.sentence_similarity import SentenceSimilarity

    assert SentenceSimilarity(path='configs/evaluation/demo_pairs.tsv').path.is_file()
    assert made_rule(dict(type='Periods', periods='configs/curation/clear_10_time.json')).sources()
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):  # of the images: the file was read
        read_images(dict(type='SugarCrepe', root=str(tmp_path), files='configs/evaluation/demo_choices.json'))
