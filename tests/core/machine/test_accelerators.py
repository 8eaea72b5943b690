"""What torch says is asked in another process: whatever happens there, an answer comes."""

import pytest

from clear.core.machine.accelerators import Gpu, driver, finish_torch, start_torch

GPU = dict(name='H200', memory=10, free=5, bf16=True)


@pytest.mark.parametrize('code, seconds, error', [
    ('import time; time.sleep(60)', 0.1, 'took more than 0.1 s'),
    ('import os; os.kill(os.getpid(), 11)', 60, 'signal 11'),
    ("raise ImportError('libcudart.so.13: cannot open')", 60, 'libcudart.so.13: cannot open'),
    ("print('no answer')", 60, 'torch gave no answer'),
    ('', 60, 'torch gave no answer'),
])
def test_no_answer_is_told(code, seconds, error):
    found = finish_torch(start_torch(code), seconds)
    assert found.version is None and error in found.error
    assert found.late == (seconds < 1)


def test_an_answer():
    code = f'import json; print("noise"); print(json.dumps(dict(version="2", gpus=[{GPU}])))'
    found = finish_torch(start_torch(code))
    assert found.version == '2' and found.gpus == [Gpu(**GPU)] and found.error is None


def test_driver(tmp_path):
    assert driver(tmp_path) == (None, 0)
    folder = tmp_path / 'proc/driver/nvidia'
    folder.mkdir(parents=True)
    (folder / 'version').write_text('NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\nGCC 12\n')
    assert driver(tmp_path) == ('550.54.15', 0)
    (folder / 'gpus/0000:01:00.0').mkdir(parents=True)
    assert driver(tmp_path) == ('550.54.15', 1)
