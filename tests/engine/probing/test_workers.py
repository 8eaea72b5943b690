"""Jobs that other processes do: the same table, and a worker that is lost takes one job with it."""

import os
import signal
import threading
import time

import pytest
from killed_runs import run_in_fork
from worker_tasks import config, write_banks

from clear.core.errors import ConfigError, Interrupted, TrainingError
from clear.core.files import read_json
from clear.engine.probing.runner import ProbeRunner

TASKS = [dict(type='ReadsDrawn'), dict(type='DrawnNumber', name='draws', seeds=2), dict(type='KNN', k=3),
         dict(type='LinearProbe', epochs=2, lrs=[0.1], seeds=2)]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})


@pytest.fixture
def root(tmp_path):
    write_banks(tmp_path)
    return tmp_path


def states(work_dir):
    return {key: job['state'] for key, job in read_json(work_dir / 'jobs.json')['jobs'].items()}


@pytest.mark.slow
def test_two_workers_equal_none_and_a_lost_one_takes_its_job_alone(root):
    whole = ProbeRunner(config(root, *TASKS), root / 'whole').run()
    (root / 'now').touch()
    tasks = [*TASKS, dict(type='EndsProcess', name='dies', on=str(root / 'now')),
             dict(type='EndsProcess', name='raises', on=str(root / 'now'), how='raise')]
    with pytest.raises(TrainingError, match=r'4 of 14 jobs failed(.|\n)*e0--dies: its process was killed by SIGKILL'):
        ProbeRunner(config(root, *tasks, workers=2), root / 'two').run()
    assert (root / 'two' / 'results.csv').read_bytes() == (root / 'whole' / 'results.csv').read_bytes()
    found = read_json(root / 'two' / 'results.json')
    assert found['metrics'] == whole.metrics and set(found['timing']) >= set(whole.timing)
    assert {path.stem for path in (root / 'two' / 'failures').iterdir()} == {
        key for key, state in states(root / 'two').items() if state == 'failed'}
    assert 'SIGKILL, most often' in (root / 'two' / 'failures' / 'e1--dies.txt').read_text()
    assert 'Traceback' in (root / 'two' / 'failures' / 'e1--raises.txt').read_text()
    (root / 'now').unlink()
    again = ProbeRunner(config(root, *tasks), root / 'two')  # whoever did the others
    assert again.resume() == 10
    again.run()
    assert not list((root / 'two' / 'failures').iterdir())


def _stopped(root, number):
    def stop():
        while not (root / 'work' / 'jobs' / 'e0--waits' / 'begun').exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Interrupted, match='--resume'):
        ProbeRunner(config(root, *_waiting(root), workers=1), root / 'work').run()


def _waiting(root):
    return [dict(type='KNN', k=3), dict(type='WaitsForFile', name='waits', until=str(root / 'go'))]


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_ends_the_workers_and_keeps_what_is_finished(root, number):
    run_in_fork(_stopped, root, number, code=-number if number == signal.SIGKILL else 0)
    if number == signal.SIGTERM:
        assert states(root / 'work') == {'e0--KNN': 'done', 'e0--waits': 'pending', 'e1--KNN': 'pending',
                                         'e1--waits': 'pending'}
    (root / 'go').touch()
    runner = ProbeRunner(config(root, *_waiting(root)), root / 'work')
    assert runner.resume() == 1  # a worker whose parent was killed ends within a second, and its lock with it
    assert set(runner.run().metrics) == {f'e{place}/{name}' for place in (0, 1)
                                         for name in ('KNN/top1', 'KNN/mean_per_class', 'waits/score')}


@pytest.mark.parametrize('change, message', [
    (dict(workers=-1), 'workers is -1'), (dict(workers='two'), "workers is 'two'"),
    (dict(engine='rya'), "engine is 'rya'"), (dict(ray_gpus=1), "Set engine='ray'"),
    (dict(engine='ray'), 'say of how many: workers=2'), (dict(tensorboard='yes'), 'tensorboard is')])
def test_workers_that_cannot_be_are_refused(root, change, message):
    with pytest.raises(ConfigError, match=message):
        ProbeRunner(config(root, *TASKS, **change), root / 'work')


def test_workers_need_a_folder(root):
    with pytest.raises(ConfigError, match='work_dir'):
        ProbeRunner(config(root, *TASKS, workers=2))


@pytest.mark.slow
def test_workers_of_ray_equal_none_and_a_lost_one_takes_its_job_alone(root):
    pytest.importorskip('ray')
    ProbeRunner(config(root, *TASKS, encoders=1), root / 'whole').run()
    (root / 'now').touch()
    tasks = [*TASKS, dict(type='EndsProcess', name='dies', on=str(root / 'now'))]
    with pytest.raises(TrainingError, match=r'1 of 6 jobs failed(.|\n)*e0--dies: A worker of the Ray cluster was lost'):
        ProbeRunner(config(root, *tasks, encoders=1, workers=2, engine='ray'), root / 'ray').run()
    assert (root / 'ray' / 'results.csv').read_bytes() == (root / 'whole' / 'results.csv').read_bytes()
    (root / 'now').unlink()
    again = ProbeRunner(config(root, *tasks, encoders=1), root / 'ray')
    assert again.resume() == 5 and len(again.run().extras['jobs']) == 5
