"""TensorBoard and W&B: without a key and a network, into the work_dir and nowhere else."""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from short_runs import TOOLS, environment
from toy_runs import toy_run

from clear.core.storage.tracking import wandb_run_id
from clear.engine.training.program import prepare

pytest.importorskip('mmpretrain')

CONFIG = """
custom_imports = dict(imports=['toy_runs'])
model = dict(type='ToyPairs')
train_dataloader = dict(batch_size=4, dataset=dict(type='ToyViews'))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05))
visualizer = dict(type='Visualizer', vis_backends=[dict(type=f'{name}VisBackend') for name in (
    'Local', 'Wandb', 'Tensorboard')])
"""
WANDB = dict(type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend')])


@pytest.fixture
def no_key(tmp_path, monkeypatch):
    """An account without a key, in an empty folder."""
    for name in ('WANDB_MODE', 'WANDB_API_KEY', 'WANDB_DIR', 'NETRC'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'home').mkdir()
    (tmp_path / 'here').mkdir()
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path / 'here')
    return tmp_path


@pytest.mark.slow
def test_a_run_without_key_and_network_logs_into_its_work_dir(no_key):
    """In a fresh process, since W&B keeps a process of its own; a socket stands where its server would be."""
    Path('toy.py').write_text(CONFIG)
    Path('module.py').write_text('secret = 1\n')
    with socket.create_server(('127.0.0.1', 0)) as server:
        server.setblocking(False)
        address = f'http://127.0.0.1:{server.getsockname()[1]}'
        env = environment(HOME=str(no_key / 'home'), WANDB_BASE_URL=address, HTTPS_PROXY=address, HTTP_PROXY=address)
        env['PYTHONPATH'] = os.pathsep.join([str(Path(__file__).parents[2] / 'helpers'), env['PYTHONPATH']])
        del env['WANDB_MODE']
        done = subprocess.run([sys.executable, str(TOOLS / 'train.py'), 'toy.py', '--work-dir', 'out/run'], env=env,
                              capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stderr
        with pytest.raises(BlockingIOError):
            server.accept()
    assert 'no key here' in done.stdout
    assert sorted(path.name for path in Path().iterdir()) == ['module.py', 'out', 'toy.py']
    assert [path.name for path in Path('out').iterdir()] == ['run']
    run, = Path('out/run/vis_data/wandb').glob('offline-run-*')
    log, = run.glob('*.wandb')
    written = log.read_bytes()
    assert b'loss_pair' in written and b'ToyViews' in written  # numbers and config
    assert list(Path('out/run/vis_data').glob('events.out.tfevents*'))
    copied = [path for folder in (run, no_key / 'home') for path in folder.rglob('*') if b'secret' in content(path)]
    assert not copied and b'module.py' not in written


def content(path):
    return path.read_bytes() if path.is_file() else b''


def fake_wandb(monkeypatch):
    """What a backend asks of W&B, in turn."""
    calls = []
    run = SimpleNamespace(config=SimpleNamespace(update=lambda values, **kwargs: calls.append(('config', values))),
                          log_code=lambda name: calls.append(('code', name)))
    wandb = SimpleNamespace(run=run, config=run.config, init=lambda **kwargs: calls.append(('init', kwargs)),
                            log=lambda values, **kwargs: calls.append(('log', values)),
                            join=lambda: calls.append(('join', None)))
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    return calls


def test_wandb_gets_config_and_numbers_but_no_code(no_key, monkeypatch):
    calls = fake_wandb(monkeypatch)
    toy_run(no_key / 'run', visualizer=WANDB, train_cfg__max_epochs=2)
    names = [name for name, _ in calls]
    assert names[:2] == ['init', 'config'] and names[-1] == 'join' and 'log' in names and 'code' not in names
    assert calls[0][1] == dict(dir=str(no_key / 'run/vis_data'), id=wandb_run_id(no_key / 'run'), resume='allow',
                               reinit='finish_previous')
    assert calls[1][1]['model'] == dict(type='ToyPairs')
    assert any('loss_pair' in values for name, values in calls if name == 'log')


def test_code_goes_to_wandb_where_it_is_asked_for(no_key, monkeypatch):
    calls = fake_wandb(monkeypatch)
    backend = dict(type='WandbVisBackend', log_code_name='mine')
    toy_run(no_key / 'run', visualizer=dict(WANDB, vis_backends=[backend]), train_cfg__max_epochs=1)
    assert [name for name, _ in calls][:3] == ['init', 'config', 'code'] and calls[2] == ('code', 'mine')


@pytest.mark.parametrize(('given', 'expected'), [
    ({}, 'offline'), (dict(WANDB_MODE='disabled'), 'disabled'), (dict(WANDB_API_KEY='k' * 40), None)])
def test_wandb_is_offline_without_a_key_unless_told_otherwise(no_key, monkeypatch, given, expected):
    monkeypatch.setattr(os, 'environ', {**os.environ, **given})
    prepare(Config(dict(visualizer=WANDB)), argparse.Namespace(branch=None, amp=None))
    assert os.environ.get('WANDB_MODE') == expected
