"""Runs of alignment that are killed by SIGKILL inside an epoch, or while they save, and resumed: the same bits."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from killed_runs import die_after, die_before, run_in_fork
from PIL import Image
from short_runs import environment, program, read_results, run
from test_alignment_banks import COLOURS, HEAD, RANDOM, SIZED, config
from tiny_text import TINY_CLIP, write_bert

from clear.core.files import load_tensors

PROTOTYPES = dict(type='DINOHead', num_layers=1, out_channels=8, bottleneck_channels=12)
PIXELS = dict(type='OpenCLIPImageEncoder', arch='ViT-B-32', model_args=TINY_CLIP)
# Name: changes of the model (None for no banks), of the rest. Batches of 6, three an epoch, saved after every second.
RUNS = {
    'InfoNCELoss with workers': (dict(image=True, text=True), dict(), dict(num_workers=2)),
    'UniCLLoss in parts': (dict(image=True, text=True), dict(loss=dict(type='UniCLLoss'), accumulate=2), {}),
    'SigLIPLoss': (dict(image=True, text=True), dict(loss=dict(type='SigLIPLoss')), {}),
    'SEEDLoss': (dict(image=True), dict(image_head=None, text_head=None, loss=dict(
        type='SEEDLoss', embed_dim=16, queue_size=18, teacher_temp=0.07)), {}),
    'CompRessLoss': (dict(image=True), dict(image_head=None, text_head=None, loss=dict(
        type='CompRessLoss', num_queues=2, embed_dim=16, student_dim=16, queue_size=18)), {}),
    'ProtoCPCLoss': (dict(image=True, text=True), dict(image_head=PROTOTYPES, text_head=PROTOTYPES, loss=dict(
        type='ProtoCPCLoss', out_dim=8)), {}),
    'CrossModalDINOLoss': (dict(image=True), dict(image_head=PROTOTYPES, text_head=PROTOTYPES, loss=dict(
        type='CrossModalDINOLoss', out_dim=8)), {}),
    'LoRA': (dict(image=dict(lora=dict(rank=2)), text=dict(lora=dict(rank=2))), {}, {}),
    'one bank': (dict(image=True, transform=RANDOM), {}, {}), 'two banks': (dict(transform=SIZED), {}, {}),
    'no banks': (dict(use_banks=False), {}, {}),
}
MOMENTS = ('iteration', 'saving')


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('colours')
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for row in range(6):
            Image.new('RGB', (36, 40), tuple(value + 5 * row for value in colour)).save(folder / name / f'{row}.png')
    return folder


def written(root, folder, towers, model, loader):
    """The config of a run as a file; its banks are below the folder."""
    cfg = config(root, folder / 'banks', **towers)
    cfg['model'] |= model
    cfg['train_dataloader'] |= loader
    cfg['default_hooks'] = dict(checkpoint=dict(type='CheckpointHook', interval=1, iter_interval=2, max_keep=2))
    (folder / 'c.json').write_text(json.dumps(cfg))
    return folder / 'c.json'


def train(path, work_dir, *options):
    done = run('train', path, '--work-dir', work_dir, *options)
    assert done.code == 0, done.err


def train_and_die(path, work_dir, moment):
    """Behind the fifth of six iterations, of which the fourth is saved; or while that of the fourth is renamed."""
    from mmengine.hooks import IterTimerHook

    if moment == 'iteration':
        die_after(IterTimerHook, 'after_train_iter', lambda _, runner, *more: runner.iter + 1 == 5)
    else:
        renamed = []
        die_before(Path, 'replace', lambda _, target: Path(target).name == 'latest.pth' and (
            renamed.append(target) or len(renamed) == 3))
    train(path, work_dir)


def assert_same(found, expected):
    """Weights, state of loss and optimiser, and what was measured."""
    ours, theirs = (load_tensors(folder / 'latest.pth') for folder in (found, expected))
    assert ours.keys() == theirs.keys()
    for key in ('state_dict', 'optimizer', 'scheduler'):
        torch.testing.assert_close(ours[key], theirs[key], rtol=0, atol=0)
    ours, theirs = (read_results(folder) for folder in (found, expected))
    assert ours['metrics'] == theirs['metrics'] and ours['extras']['train_log'] == theirs['extras']['train_log']
    assert not [path for path in found.iterdir() if path.name.endswith('.tmp')]


def check_kills(path, folder, moments=MOMENTS):
    run_in_fork(train, path, folder / 'whole')
    for moment in moments:
        run_in_fork(train_and_die, path, folder / moment, moment, code=-signal.SIGKILL)
        assert load_tensors(folder / moment / 'latest.pth')['progress']['iter'] == (4 if moment == 'iteration' else 3)
        run_in_fork(train, path, folder / moment, '--resume')
        assert_same(folder / moment, folder / 'whole')


@pytest.mark.slow
@pytest.mark.parametrize('name', RUNS)
def test_killed_and_resumed(name, root, tmp_path):
    check_kills(written(root, tmp_path, *RUNS[name]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('adapter', ['bottleneck_adapter', 'lora_adapter', 'prefix_tuning'])
def test_adapters_killed_and_resumed(adapter, root, tmp_path):
    pytest.importorskip('adapters')
    torch.manual_seed(0)
    text = dict(type='HuggingFaceTextEncoder', model=write_bert(tmp_path / 'bert', hidden_size=64),
                text_pooler='mean', adapter=adapter)
    check_kills(written(root, tmp_path, dict(image=True), dict(text_encoder=text, text_head=HEAD), {}), tmp_path,
                ['iteration'])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_from_outside_in_processes_of_their_own(root, tmp_path):
    path = written(root, tmp_path, dict(image=True), dict(image_head=None, text_head=None, loss=dict(
        type='SEEDLoss', embed_dim=16, queue_size=18, teacher_temp=0.07)), {})
    cfg = json.loads(path.read_text())
    cfg['train_cfg']['max_epochs'] = 20
    path.write_text(json.dumps(cfg))
    command = [*program('train'), str(path), '--work-dir']
    run_in_fork(train, path, tmp_path / 'whole')
    process = subprocess.Popen([*command, str(tmp_path / 'parts')], env=environment(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 400
    while not (tmp_path / 'parts' / 'latest.pth').exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert load_tensors(tmp_path / 'parts' / 'latest.pth')['progress']['iter'] < 60
    done = subprocess.run([*command, str(tmp_path / 'parts'), '--resume'], env=environment(), capture_output=True,
                          text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / 'parts', tmp_path / 'whole')
