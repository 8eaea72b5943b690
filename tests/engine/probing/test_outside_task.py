"""The task of docs/extending.md, from a folder outside the package: run, killed, resumed, reported."""

import signal
import sys
from pathlib import Path

import pytest
from doc_pages import python_files
from killed_runs import run_in_fork
from short_runs import read_results, run, without_timing
from tiny_encoder import write_images

from clear.core.files import read_json
from clear.registry import TASKS

CONFIG = 'configs/my/blur_demo.py'
# The kill comes in the second task, at its first image.
DEADLY = """

from pathlib import Path
import os, signal

whole = BlurInvariance.run


def run(self, encoder, data):
    if self.sigma > 1 and Path('deadly').exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, encoder, data)


BlurInvariance.run = run
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The files of the page in an empty folder that is on the path, and images where they expect them."""
    TASKS.import_from_location()
    before = dict(TASKS.module_dict)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ('blur.py', CONFIG):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(python_files()[name])
    write_images(Path('data/demo/labeled_images/1'), count=4, size=40)
    yield
    TASKS.module_dict.clear()
    TASKS.module_dict.update(before)
    sys.modules.pop('blur', None)


def train(work_dir, *options):
    done = run('train', CONFIG, '--work-dir', work_dir, '--device', 'cpu', *options)
    assert done.code == 0, done.err


def test_outside_task_is_run_killed_resumed_and_reported():
    with Path('blur.py').open('a') as file:
        file.write(DEADLY)
    Path('deadly').touch()
    run_in_fork(train, 'cut', code=-signal.SIGKILL)
    jobs = read_json(Path('cut/jobs.json'))['jobs']
    assert [job['state'] for job in jobs.values()] == ['done', 'running']
    Path('deadly').unlink()
    train('cut', '--resume')
    jobs = read_json(Path('cut/jobs.json'))['jobs']
    assert [job['attempts'] for job in jobs.values()] == [1, 2]
    train('whole')
    cut, whole = (without_timing(read_results(name)) for name in ('cut', 'whole'))
    # The text of the config names the work_dir.
    assert cut['extras'].pop('config_text') == whole['extras'].pop('config_text').replace('whole', 'cut')
    assert cut == whole
    metrics = read_results('cut')['metrics']
    assert 1 > metrics['random/slight/cosine'] > metrics['random/strong/cosine']
    assert 'random/strong/cosine' in Path('cut/report.html').read_text()
