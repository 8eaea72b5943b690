"""Each seed of a task as a job of its own, and one number of all."""

import csv
from statistics import mean, stdev

import pytest
import worker_tasks
from scipy import stats
from worker_tasks import config, write_banks

from clear.core.errors import ConfigError, TrainingError
from clear.core.files import read_json
from clear.engine.probing.runner import ProbeRunner

DRAWS = dict(type='DrawnNumber', name='draws', seeds=3)


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})


@pytest.fixture
def root(tmp_path):
    write_banks(tmp_path, count=1)
    return tmp_path


def run(cfg, work_dir, resume=False):
    runner = ProbeRunner(cfg, work_dir)
    if resume:
        runner.resume()
    return runner.run()


def test_seeds_are_jobs_and_their_mean_with_spread_and_interval_is_the_result(root):
    results = run(config(root, DRAWS, encoders=1, seed=4), root / 'work')
    jobs = read_json(root / 'work' / 'jobs.json')['jobs']
    assert [*jobs] == [f'e0--draws--seed{seed}' for seed in (4, 5, 6)]
    assert [job['options'] for job in jobs.values()] == [dict(type='DrawnNumber', seed=seed) for seed in (4, 5, 6)]
    values = [job['result']['value'] for job in jobs.values()]
    cell, = results.extras['jobs'].values()
    extras = cell['result']['extras']
    assert cell['result']['value'] == results.metrics['e0/draws/score'] == pytest.approx(mean(values))
    assert results.metrics['e0/draws/twice'] == pytest.approx(2 * mean(values)) and cell['jobs'] == [*jobs]
    assert extras['std']['score'] == pytest.approx(stdev(values)) and extras['per_seed']['5']['score'] == values[1]
    expected = stats.t.interval(0.95, 2, loc=mean(values), scale=stats.sem(values))
    assert extras['interval']['score'] == pytest.approx(expected) and extras['n_test'] == 31
    with (root / 'work' / 'results.csv').open() as file:
        rows = [row for row in csv.DictReader(file) if row['metric'] == 'score']
    assert [(row['seed'], float(row['value'])) for row in rows] == [*zip('456', values)]
    assert all((root / 'work' / 'jobs' / key / 'head').is_file() for key in jobs)


def test_more_seeds_are_measured_beside_those_that_are_there(root, monkeypatch):
    run(config(root, dict(DRAWS, seeds=[1, 7]), encoders=1), root / 'work')
    runner = ProbeRunner(config(root, dict(DRAWS, seeds=[7, 9, 1]), encoders=1), root / 'work')
    assert runner.resume() == 2
    measure, seeds = worker_tasks.DrawnNumber.run, []

    def fail(self, encoder, data):
        seeds.append(self.seed)
        raise RuntimeError('no')

    monkeypatch.setattr(worker_tasks.DrawnNumber, 'run', fail)
    with pytest.raises(TrainingError, match='1 of 3 jobs failed'):
        runner.run()
    assert seeds == [9]
    found = runner.results()
    assert found.metrics == {} and found.extras['jobs']['e0--draws']['state'] == 'failed'  # a mean of two is another
    assert {row['seed'] for row in found.extras['rows']} == {1, 7}
    monkeypatch.setattr(worker_tasks.DrawnNumber, 'run', measure)
    assert set(run(config(root, dict(DRAWS, seeds=[7, 9, 1]), encoders=1), root / 'work', resume=True).metrics) == {
        'e0/draws/score', 'e0/draws/twice'}


def test_without_seeds_there_is_one_job_and_a_reader_takes_its_own_seed_or_the_first(root):
    single = run(config(root, dict(DRAWS, seeds=None), dict(type='ReadsDrawn'), encoders=1), root / 'one')
    assert [*single.extras['jobs']] == ['e0--draws', 'e0--ReadsDrawn'] and 'jobs' not in single.extras['jobs'][
        'e0--draws']
    several = run(config(root, dict(type='ReadsDrawn'), dict(DRAWS, seeds=[0, 5]), encoders=1), root / 'two')
    assert several.metrics['e0/ReadsDrawn/score'] == single.metrics['e0/ReadsDrawn/score'] == single.metrics[
        'e0/draws/score']


@pytest.mark.parametrize('seeds, message', [
    (0, 'seeds is 0'), ([1, 1], 'list of different seeds'), ('three', "seeds is 'three'"), ([], r'seeds is \[\]')])
def test_seeds_that_cannot_be_are_refused(root, seeds, message):
    with pytest.raises(ConfigError, match=message):
        ProbeRunner(config(root, dict(DRAWS, seeds=seeds)))
