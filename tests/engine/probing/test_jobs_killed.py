"""A run that is killed at any moment around the publication of a job loses that job at the most."""

import signal
from pathlib import Path

import pytest
import torch
from killed_runs import die_after, die_before, run_in_fork
from worker_tasks import DrawnNumber, config, write_banks

from clear.core.files import read_json
from clear.engine.probing.runner import ProbeRunner

TASKS = [dict(type='ReadsDrawn'), dict(type='DrawnNumber', name='draws', seeds=2), dict(type='KNN', k=3)]
# What the run dies at for the second time, and how many of the eight jobs are finished then. The task is that of the
# third job: its first seed, and what reads that, come before.
MOMENTS = dict(task=2, publication=1, note=2, list=2, table=2)
HALF_DONE = ('task', 'publication')


def _killed(root, moment):
    torch.set_num_threads(1)
    calls = [0]

    def is_second(*args):
        name = dict(publication='result.json', note='result.json', table='results.csv').get(moment)
        calls[0] += name is None or Path(args[1]).name == name
        return calls[0] == 2

    if moment == 'task':
        die_before(DrawnNumber, 'run', is_second)
    elif moment == 'list':
        die_before(ProbeRunner, '_save', is_second)
    else:
        (die_after if moment == 'note' else die_before)(Path, 'replace', is_second)
    ProbeRunner(config(root, *TASKS), root / 'parts').run()


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('killed')
    write_banks(folder)
    ProbeRunner(config(folder, *TASKS), folder / 'whole').run()
    return folder


@pytest.mark.parametrize('moment', MOMENTS)
def test_killed_and_resumed_it_is_the_same_table(root, moment, monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})
    work = root / 'parts'
    run_in_fork(_killed, root, moment, code=-signal.SIGKILL)
    runner = ProbeRunner(config(root, *TASKS), work)
    assert runner.resume() == MOMENTS[moment]
    runner.run()
    assert (work / 'results.csv').read_bytes() == (root / 'whole' / 'results.csv').read_bytes()
    jobs = read_json(work / 'jobs.json')['jobs'].values()
    assert sum(job['attempts'] for job in jobs) == 8 + (moment in HALF_DONE), 'what was done is not done again'
    assert read_json(work / 'results.json')['metrics'] == read_json(root / 'whole' / 'results.json')['metrics']
    work.rename(root / moment)
