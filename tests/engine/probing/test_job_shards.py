"""Parts of the jobs on machines that know nothing of each other, and one table of all."""

import shutil
import threading

import pytest
from short_runs import run as run_tool
from worker_tasks import config, write_banks

from clear.core.errors import BusyError, ConfigError, DataError, TrainingError
from clear.core.files import read_json, write_json
from clear.core.storage.locks import locked
from clear.engine.probing.jobs import plan_jobs
from clear.engine.probing.keys import with_defaults
from clear.engine.probing.runner import ProbeRunner
from clear.engine.probing.work.shards import Shard, shard_numbers

TASKS = [dict(type='ReadsDrawn'), dict(type='KNN', k=3), dict(type='DrawnNumber', name='draws', seeds=2),
         dict(type='NearestClassMean')]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr('clear.visualization.probing.probe_figures', lambda results: {})


@pytest.fixture
def root(tmp_path):
    write_banks(tmp_path)
    return tmp_path


def shard(root, text, work_dir, *tasks, resume=False):
    runner = ProbeRunner(config(root, *(tasks or TASKS)), work_dir, shard=Shard.parse(text))
    if resume:
        runner.resume()
    runner.run()
    return runner


def table(folder):
    return (folder / 'results.csv').read_bytes()


@pytest.mark.parametrize('count', range(1, 13))
def test_shards_are_a_partition_and_keep_together_what_reads_each_other(root, count):
    jobs = plan_jobs(with_defaults(config(root, *TASKS)))
    numbers = dict(zip([job.key for job in jobs], shard_numbers(jobs, count)))
    assert {*numbers.values()} <= {*range(1, count + 1)} and len(numbers) == 10
    for job in jobs:
        assert all(numbers[read.key] == numbers[job.key] for read in job.read.values())
    if count == 2:
        assert {key: key.startswith('e1') + 1 for key in numbers} == numbers  # an encoder each


@pytest.mark.parametrize('is_shared', [True, False])
def test_shards_collected_are_the_table_of_one_run(root, is_shared):
    whole = ProbeRunner(config(root, *TASKS), root / 'whole').run()
    places = [root / ('one' if is_shared else f'part{place}') for place in (1, 2, 3)]
    for place, folder in enumerate(places[:2], 1):
        shard(root, f'{place}/3', folder)
    collector = ProbeRunner(config(root, *TASKS), root / 'one')
    with pytest.raises(DataError, match=r'of 10 jobs are not finished in (.|\n)*e1--NearestClassMean: not done'):
        collector.collect(places[:2])
    assert not (root / 'one' / 'results.csv').exists()
    shard(root, '3/3', places[2])
    (root / 'one' / 'jobs' / '.making.e0--KNN' / 'deep').mkdir(parents=True)  # of one that was killed
    collector.collect(places)
    assert table(root / 'one') == table(root / 'whole')
    found = read_json(root / 'one' / 'results.json')
    assert found['metrics'] == whole.metrics and set(found['timing']) == set(whole.timing)
    assert (root / 'one' / 'jobs' / 'e1--draws--seed1' / 'history.jsonl').is_file()
    assert ProbeRunner(config(root, *TASKS), root / 'one').resume() == 10


def test_a_shard_goes_on_where_it_was_and_says_what_failed(root):
    (root / 'now').touch()
    tasks = [*TASKS, dict(type='EndsProcess', name='ends', on=str(root / 'now'), how='raise')]
    with pytest.raises(TrainingError, match='1 of 6 jobs failed'):
        shard(root, '2/2', root / 'work', *tasks)
    with pytest.raises(DataError, match='e1--ends: failed in .*: RuntimeError: broken data'):
        ProbeRunner(config(root, *tasks), root / 'work').collect()
    (root / 'now').unlink()
    runner = ProbeRunner(config(root, *tasks), root / 'work', shard=Shard.parse('2/2'))
    assert runner.resume() == 5 and 'e0--KNN' in runner.describe() and 'shard 1' in runner.describe()
    runner.run()
    assert not list((root / 'work' / 'failures').iterdir())
    whole = ProbeRunner(config(root, *tasks), root / 'work')
    assert whole.resume() == 6


def test_a_shard_without_jobs_is_one(root):
    runner = ProbeRunner(config(root, dict(type='KNN', k=3), encoders=1), root / 'work', shard=Shard.parse('2/3'))
    assert runner.run().metrics == {} and 'shard 1' in runner.describe()


def test_jobs_of_other_weights_are_not_joined(root):
    for name in ('a', 'b'):
        shard(root, '1/1', root / name)
    path = root / 'b' / 'jobs' / 'e0--KNN' / 'result.json'
    record = read_json(path)
    record['banks']['test'] = 'other'
    write_json(path, record)
    with pytest.raises(DataError, match='e0--KNN was done with other weights or data in'):
        ProbeRunner(config(root, *TASKS), root / 'c').collect([root / 'a', root / 'b'])
    with pytest.raises(DataError, match='gone does not exist'):
        ProbeRunner(config(root, *TASKS), root / 'c').collect([root / 'gone'])
    path.write_text('{')
    with pytest.raises(DataError, match='result.json'):
        ProbeRunner(config(root, *TASKS), root / 'c').collect([root / 'b'])
    assert not (root / 'c' / 'jobs').exists()


def test_a_job_in_the_hands_of_another_process_is_waited_for_and_its_result_taken(root):
    cfg = config(root, *TASKS)
    folder = root / 'work' / 'jobs' / 'e0--KNN'
    folder.mkdir(parents=True)
    (folder / '.lock').write_text('1 on a machine that is gone')  # a stale one holds nothing
    ProbeRunner(cfg, root / 'other').run()
    begun, done = threading.Event(), threading.Event()

    def hold():
        with locked(folder / '.lock', '', BusyError):
            begun.set()
            assert done.wait(30)
            shutil.copy(root / 'other' / 'jobs' / 'e0--KNN' / 'result.json', folder)

    other = threading.Thread(target=hold)
    other.start()
    assert begun.wait(10)
    threading.Timer(0.3, done.set).start()
    runner = ProbeRunner(cfg, root / 'work')
    runner.run()
    other.join()
    job, = [job for job in runner.jobs if job.key == 'e0--KNN']
    assert job.time_s == read_json(root / 'other' / 'jobs.json')['jobs']['e0--KNN']['time_s'] and job.attempts == 1
    assert table(root / 'work') == table(root / 'other')


@pytest.mark.parametrize('text', ['3/2', '0/4', 'one', '1', '1/0', '-1/2', '1/2/3', ''])
def test_shards_that_cannot_be_are_refused(text):
    with pytest.raises(ConfigError, match='expected I/N with I from 1 to N'):
        Shard.parse(text)


def test_the_options_of_the_program(root, monkeypatch):
    monkeypatch.chdir(root)
    cfg = config(root, dict(type='KNN', k=3))
    (root / 'suite.py').write_text("runner_type = 'ProbeRunner'\n" + ''.join(
        f'{key} = {value!r}\n' for key, value in cfg.items()))
    for place in (1, 2):
        done = run_tool('train', 'suite.py', '--work-dir', 'work', '--shard', f'{place}/2')
        assert done.code == 0, done.err
    assert 'shard 1/2' in run_tool('train', 'suite.py', '--work-dir', 'work', '--shard', '1/2', '--dry-run').out
    # Of other shards, too: what is finished is not done again unasked.
    for options, says in [(['--shard', '1/2'], 'already holds finished jobs'),
                          (['--shard', '1/3'], 'already holds finished jobs'), ([], 'already holds finished jobs'),
                          (['--shard', '3/2'], '--shard is'), (['--shard', '1/2', '--collect'], 'give one of them'),
                          (['--resume', '--overwrite'], 'give one of them'),
                          (['--collect', '--resume'], '--resume: --collect trains nothing'),
                          (['--collect', 'nowhere'], 'nowhere does not exist')]:
        refused = run_tool('train', 'suite.py', '--work-dir', 'work', *options)
        assert refused.code == 2 and says in refused.err and refused.err.count('error:') == 1
    assert '2 finished before' in run_tool('train', 'suite.py', '--work-dir', 'work', '--collect', '--dry-run').out
    assert run_tool('train', 'suite.py', '--work-dir', 'work', '--collect').code == 0
    assert run_tool('train', 'suite.py', '--work-dir', 'whole').code == 0
    assert table(root / 'work') == table(root / 'whole')
    assert run_tool('train', 'suite.py', '--work-dir', 'work', '--shard', '1/2', '--overwrite').code == 0
    assert run_tool('train', 'suite.py', '--work-dir', 'work', '--overwrite').code == 0
    assert read_json(root / 'work' / 'jobs.json')['jobs']['e0--KNN']['attempts'] == 1
