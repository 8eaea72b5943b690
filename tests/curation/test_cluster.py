"""The same stages as tasks of Ray: the same bytes as by the pool, whatever is lost on the way."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from metadata_files import row, write
from test_stages import ROOT, command, contents

from clear.core.errors import ClearError, ConfigError, DataError
from clear.engine.stages import cluster as module
from clear.engine.stages.keys import check_stage_config, with_defaults
from clear.engine.stages.runner import StageRunner

OWN = '''
import os
import signal
import time
from pathlib import Path

from clear.core.errors import DataError
from clear.curation.manifest import Plan
from clear.curation.stage import Stage
from clear.registry import STAGES


@STAGES.register_module()
class Odd(Stage):
    """Writes numbers, and does at shard 1 what it is told to."""

    MAKES = 'numbers'
    EXECUTION = frozenset({'what', 'place'})

    def __init__(self, what, place):
        self.what, self.place = what, place

    def plan(self, inputs, folder):
        return Plan([{} for _ in range(4)], {})

    def work(self, job):
        for shard in job.shards:
            with job.writing(shard) as attempt:
                (attempt.folder / 'number').write_text(str(shard))
                if shard == 1:
                    self.act()
            yield shard

    def act(self):
        tried = Path(self.place) / 'tried'
        if self.what == 'die once' and not tried.exists() or self.what == 'die':
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.what == 'refuse':
            raise DataError('shard 1 is odd.')
        if self.what == 'break':
            raise ZeroDivisionError('nothing')
        if self.what == 'wait':
            tried.touch()
            time.sleep(600)
'''


@pytest.fixture
def config(tmp_path):
    rng = random.Random(1)
    write(tmp_path / 'a.tsv', [row(number, rng) for number in range(60)])
    write(tmp_path / 'b.gz', [row(number, rng) for number in range(60, 100)])
    return dict(stages=[dict(type='Metadata', root=str(tmp_path), files=['a.tsv', 'b.gz'], shard_rows=15),
                        dict(type='TimeBuckets', rule=dict(type='Equal', buckets=3))])


@pytest.fixture(scope='module')
def eight(tmp_path_factory):
    """Settings of runs on a cluster of eight logical processors that others have started."""
    start = subprocess.Popen([sys.executable, '-m', 'ray.scripts.scripts', 'start', '--head', '--port=0',
                              '--num-cpus=8', '--include-dashboard=false', '--disable-usage-stats',
                              '--object-store-memory=80000000', '--temp-dir', f'/tmp/ray.{os.getpid()}', '--block'],
                             text=True, stdout=subprocess.PIPE, cwd=ROOT,
                             env=os.environ | dict(RAY_AUTH_MODE='disabled', PYTHONUNBUFFERED='1',
                                                   RAY_worker_niceness='0'))
    try:
        address = next(line.split("address='")[1].split("'")[0] for line in start.stdout if "address='" in line)
        yield dict(engine='ray', ray_address=address)
    finally:
        start.terminate()
        start.wait(60)
        shutil.rmtree(f'/tmp/ray.{os.getpid()}', ignore_errors=True)


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """Config of a run of `Odd`, which lies beside the config."""
    (tmp_path / 'own').mkdir()
    (tmp_path / 'own' / 'oddities.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / 'own')
    return lambda what, **more: dict(stages=[dict(type='Odd', what=what, place=str(tmp_path))],
                                     custom_imports=dict(imports=['oddities']), **more)


@pytest.mark.slow
def test_ray_makes_the_bytes_of_the_pool(tmp_path, config, eight):
    StageRunner(config | dict(num_workers=2), tmp_path / 'pool').run()
    for workers in (2, 8):
        StageRunner(config | eight | dict(num_workers=workers), tmp_path / f'ray{workers}').run()
        assert contents(tmp_path / 'pool' / 'stages') == contents(tmp_path / f'ray{workers}' / 'stages')
        assert not list((tmp_path / f'ray{workers}').glob('.seen*'))


@pytest.mark.slow
def test_what_a_task_meets(tmp_path, odd, eight):
    import oddities  # noqa: F401 as loading the config would

    ray = eight | dict(num_workers=2)
    StageRunner(odd('nothing', num_workers=2), tmp_path / 'whole').run()  # own modules reach the pool too
    StageRunner(odd('die once', **ray), tmp_path / 'once').run()
    assert (tmp_path / 'tried').exists()
    assert contents(tmp_path / 'once' / 'stages') == contents(tmp_path / 'whole' / 'stages')
    with pytest.raises(DataError, match=r'^shard 1 is odd.$'):
        StageRunner(odd('refuse', **ray), tmp_path / 'refused').run()
    with pytest.raises(ClearError, match='ZeroDivisionError: nothing'):
        StageRunner(odd('break', **ray), tmp_path / 'broken').run()
    with pytest.raises(ClearError, match='was lost 4 times'):
        StageRunner(odd('die', **ray), tmp_path / 'dead').run()
    StageRunner(odd('nothing', **ray), tmp_path / 'dead').run()
    assert contents(tmp_path / 'dead' / 'stages') == contents(tmp_path / 'whole' / 'stages')


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nobody_behind(tmp_path, odd, number):
    process = subprocess.Popen(command(tmp_path, odd('wait', engine='ray', num_workers=2)), cwd=ROOT, text=True,
                               stderr=subprocess.PIPE, env=os.environ | dict(PYTHONPATH=f'{tmp_path}/own:{ROOT}'))
    until(lambda: (tmp_path / 'tried').exists() or process.poll() is not None)
    started = descendants(process.pid)
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    if number == signal.SIGTERM:
        assert process.returncode == 143 and 'Traceback' not in error, error
        assert 'shards that are finished are kept' in error
    assert started
    until(lambda: not any(is_running(each) for each in started))
    if number == signal.SIGTERM:
        done = subprocess.run([*command(tmp_path, odd('nothing')), '--resume'], cwd=ROOT,
                              env=os.environ | dict(PYTHONPATH=f'{tmp_path}/own:{ROOT}'))
        assert done.returncode == 0 and '3' in (tmp_path / 'run/stages/odd/shards/000003/number').read_text()


@pytest.mark.slow
def test_a_machine_that_sees_another_folder_is_named(tmp_path, config, eight, monkeypatch):
    def answer(**changes):
        def look(path, cwd, modules):
            seen = Path(path).read_text()
            known = dict(host='far', seen=seen, has_cwd=True, version=module.__version__, python=python)
            return tuple((known | changes).values())

        python = module.platform.python_version()
        monkeypatch.setattr(module, '_probe', lambda: look)

    for changes, message in ((dict(seen=''), f'far does not see {tmp_path}'),
                             (dict(has_cwd=False), 'far has no folder'),
                             (dict(version='0.1'), 'far has clear-framework 0.1 and Python')):
        answer(**changes)
        with pytest.raises(ConfigError, match=message):
            StageRunner(config | eight, tmp_path / 'run').run()


def test_ray_that_is_not_installed(tmp_path, config, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ConfigError, match=r"engine='ray' needs Ray: pip install 'clear-framework\[ray\]'"):
        StageRunner(config | dict(num_workers=1, engine='ray'), tmp_path / 'run').run()


@pytest.mark.parametrize('changes, message', [
    (dict(ray_address='auto'), "ray_address is 'auto', but engine is 'pool'"),
    (dict(ray_gpus=1), "ray_gpus is 1, but engine is 'pool'"), (dict(engine='ray'), 'say of how many: num_workers=2'),
    (dict(engine='ray', num_workers=1, ray_gpus=-1), 'ray_gpus')])
def test_settings_that_cannot_be(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_stage_config(with_defaults(config | changes))


def until(is_so, seconds=150):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def descendants(pid):
    listed = subprocess.run(['pgrep', '-P', str(pid)], capture_output=True, text=True).stdout
    found = [int(each) for each in listed.split()]
    return found + [each for child in found for each in descendants(child)]


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False
