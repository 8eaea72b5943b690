import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from short_runs import FEATURE_CONFIG, ROOT, environment, read_results, run, train, write_config

from clear.core.errors import ConfigError
from clear.engine.continual import program
from clear.engine.continual import runner as runner_module
from clear.engine.launch import read_run_config
from clear.engine.runners import runner_type, runners
from clear.registry import RUNNERS


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'features', features=8, per_class=6, num_buckets=2,
                            images=False)


@pytest.fixture
def config(features, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_config('config.py', FEATURE_CONFIG, features)


def arguments(config, **values):
    defaults = dict(config=str(config), cfg_options=None, seed=None, device=None, work_dir=None)
    return argparse.Namespace(**{**defaults, **values})


# Config and options

def test_options_beat_the_file_and_flags_beat_options(config):
    with config.open('a') as file:
        file.write("seed = 1\ndevice = 'file'\nwork_dir = 'file'\n")
    cfg = read_run_config(arguments(config))
    assert (cfg.seed, cfg.device, cfg.work_dir, cfg.name) == (1, 'file', 'file', 'config')
    cfg = read_run_config(arguments(config, cfg_options=['seed=2', 'work_dir=option', 'name=mine']))
    assert (cfg.seed, cfg.device, cfg.work_dir, cfg.name) == (2, 'file', 'option', 'mine')
    cfg = read_run_config(arguments(config, cfg_options=['seed=2', 'work_dir=option'], seed=0, work_dir='flag'))
    assert (cfg.seed, cfg.work_dir) == (0, 'flag')


def test_work_dir_is_named_after_the_file(config):
    assert read_run_config(arguments(config)).work_dir == 'work_dirs/config'


@pytest.mark.parametrize('cfg, expected', [
    (dict(cl_strategy={}), 'ContinualRunner'),
    (dict(train_dataloader={}), 'Runner'),
    (dict(cl_strategy={}, runner_type='Runner'), 'Runner'),
])
def test_runner_is_chosen_by_the_keys(cfg, expected):
    assert runner_type(cfg) == expected


def test_unknown_runner_is_refused():
    with pytest.raises(ConfigError, match="'Rnner' is unknown. Known: ContinualRunner"):
        runner_type(dict(runner_type='Rnner'))


def test_misspelt_key_is_refused_before_training(config):
    with config.open('a') as file:
        file.write('checkpoint_confg = dict(interval=1)\n')
    finished = run('train', config, '--work-dir', 'run')
    assert finished.code == 2 and "Did you mean 'checkpoint_config'?" in finished.err and not Path('run').exists()


def test_threads_are_set(config):
    before = torch.get_num_threads()
    try:
        train(config, '--dry-run', '--cfg-options', 'threads=2')
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


# The folder of a run

def test_a_failed_start_can_be_repeated(config):
    """A folder that holds logs only is no run: the corrected command needs no --overwrite."""
    assert run('train', config, '--work-dir', 'run', '--cfg-options', 'model.head.num_classes=5').code == 2
    assert Path('run/run.log').is_file()
    train(config, '--work-dir', 'run')
    assert read_results('run')['acc_matrix'][1][1] is not None


def test_a_refused_resume_leaves_the_config_of_the_run(config):
    train(config, '--work-dir', 'run')
    before = Path('run/config.py').read_text()
    finished = run('train', config, '--work-dir', 'run', '--resume', '--cfg-options', 'cl_strategy.train_epochs=9')
    assert finished.code == 2
    assert Path('run/config.py').read_text() == before


def test_resuming_elsewhere_writes_the_config_there(config):
    train(config, '--work-dir', 'run', '--cfg-options', 'checkpoint_config.interval=1')
    train(config, '--work-dir', 'other', '--resume', 'run/exp_0.pth', '--cfg-options', 'checkpoint_config.interval=1')
    assert 'interval=1' in Path('other/config.py').read_text()


def test_environment_page_names_the_command_and_the_libraries(config, monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'config.py', '--seed', '5'])
    train(config, '--work-dir', 'run')
    page = dict(line.split(': ', 1) for line in Path('run/env.txt').read_text().splitlines())
    assert page['command'] == 'tools/train.py config.py --seed 5'
    assert page['processes'] == '1'
    assert {'clear', 'torch', 'torchvision', 'mmengine', 'mmpretrain', 'avalanche'} <= set(page)


# mmengine's Runner

MMENGINE_CONFIG = """
model = dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=3),
             head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')),
             data_preprocessor=dict(mean=[127.5], std=[127.5], num_classes=3))
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_prefix={root!r},
                 pipeline=[dict(type='LoadImageFromFile', color_type='grayscale'), dict(type='PackInputs')]))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""


def test_config_in_the_keys_of_mmengine_is_trained_by_its_runner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clear_tree('images', per_class=4, num_buckets=1, image_size=32)
    write_config('other.py', MMENGINE_CONFIG, 'images/labeled_images/1')
    train('other.py', '--work-dir', 'run', '--seed', 1)
    weights = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    assert weights['backbone.classifier.2.weight'].shape == (3, 84)


def test_config_of_no_runner_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('other.py').write_text("model = dict(type='ToyModel')\ntrain_dataloader = dict()\n")
    finished = run('train', 'other.py')
    assert finished.code == 2 and "'cl_strategy'" in finished.err and "'optim_wrapper'" in finished.err


# Runners of others

OUTSIDE = """
from clear.core.files import write_text
from clear.engine.base import RunnerProgram
from clear.registry import RUNNERS


@RUNNERS.register_module()
class CountingRunner(RunnerProgram):
    KEYS = {'count_to', 'runner_type', 'name', 'work_dir', 'seed', 'device', 'threads', 'custom_imports'}
    FILES = ('numbers.txt', 'latest.pth', 'part_*.txt')
    MARK = 'count_to'

    def describe(self):
        return f"counts to {self.cfg['count_to']}"

    def train(self, args):
        path = self.work_dir / 'numbers.txt'
        first = len(path.read_text().split()) if args.resume else 0
        old = path.read_text() if args.resume else ''
        write_text(path, old + ''.join(f'{number} ' for number in range(first, self.cfg['count_to'])))
        write_text(self.work_dir / 'latest.pth', 'not torch')
"""
COUNTING = "count_to = 3\ncustom_imports = dict(imports=[{module!r}])\n"


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Write a module and a config beside it, in a folder of its own; what it registers goes again."""
    before = dict(RUNNERS.module_dict)
    folder = tmp_path / 'elsewhere'
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    modules = []

    def write(name, text, config=COUNTING):
        (folder / f'{name}.py').write_text(text)
        modules.append(name)
        return write_config(folder / 'config.py', config.replace('{module!r}', repr(name)), '')

    yield write
    RUNNERS.module_dict.clear()
    RUNNERS.module_dict.update(before)
    for name in modules:
        sys.modules.pop(name, None)


def test_a_runner_of_another_package_is_trained_resumed_and_replaced(outside, formatted_configs):
    config = outside('counting_outside', OUTSIDE)
    assert 'counts to 3\ndry run' in train(config, '--work-dir', 'run', '--dry-run').out and not Path('run').exists()
    assert 'counts to 3' in train(config, '--work-dir', 'run').out
    assert Path('run/numbers.txt').read_text() == '0 1 2 ' and Path('run/env.txt').is_file()
    refused = run('train', config, '--work-dir', 'run')
    assert refused.code == 2 and 'run already holds a run' in refused.err
    train(config, '--work-dir', 'run', '--resume', '--cfg-options', 'count_to=5')
    assert Path('run/numbers.txt').read_text() == '0 1 2 3 4 '
    Path('run/part_1.txt').touch()
    Path('run/notes.txt').touch()
    train(config, '--work-dir', 'run', '--overwrite')
    assert Path('run/numbers.txt').read_text() == '0 1 2 '
    assert Path('run/notes.txt').is_file() and not Path('run/part_1.txt').exists()
    wrong = run('train', config, '--cfg-options', 'count_too=5')
    assert wrong.code == 2 and "nobody reads 'count_too'. Did you mean 'count_to'" in wrong.err
    untested = run('test', config, 'run/latest.pth')
    assert untested.code == 2 and 'tools/test.py: a CountingRunner offers nothing of the kind' in untested.err
    printed = run('print_config', config, '--cfg-options', 'threads=2')
    assert printed.code == 0 and 'count_to = 3' in printed.out


def test_the_runner_of_the_docs_counts(outside):
    page = (ROOT / 'docs' / 'extending.md').read_text()
    example = page.partition('## A runner')[2].partition('```python\n')[2].partition('```')[0]
    config = outside('counting_of_the_docs', example)
    assert 'counts to 3' in train(config, '--work-dir', 'run').out
    assert Path('run/numbers.txt').read_text() == '0 1 2'


def test_a_runner_without_files_is_refused(outside):
    config = outside('no_files', OUTSIDE.replace("    FILES = ('numbers.txt', 'latest.pth', 'part_*.txt')\n", ''))
    finished = run('train', config, '--cfg-options', 'runner_type=CountingRunner')
    assert finished.code == 2 and "runner_type 'CountingRunner'" in finished.err and 'lacks FILES' in finished.err
    assert 'no_files.py' in finished.err and len(finished.err.splitlines()) == 1


def test_two_runners_of_one_name_are_refused(outside):
    config = outside('a_second_one', OUTSIDE.replace('register_module()', "register_module('ProbeRunner')"))
    finished = run('train', config)
    assert finished.code == 2 and "'ProbeRunner' is defined twice" in finished.err
    assert 'a_second_one.py' in finished.err and 'probing/program.py' in finished.err


def test_an_unknown_runner_is_refused_with_the_nearest(config):
    finished = run('train', config, '--cfg-options', 'runner_type=ContinualRuner')
    assert finished.code == 2 and "Did you mean 'ContinualRunner'" in finished.err


@pytest.mark.parametrize('cfg, expected', [
    (dict(stream={}), 'StreamRunner'), (dict(stream={}, runner_type='Runner'), 'StreamRunner'),
    (dict(stream={}, runner_type='ProbeRunner'), 'ProbeRunner'), (dict(cl_strategy={}), 'ContinualRunner'),
    (dict(stream={}, cl_strategy={}, runner_type='ContinualRunner'), 'ContinualRunner'), ({}, 'Runner')])
def test_marks_tell_a_runner_from_those_it_derives_from(cfg, expected):
    assert runner_type(cfg) == expected


def test_two_marks_are_refused():
    with pytest.raises(ConfigError, match="has 'cl_strategy' of a ContinualRunner and 'stream' of a StreamRunner"):
        runner_type(dict(stream={}, cl_strategy={}))


def test_every_runner_says_what_it_reads_and_writes():
    assert set(runners()) == {'ContinualRunner', 'OverTimeRunner', 'ProbeRunner', 'Runner', 'StageRunner',
                              'StreamRunner'}
    for name, runner in runners().items():
        drawn = set() if name == 'StageRunner' else {'seed', 'device'}  # stages draw nothing and need no device
        assert {'work_dir', 'name', 'runner_type'} | drawn <= set(runner.KEYS), name


def test_a_run_checks_its_config_once(config, monkeypatch):
    seen = []
    for module in (program, runner_module):
        monkeypatch.setattr(module, 'check_continual_config',
                            lambda cfg, checked=program.check_continual_config: (seen.append(1), checked(cfg)))
    train(config, '--work-dir', 'run')
    assert len(seen) == 1


def test_a_continual_run_imports_no_other_runner():
    """Its start would pay for what the others need."""
    code = ('import sys, clear.engine.launch; from clear.engine.runners import runners; runners(); '
            "print([name for name in ('avalanche', 'clear.engine.training.runner', "
            "'clear.engine.continual.runner', 'clear.engine.streams.pretraining') if name in sys.modules])")
    finished = subprocess.run([sys.executable, '-c', code], env=environment(), capture_output=True, text=True)
    assert finished.stdout.strip() == '[]', finished.stdout + finished.stderr
