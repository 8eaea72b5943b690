"""A config on a base of mmpretrain, with data and schedule overridden, is a run of ours: saved, stopped, continued."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from short_runs import TOOLS, environment

from clear.engine.scopes import settle
from clear.engine.training.hooks import CheckpointHook, ParamSchedulerHook
from clear.engine.training.keys import check_runner_config
from clear.engine.training.runner import Runner

DATA = """
plain = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
images = dict(_delete_=True, type='CustomDataset', data_root='data', pipeline=PIPELINE)
train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False, dataset=images)
train_cfg = dict(max_epochs=3)
threads = 1
"""
BASES = {
    'resnet': "_base_ = ['mmpretrain::resnet/resnet18_8xb16_cifar10.py']\n" + DATA.replace('PIPELINE', 'plain') + """
val_dataloader = dict(num_workers=0, dataset=images)
test_dataloader = val_dataloader
model = dict(head=dict(num_classes=2))
data_preprocessor = dict(num_classes=2)
""",
    'moco': "_base_ = ['mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py']\n" + DATA.replace(
        'PIPELINE', """[dict(type='LoadImageFromFile'), dict(type='MultiView', num_views=2, transforms=[
            [dict(type='RandomResizedCrop', scale=32), dict(type='RandomFlip', prob=0.5)]]),
            dict(type='PackInputs')]"""),
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Writes the config of a base beside eight images; its path."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for index in range(8):
        folder = Path('data') / 'ab'[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f'{index}.png')

    def write(base):
        Path(f'{base}.py').write_text(BASES[base])
        return f'{base}.py'

    return write


@pytest.mark.parametrize('base', BASES)
def test_hooks_are_ours_and_the_model_is_theirs(config, base):
    cfg = Config.fromfile(config(base))
    settle(cfg)
    check_runner_config(cfg)
    assert cfg.model.type == dict(resnet='ImageClassifier', moco='mmpretrain.MoCo')[base]
    assert '_scope_' not in cfg.default_hooks.checkpoint
    unchanged = Config.fromfile(f'{base}.py')
    unchanged['work_dir'], unchanged['model'] = 'run', torch.nn.Linear(1, 1)
    runner = Runner.from_cfg(unchanged)
    assert unchanged.default_hooks.checkpoint._scope_ == 'mmpretrain'
    kinds = [type(hook) for hook in runner.hooks]
    assert CheckpointHook in kinds and ParamSchedulerHook in kinds
    assert [kind.__name__ for kind in kinds].count('CheckpointHook') == 1


def train(*arguments):
    return subprocess.Popen([sys.executable, str(TOOLS / 'train.py'), *arguments], env=environment(),
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, code=0):
    out, err = process.communicate(timeout=300)
    assert process.returncode == code and 'Traceback' not in err, err
    return out + err


def stop(process, path, kind):
    """Send a signal once `path` is there."""
    deadline = time.monotonic() + 200
    while not Path(path).exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(kind)


def weights(folder):
    return torch.load(Path(folder) / 'latest.pth', weights_only=True)['state_dict']


@pytest.mark.slow
@pytest.mark.parametrize('base', BASES)
def test_killed_stopped_resumed_and_tested(config, base):
    path = config(base)
    finish(train(path, '--work-dir', 'whole'))
    killed = train(path, '--work-dir', 'run')
    stop(killed, 'run/latest.pth', signal.SIGKILL)
    killed.communicate()
    stopped = train(path, '--work-dir', 'run', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
    stop(stopped, 'run/epoch_2.pth', signal.SIGTERM)
    if stopped.wait(200) != 0:  # else it was done before the signal came
        assert stopped.returncode == 143
        finish(train(path, '--work-dir', 'run', '--resume'))
    torch.testing.assert_close(weights('run'), weights('whole'), rtol=0, atol=0)
    assert sorted(file.name for file in Path('run').glob('*.pth')) == [
        'epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth', 'latest.pth']
    if base == 'resnet':
        tested = subprocess.run([sys.executable, str(TOOLS / 'test.py'), path, 'run/latest.pth'], text=True,
                                env=environment(), capture_output=True)
        assert tested.returncode == 0 and 'accuracy/top1' in tested.stdout + tested.stderr, tested.stderr
