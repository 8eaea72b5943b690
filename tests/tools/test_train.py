"""`tools/train.py` from the command line to the files of a run."""

import math
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest
import torch
from clear_trees import write_clear_tree
from short_runs import (
    CONFIGS,
    FEATURE_CONFIG,
    environment,
    program,
    read_results,
    train,
    without_timing,
    write_config,
)

from clear.core.results import read_results as read_checked
from clear.datasets.make.demo import write_demo

STRATEGIES = ('naive', 'cumulative', 'joint', 'replay', 'gdumb', 'ewc', 'lwf', 'agem', 'si')


@pytest.fixture(scope='module')
def small_demo(tmp_path_factory):
    """A hundred digits in each of the ten buckets."""
    root = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(root, seeds=[0], limit=100)
    return root


@pytest.fixture(scope='module')
def full_demo(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'demo'
    write_demo(root, seeds=[0])
    return root


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data') / 'features', features=8, per_class=10, images=False)


@pytest.fixture
def config(features, tmp_path, monkeypatch):
    """`config.py` in the current folder, on features of three buckets."""
    monkeypatch.chdir(tmp_path)
    return write_config('config.py', FEATURE_CONFIG, features)


def check_matrix(results, size, joint=False):
    matrix = results['acc_matrix']
    assert len(matrix) == size and all(len(row) == size for row in matrix)
    assert all(0 <= value <= 1 for row in matrix for value in row)
    assert len(results['extras']['train_log']) == (1 if joint else size)
    assert all(math.isfinite(entry['loss']) and entry['loss'] > 0 for entry in results['extras']['train_log'])
    if joint:
        assert all(row == matrix[0] for row in matrix)


def one_epoch(strategy, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(CONFIGS / 'demo' / f'{strategy}_lenet5_demo.py', '--cfg-options', f'scenario.data_root={root}',
          'cl_strategy.train_epochs=1')
    results = read_results(f'work_dirs/{strategy}_lenet5_demo')
    check_matrix(results, 10, joint=strategy == 'joint')
    return results


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_every_strategy_trains_on_a_small_demo(small_demo, tmp_path, monkeypatch, strategy):
    results = one_epoch(strategy, small_demo, tmp_path, monkeypatch)
    assert results['joint'] if strategy == 'joint' else 'joint' not in results
    assert results['name'] == f'{strategy}_lenet5_demo' and results['protocol'] == 'clear/iid/v1'


@pytest.mark.slow
@pytest.mark.parametrize('strategy', STRATEGIES)
def test_every_strategy_trains_on_the_demo(full_demo, tmp_path, monkeypatch, strategy):
    results = one_epoch(strategy, full_demo, tmp_path, monkeypatch)
    # One epoch of 1,258 digits is enough to be far above the 0.1 of a guess, for all that train on every bucket.
    # GDumb sees its 600 images from scratch once, which is 10 steps, and learns next to nothing.
    assert results['metrics']['in_domain'] > (0.05 if strategy == 'gdumb' else 0.5)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demo_claims(full_demo, tmp_path, monkeypatch):
    """What the demo is to show, as means over three seeds of training."""
    monkeypatch.chdir(tmp_path)
    figures = {'naive': [], 'replay': []}
    for strategy, found in figures.items():
        for seed in range(3):
            train(CONFIGS / 'demo' / f'{strategy}_lenet5_demo.py', '--seed', seed, '--work-dir', f'{strategy}_{seed}',
                  '--cfg-options', f'scenario.data_root={full_demo}')
            found.append(read_results(f'{strategy}_{seed}'))
    naive_in_domain = [run['metrics']['in_domain'] for run in figures['naive']]
    drop = [run['acc_matrix'][0][0] - run['acc_matrix'][0][9] for run in figures['naive']]
    backward = {name: statistics.mean(run['metrics']['backward_transfer'] for run in runs)
                for name, runs in figures.items()}
    assert min(naive_in_domain) >= 0.90, naive_in_domain
    assert statistics.mean(drop) >= 0.15, drop
    assert backward['replay'] >= backward['naive'] + 0.03, backward


def test_work_dir_holds_everything_about_the_run(config, drawn_figures):
    finished = train(config, '--work-dir', 'run', '--seed', 3, '--cfg-options', 'checkpoint_config.interval=2',
                     'name=mine')
    files = {path.relative_to('run').as_posix() for path in Path('run').rglob('*') if path.is_file()}
    figures = {'figures/accuracy_matrix.png', 'figures/accuracy_over_time.png', 'figures/forgetting.png'}
    assert files == {'run.log', 'env.txt', 'config.py', 'results.json', 'matrix.jsonl', 'report.html', 'latest.pth',
                     'exp_1.pth', *figures}
    results = read_checked('run/results.json')
    assert results.name == 'mine' and results.seeds == {'train': 3, 'split': 0} and results.world_size == 1
    assert set(results.timing) == {'train_s', 'eval_s'} and min(results.timing.values()) > 0
    check_matrix(read_results('run'), 3)
    log = Path('run/run.log').read_text()
    for line in ('experience 3/3', 'in_domain', 'report   run/report.html'):
        assert line in finished.out and line in log
    assert f'torch: {torch.__version__.split("+")[0]}' in Path('run/env.txt').read_text()
    page = Path('run/report.html').read_text()
    assert page.count('<table class="matrix') == 1 and page.count('aria-label="tested on ') == 3
    assert all(f'<h2>{title}</h2>' in page for title in ('Accuracy matrix', 'Accuracy over time', 'Forgetting'))


def test_saved_config_gives_the_same_run(config):
    train(config, '--work-dir', 'first', '--cfg-options', 'cl_strategy.train_epochs=3')
    train('first/config.py', '--work-dir', 'second')
    first, second = read_results('first'), read_results('second')
    for key in ('acc_matrix', 'metrics', 'config_hash', 'seeds', 'protocol'):
        assert first[key] == second[key]
    assert first['extras']['train_log'] == second['extras']['train_log']


def test_default_work_dir_is_named_after_the_config(config):
    train(config)
    assert Path('work_dirs/config/results.json').is_file()


@pytest.mark.parametrize('options, kept', [
    ([], set()),
    (['checkpoint_config.interval=1'], {'exp_0.pth', 'exp_1.pth', 'exp_2.pth'}),
    (['checkpoint_config.interval=2'], {'exp_1.pth'}),
    (['checkpoint_config.interval=1', 'checkpoint_config.max_keep=2'], {'exp_1.pth', 'exp_2.pth'}),
    (['checkpoint_config.interval=1', 'checkpoint_config.max_keep=1'], {'exp_2.pth'}),
])
def test_checkpoints_that_are_kept(config, options, kept):
    train(config, '--work-dir', 'run', *(['--cfg-options', *options] if options else []))
    assert {path.name for path in Path('run').glob('*.pth')} == {'latest.pth', *kept}


def test_text_logger_names_itself_by_the_time(config):
    with config.open('a') as file:
        file.write("loggers = [dict(type='TextLogger')]\nmetrics = [dict(type='accuracy_metrics', epoch=True)]\n")
    train(config, '--work-dir', 'run')
    [log] = Path('run').glob('[0-9]*.log')
    assert 'Top1_Acc_Epoch' in log.read_text()


def test_dry_run_writes_nothing(config, tmp_path):
    with config.open('a') as file:
        file.write("loggers = [dict(type='TextLogger'), dict(type='CSVLogger')]\n")
    before = sorted(tmp_path.rglob('*'))
    finished = train(config, '--work-dir', 'run', '--dry-run')
    assert sorted(tmp_path.rglob('*')) == before
    # 3 buckets of 30 samples, 9 of them tested; 21 in batches of 8 are 3 steps, twice per bucket; 8 x 3 + 3 weights.
    for words in ('3 buckets', '3 classes', '63 training and 27 test', '27 parameters, 27 trained', '18 iterations',
                  'batch 8', 'work_dir  run', 'dry run: nothing was trained or written'):
        assert words in finished.out, finished.out


def test_dry_run_says_what_a_run_would_refuse(config):
    from short_runs import run

    finished = run('train', config, '--dry-run', '--cfg-options', 'model.head.num_classes=4')
    assert finished.code == 2 and 'num_classes=4' in finished.err


# Stopping and going on, in processes of their own

# Long enough that a signal arrives inside an experience: 300 steps of some milliseconds each.
LONG = ('checkpoint_config.interval=1', 'cl_strategy.train_epochs=100', 'cl_strategy.scheduler.step_size=40',
        'cl_strategy.optimizer.momentum=0.9')


def start_and_wait_for(file, config, *arguments):
    """Start a run in its own process and return it as soon as `file` is there."""
    process = subprocess.Popen([*program('train'), str(config), *arguments], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())
    deadline = time.monotonic() + 120
    while not Path(file).is_file():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, 'the run did not get there in two minutes'
        time.sleep(0.02)
    return process


def assert_same_run(first, second):
    """Bitwise equal weights, optimiser and results."""
    assert without_timing(read_results(first)) == without_timing(read_results(second))
    for name in ('latest.pth', 'exp_2.pth'):
        a, b = (torch.load(Path(folder) / name, weights_only=True) for folder in (first, second))
        assert a['state_dict'].keys() == b['state_dict'].keys()
        assert all(torch.equal(a['state_dict'][key], b['state_dict'][key]) for key in a['state_dict'])
        momentum_a, momentum_b = (each['optimizer']['state'] for each in (a, b))
        assert momentum_a.keys() == momentum_b.keys() and len(momentum_a) == 2
        assert all(torch.equal(momentum_a[key]['momentum_buffer'], momentum_b[key]['momentum_buffer'])
                   for key in momentum_a)


def stop_and_resume(config, how):
    """Stop a run by a signal inside its second experience, resume it, and compare with one that was not stopped."""
    options = ['--cfg-options', *LONG]
    process = start_and_wait_for('stopped/results.json', config, '--work-dir', 'stopped', *options)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    interrupted = read_results('stopped')
    assert interrupted['acc_matrix'][0].count(None) == 0 and interrupted['acc_matrix'][2].count(None) == 3
    torch.load('stopped/latest.pth', weights_only=True)
    train(config, '--work-dir', 'stopped', '--resume', *options)
    train(config, '--work-dir', 'whole', *options)
    assert_same_run('stopped', 'whole')
    return process.returncode, err


def test_sigterm_saves_and_resume_completes_the_run(config):
    code, err = stop_and_resume(config, signal.SIGTERM)
    assert code == 143
    assert err.splitlines()[-1] == 'error: Stopped by a signal. What was finished is saved; continue with --resume.'


@pytest.mark.slow
def test_killed_run_is_resumed_to_the_same_end(config):
    code, _ = stop_and_resume(config, signal.SIGKILL)
    assert code == -signal.SIGKILL


def test_resume_from_any_experience_ends_the_same(config):
    options = ['--cfg-options', 'checkpoint_config.interval=1', 'cl_strategy.optimizer.momentum=0.9']
    train(config, '--work-dir', 'whole', *options)
    for experience in (0, 1):
        folder = f'from_{experience}'
        train(config, '--work-dir', folder, '--resume', f'whole/exp_{experience}.pth', *options)
        assert_same_run(folder, 'whole')
