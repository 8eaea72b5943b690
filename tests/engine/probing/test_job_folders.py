"""What a task may keep in its folder, and what others read there."""

import csv
from pathlib import Path

import numpy as np
import pytest
from tiny_encoder import write_images

from clear.core.errors import ConfigError, TrainingError
from clear.core.logs import logger
from clear.engine.probing.jobs import plan_jobs
from clear.engine.probing.keys import with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.evaluation.task import TaskResult
from clear.registry import TASKS

ENCODER = dict(type='TorchvisionEncoder', arch='resnet18', preprocess=dict(resize=32, crop=32))
SEEN = []


class Writes:
    """Leaves a file, and fails until it finds that of an earlier attempt if it is told so."""

    needs = ('images',)

    def __init__(self, *, fails=False, size=1):
        self.fails, self.size = fails, size

    def run(self, encoder, data):
        SEEN.append(data)
        before = [path.name for path in data.folder.iterdir() if path.name == 'head']
        (data.folder / 'head').write_text('x' * self.size)
        if self.fails and not before:
            raise RuntimeError('killed')
        return TaskResult('found', float(len(before)))


class Follows:
    """The size of what another task left."""

    needs = ('images',)

    def __init__(self, *, of='Writes'):
        self.reads_jobs = (of,)

    def run(self, encoder, data):
        return TaskResult('size', float(len((data.jobs[self.reads_jobs[0]] / 'head').read_text())))


class Draws:
    """Keeps examples, and reports two metrics of which more of one and less of the other is better."""

    needs = ('images',)

    def run(self, encoder, data):
        depth = np.arange(12.0).reshape(1, 3, 4)
        np.savez(data.folder / 'examples.npz', kind='depth', images=np.zeros((1, 3, 4, 3), np.uint8), truth=depth,
                 predicted=depth, valid=depth > 0)
        return TaskResult('l1', 0.5, False, dict(metrics=dict(delta1=0.75, l1=0.5), higher_is_better=dict(delta1=True)))


@pytest.fixture(autouse=True)
def tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    TASKS.import_from_location()
    before = dict(TASKS.module_dict)
    for kind in (Writes, Follows, Draws):
        TASKS.register_module(module=kind)
    SEEN.clear()
    write_images(Path('images'), count=4)
    yield
    TASKS.module_dict.clear()
    TASKS.module_dict.update(before)


def config(*tasks, **more):
    return {**dict(device='cpu', encoders=dict(net=ENCODER), tasks=[*tasks], data=dict(
        test=dict(type='ImageFolder', root='images')), banks=dict(root='banks', dtype='float32')), **more}


def run(cfg, resume=False):
    runner = ProbeRunner(cfg, Path('work'))
    if resume:
        runner.resume()
    return runner.run().metrics


def test_a_task_finds_what_its_stopped_run_left_and_nothing_of_another():
    cfg = config(dict(type='Writes', fails=True))
    with pytest.raises(TrainingError):
        run(cfg)
    assert SEEN[0].folder == Path('work/jobs/net--Writes') and SEEN[0].storage == dict(root='banks', dtype='float32')
    with pytest.raises(TrainingError):  # a new run begins anew
        run(cfg)
    assert run(cfg, resume=True) == {'net/Writes/found': 1.0}
    with pytest.raises(TrainingError):  # of other arguments
        run(config(dict(type='Writes', fails=True, size=2)), resume=True)
    assert run(config(dict(type='Writes', fails=True, size=2)), resume=True) == {'net/Writes/found': 1.0}
    write_images(Path('images'), count=6)
    with pytest.raises(TrainingError):  # of other images
        run(config(dict(type='Writes', fails=True, size=2)), resume=True)


def test_without_a_work_dir_there_is_no_folder():
    with pytest.raises(TrainingError, match='NoneType'):
        ProbeRunner(config(dict(type='Writes'))).run()


def test_a_task_reads_what_another_left_whatever_their_order_and_follows_its_changes():
    cfg = config(dict(type='Follows'), dict(type='Writes', size=3))
    assert run(cfg) == {'net/Follows/size': 3.0, 'net/Writes/found': 0.0}
    assert run(cfg, resume=True) == {'net/Follows/size': 3.0, 'net/Writes/found': 0.0} and len(SEEN) == 1
    cfg = config(dict(type='Follows'), dict(type='Writes', size=5))
    assert run(cfg, resume=True)['net/Follows/size'] == 5.0
    write_images(Path('images'), count=6)
    assert ProbeRunner(cfg, Path('work')).resume() == 0


def test_a_plan_names_what_lacks_of_tasks_that_read_others(caplog, monkeypatch):
    monkeypatch.setattr(logger, 'propagate', True)
    monkeypatch.setattr(logger, 'handlers', [])
    data = dict(test=dict(type='ImageFolder', root='gone'))
    with caplog.at_level('WARNING', logger='clear'):
        ProbeRunner(config(dict(type='Writes'), dict(type='Follows'), dict(type='Follows', name='lost', of='x'),
                           dict(type='Follows', name='blind', data=data)), Path('work')).plan()
    assert [record.getMessage().partition(' would fail: ')[0] for record in caplog.records] == [
        'net--lost', 'net--blind'] and not Path('work').exists()


def test_what_is_not_there_fails_by_name():
    with pytest.raises(TrainingError, match="net--Follows reads what 'gone' leaves, which is no task of this config"):
        run(config(dict(type='Follows', of='gone'), dict(type='Writes')))
    with pytest.raises(TrainingError, match="reads what 'Writes' leaves, whose job net--Writes is not done"):
        run(config(dict(type='Follows'), dict(type='Writes', fails=True)))
    with pytest.raises(ConfigError, match='what itself leaves'):
        plan_jobs(with_defaults(config(dict(type='Follows', of='Follows'))))
    cfg = config(dict(type='Follows', name='a', of='b'), dict(type='Follows', name='b', of='a'))
    with pytest.raises(ConfigError, match='a -> b -> a'):
        plan_jobs(with_defaults(cfg))


def test_examples_are_drawn_and_the_metric_that_is_reported_stands_first():
    run(config(dict(type='Draws', level='pixel', kind='structural')))
    assert Path('work/figures/net--Draws--pixels.png').is_file() and 'net--Draws--pixels' in Path('work/report.html'
                                                                                              ).read_text()
    with Path('work/results.csv').open(newline='') as file:
        rows = [(row['metric'], row['higher_is_better']) for row in csv.DictReader(file)]
    assert rows == [('l1', 'False'), ('delta1', 'True')]
