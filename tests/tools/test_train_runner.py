"""`tools/train.py` on ordinary configs, in fresh processes: kills, signals, several processes, bad configs."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from short_runs import TOOLS, environment, run, train

TOY = """
custom_imports = dict(imports=['toy_runs'])
model = dict(type='ToyPairs')
train_dataloader = dict(batch_size=4, num_workers={workers}, dataset=dict(type='ToyViews', size=48))
train_cfg = dict(by_epoch=True, max_epochs=4)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=4)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', iter_interval=1),
                     results=dict(type='ResultsHook', figures=False))
threads = 1
seed = 3
"""
TOYS = str(Path(__file__).parents[1] / 'helpers')


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The toy's config in an empty folder; `custom_imports` finds the toy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(TOYS)

    def write(workers=0, extra=''):
        Path('toy.py').write_text(TOY.format(workers=workers) + extra)
        return 'toy.py'

    return write


def outcome(folder):
    state = torch.load(Path(folder) / 'latest.pth', weights_only=True)
    results = json.loads((Path(folder) / 'results.json').read_text())
    del results['timing'], results['git']
    return state['state_dict'], state['optimizer']['state'], state['progress']['train_log'], results


def assert_same(one, other):
    torch.testing.assert_close(outcome(one)[:2], outcome(other)[:2], rtol=0, atol=0)
    assert outcome(one)[2:] == outcome(other)[2:]


def fresh(*arguments):
    """`tools/train.py` in a fresh interpreter."""
    env = environment()
    env['PYTHONPATH'] = os.pathsep.join([TOYS, str(TOOLS.parent), env.get('PYTHONPATH', '')])
    return subprocess.Popen([sys.executable, str(TOOLS / 'train.py'), *map(str, arguments)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process, timeout_s=120):
    """Until the file is there; fails if the process ends before."""
    deadline = time.monotonic() + timeout_s
    while not Path(path).exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize('workers', [0, 2])
def test_killed_at_a_random_iteration_ends_as_if_not(config, workers):
    """kill -9 between, or in the middle of, any two iterations of a fresh process; another one continues."""
    name = config(workers)
    whole = fresh(name, '--work-dir', 'whole')
    assert whole.wait(120) == 0, whole.communicate()[1]
    process = fresh(name, '--work-dir', 'killed')
    wait_for('killed/latest.pth', process)
    time.sleep(random.uniform(0.0, 0.6))
    process.kill()
    process.wait()
    done = torch.load('killed/latest.pth', weights_only=True)['progress']['iter']
    resumed = fresh(name, '--work-dir', 'killed', '--resume')
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert f'{done} of 48 iterations are finished' in out
    assert_same('whole', 'killed')


@pytest.mark.slow
def test_sigterm_saves_and_ends_with_143(config):
    # So long that the signal comes before the end: a run that ignored it would end with 0.
    name = config(extra='train_cfg = dict(by_epoch=True, max_epochs=40)\n')
    train(name, '--work-dir', 'whole')
    process = fresh(name, '--work-dir', 'stopped')
    wait_for('stopped/latest.pth', process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and 'error: Stopped by a signal' in err
    train(name, '--work-dir', 'stopped', '--resume')
    assert_same('whole', 'stopped')


@pytest.mark.slow
def test_two_processes_by_torchrun_are_one(config):
    name = config(extra="model = dict(type='ToyPairs', noise=0.0, has_bn=True, keeps_average=False)\nsync_bn = True\n")
    train(name, '--work-dir', 'one')
    env = environment()
    env['PYTHONPATH'] = os.pathsep.join([TOYS, str(TOOLS.parent), env.get('PYTHONPATH', '')])
    done = subprocess.run([str(TOOLS / 'dist_train.sh'), name, '2', '--work-dir', 'two', '--cfg-options',
                           'train_dataloader.batch_size=2'], capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stderr
    assert 'batch 2 x 2 process(es)' in done.stdout and done.stdout.count('results  two') == 1
    one, two = outcome('one'), outcome('two')
    torch.testing.assert_close(one[0], two[0], rtol=1e-4, atol=1e-5)
    assert one[3]['config_hash'] == two[3]['config_hash'] and two[3]['world_size'] == 2


def test_run_resume_overwrite(config):
    name = config()
    train(name, '--work-dir', 'run')
    refused = run('train', name, '--work-dir', 'run')
    assert refused.code == 2 and '--resume' in refused.err and '--overwrite' in refused.err
    train(name, '--work-dir', 'run', '--resume')
    other = run('train', name, '--work-dir', 'run', '--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=0.1')
    assert other.code == 2 and 'optim_wrapper.optimizer.lr: 0.05 -> 0.1' in other.err
    train(name, '--work-dir', 'run', '--overwrite', '--seed', 5)
    assert outcome('run')[3]['seeds'] == dict(train=5)
    assert len(Path('run/vis_data/scalars.json').read_text().splitlines()) == 4  # one per epoch of 12 iterations
    nothing = run('train', name, '--work-dir', 'empty', '--resume')
    assert nothing.code == 2 and 'Nothing to resume' in nothing.err


def test_dry_run_leaves_nothing(config):
    done = train(config(), '--work-dir', 'run', '--dry-run')
    assert '48 iterations' in done.out and 'ToyViews  48 samples' in done.out and 'MiB' in done.out
    assert [path.name for path in Path().iterdir()] == ['toy.py']


def test_amp_flags(config):
    name = config()
    assert 'AmpOptimWrapper on cpu' in train(name, '--work-dir', 'a', '--dry-run', '--amp').out
    name = config(extra="amp = 'bf16'\n")
    assert 'AmpOptimWrapper on cpu' in train(name, '--work-dir', 'a', '--dry-run').out
    assert 'AmpOptimWrapper' not in train(name, '--work-dir', 'a', '--dry-run', '--no-amp').out


def test_nan_loss_ends_with_2_and_a_name(config):
    failed = run('train', config(), '--work-dir', 'run', '--cfg-options', 'train_dataloader.dataset.poison=[2,7]',
                 'model.has_bn=False')
    assert failed.code == 2 and 'epoch 3' in failed.err and 'run/latest.pth' in failed.err
    assert torch.load('run/latest.pth', weights_only=True)['progress']['iter'] >= 24


BAD = {
    'optim_wraper = dict()': "assigns 'optim_wraper'.*'optim_wrapper'",
    'model = dict(type="ToyPairs", nois=1.0)': "model: ToyPairs has no key 'nois'.*'noise'",
    'model = dict(type="ToyPair")': "no type 'ToyPair'.*ToyPairs",
    'train_dataloader = dict(batchsize=4, dataset=dict(type="ToyViews"))': "'batchsize'.*'batch_size'",
    'train_dataloader = dict(batch_size=4, dataset=dict(type="ToyViews", sise=3))': "ToyViews has no key 'sise'",
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1, momentun=0.9))': "'momentun'.*'momentum'",
    'optim_wrapper = dict(optimizer=dict(type="SDG", lr=0.1))': "no type 'SDG'",
    'optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1), accumulative_counts=0)': 'accumulative_counts is 0',
    'param_scheduler = [dict(type="CosineAnnealingLR", Tmax=4)]': r"param_scheduler\[0\].*'Tmax'.*'T_max'",
    'train_cfg = dict(by_epoch=True, max_epoch=4)': "'max_epoch'.*'max_epochs'",
    'default_hooks = dict(checkpoint=dict(type="CheckpointHook", intervall=4))': "'intervall'.*'interval'",
    'custom_hooks = [dict(type="OnlineKNHook")]': "'OnlineKNNHook'",
    'val_cfg = dict()': 'val_cfg; give all three or none',
    'auto_scale_lr = dict(enable=True)': 'base_batch_size',
    'seed = -1': 'seed is -1',
    'sync_bn = "mmcv"': 'sync_bn',
}


@pytest.mark.parametrize('line', BAD)
def test_bad_config_is_one_message(config, line):
    failed = run('train', config(extra=line + '\n'),
                 '--work-dir', 'run')
    assert failed.code == 2 and re.search(BAD[line], failed.err), failed.err
    assert not Path('run').exists()


def test_misspelt_option(config):
    failed = run('train', config(), '--cfg-options', 'optim_wraper.optimizer.lr=1')
    assert failed.code == 2 and "'optim_wrapper'" in failed.err


def test_overwrite_keeps_the_old_run_if_the_new_one_cannot_be_built(config):
    train(config(), '--work-dir', 'run')
    before = {path.name: path.read_bytes() for path in Path('run').glob('*.pth')}
    results = Path('run/results.json').read_text()
    refused = run('train', 'toy.py', '--work-dir', 'run', '--overwrite', '--cfg-options', 'load_from=nowhere.pth')
    assert refused.code == 2 and 'nowhere.pth' in refused.err
    assert {path.name: path.read_bytes() for path in Path('run').glob('*.pth')} == before
    assert Path('run/results.json').read_text() == results and not Path('run/.replaced').exists()
