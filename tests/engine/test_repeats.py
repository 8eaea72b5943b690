"""Several seeds of one config as one command, and what is said about them."""

import math
from pathlib import Path

import numpy as np
import pytest
from clear_trees import write_clear_tree
from quick_runs import without_figures
from short_runs import FEATURE_CONFIG, read_results, run, train, without_timing, write_config

from clear.core.errors import ConfigError
from clear.core.files import read_json
from clear.core.results import Results
from clear.engine.repeats import check_seeds, format_summary, is_finished, summarise

# Quantiles 0.975 of Student's t by degrees of freedom, from a printed table.
T_TABLE = {1: 12.706, 2: 4.303, 4: 2.776, 9: 2.262}


def result(seed, **metrics):
    return Results(name='run', runner='ContinualRunner', protocol='clear/iid/v1', metrics=metrics,
                   acc_matrix=[[0.5]], overlap_mask=[[False]], config_hash='x', seeds=dict(train=seed, split=0),
                   versions={}, git={}, world_size=1, timing={})


@pytest.mark.parametrize('count', [2, 3, 5, 10])
def test_mean_spread_and_interval(count):
    values = np.random.default_rng(count).uniform(size=count)
    runs = [result(seed, in_domain=float(value), accuracy=0.25) for seed, value in enumerate(values)]
    summary = summarise(runs)
    item = summary['metrics']['in_domain']
    half = T_TABLE[count - 1] * values.std(ddof=1) / math.sqrt(count)
    assert item['values'] == values.tolist() and item['mean'] == pytest.approx(values.mean())
    assert item['std'] == pytest.approx(values.std(ddof=1))
    assert (item['low'], item['high']) == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-3)
    constant = summary['metrics']['accuracy']
    assert constant['std'] == 0 and constant['low'] == constant['high'] == 0.25
    assert summary['seeds'] == list(range(count)) and summary['confidence'] == 0.95


def test_a_metric_that_a_run_lacks_is_left_out():
    """Under streaming some metrics are None."""
    summary = summarise([result(0, a=0.5, b=None), result(1, a=0.75, b=0.5)])
    assert set(summary['metrics']) == {'a'}
    first, line = format_summary(summary).splitlines()
    assert first.startswith('2 seeds of run, mean +- std')
    assert line.split() == ['a', '0.625', '+-', '0.177', '[-0.963,', '2.213]']


@pytest.mark.parametrize('seeds', [[], [1], [1, 1], [1, 2.0], ['1', '2'], [True, False], [-1, 2], 3, 'ab', None])
def test_seeds_must_be_different_whole_numbers(seeds):
    with pytest.raises(ConfigError, match='expected at least two different whole numbers, e.g.'):
        check_seeds(seeds)
    assert check_seeds((3, 0)) == [3, 0]


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_clear_tree(tmp_path_factory.mktemp('data'), features=8, per_class=10, images=False, num_buckets=2)


@pytest.fixture
def config(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_figures(monkeypatch)
    return write_config('config.py', FEATURE_CONFIG, root, more='seeds = [4, 1]\n')


def test_every_seed_is_a_run_of_its_own(config):
    """To the last bit where they are trained one after the other; what a lane rounds otherwise is in test_lanes."""
    finished = train(config, '--work-dir', 'runs', '--cfg-options', 'lane=False')
    for seed in (4, 1):
        train(config, '--work-dir', f'alone_{seed}', '--seed', seed)
        one, alone = read_results(f'runs/seed_{seed}'), read_results(f'alone_{seed}')
        assert without_timing(one) == without_timing(alone) and one['seeds']['train'] == seed
    runs = [read_results(f'runs/seed_{seed}') for seed in (4, 1)]
    assert runs[0]['extras']['train_log'] != runs[1]['extras']['train_log']
    summary = read_json('runs/summary.json')
    assert summary['seeds'] == [4, 1]
    for name, item in summary['metrics'].items():
        assert item['values'] == [each['metrics'][name] for each in runs]
    assert 'one run after the other: lane=False' in finished.out and 'seed 4 (1 of 2)' in finished.out and \
         'mean +- std' in finished.out
    assert not Path('runs/results.json').exists()


def test_finished_seeds_are_kept_and_others_continued(config):
    train(config, '--work-dir', 'whole')
    train(config, '--work-dir', 'runs')
    again = run('train', config, '--work-dir', 'runs')
    assert again.code == 2 and 'runs already holds a run. Continue it with --resume' in again.err
    first = Path('runs/seed_4/results.json').stat().st_mtime_ns
    # As if the second seed had been killed before its report: there is its checkpoint, but it is not finished.
    Path('runs/seed_1/report.html').unlink()
    Path('runs/summary.json').unlink()
    assert is_finished(Path('runs/seed_4')) and not is_finished(Path('runs/seed_1'))
    finished = train(config, '--work-dir', 'runs', '--resume')
    assert 'seed 4 is finished' in finished.out and 'resumed from runs/seed_1/latest.pth' in finished.out
    assert Path('runs/seed_4/results.json').stat().st_mtime_ns == first
    assert read_json('runs/summary.json') == read_json('whole/summary.json')
    # A seed that had not begun is begun.
    for path in Path('runs/seed_1').glob('*'):
        path.unlink()
    train(config, '--work-dir', 'runs', '--resume')
    assert read_json('runs/summary.json') == read_json('whole/summary.json')
    train(config, '--work-dir', 'runs', '--overwrite')
    assert Path('runs/seed_4/results.json').stat().st_mtime_ns != first
    assert read_json('runs/summary.json') == read_json('whole/summary.json')


@pytest.mark.parametrize('options, says', [
    (['cl_strategy.optimizer.lr=0.0001'], 'cl_strategy.optimizer.lr: 0.1 -> 0.0001'),
    (['cl_strategy.train_epochs=3', 'amp=bf16'], "amp: False -> 'bf16'; cl_strategy.train_epochs: 2 -> 3"),
    (['scenario.evaluation_protocol=streaming', 'scenario.seed=None'], "protocol: 'clear/iid/v1' -> 'clear/str")])
def test_finished_seeds_of_another_config_are_refused(options, says, config):
    train(config, '--work-dir', 'runs', '--cfg-options', 'seeds=[4,1]')
    before = Path('runs/summary.json').read_bytes()
    finished = run('train', config, '--work-dir', 'runs', '--resume', '--cfg-options', *options)
    assert finished.code == 2 and says in finished.err and 'runs/seed_4 holds a finished run' in finished.err
    assert Path('runs/summary.json').read_bytes() == before


def test_results_of_another_seed_or_data_are_refused(config, tmp_path):
    train(config, '--work-dir', 'runs')
    train(config, '--work-dir', 'runs', '--resume', '--cfg-options', 'num_workers=0', 'name=other')  # decide nothing
    first, second = (Path(f'runs/seed_{seed}/results.json') for seed in (4, 1))
    original = second.read_bytes()
    second.write_bytes(first.read_bytes())
    finished = run('train', config, '--work-dir', 'runs', '--resume')
    assert finished.code == 2 and 'runs/seed_1 holds a finished run' in finished.err and 'seed: 4 -> 1' in finished.err
    second.write_bytes(original)
    other = write_clear_tree(tmp_path / 'other', features=8, per_class=11, images=False, num_buckets=2)
    finished = run('train', config, '--work-dir', 'runs', '--resume', '--cfg-options', f'scenario.data_root={other}')
    assert finished.code == 2 and 'data_fingerprint: ' in finished.err and 'data_root' not in finished.err


@pytest.mark.parametrize('arguments, says', [
    (['--resume', 'seed_4/latest.pth'], '--resume takes no checkpoint'),
    (['--branch', 'x.pth'], '--branch none of one run'),
    (['--cfg-options', 'seeds=[3]'], 'seeds is [3]; expected at least two')])
def test_what_several_seeds_cannot_do(arguments, says, config):
    finished = run('train', config, '--work-dir', 'runs', *arguments)
    assert finished.code == 2 and says in finished.err
    assert not Path('runs').exists()
