"""Tables of runs joined, and what is computed of them, against scipy and hand-computed cases."""

import csv
import math

import numpy as np
import pytest
from scipy import stats
from short_runs import run

from clear.core.errors import DataError
from clear.core.logs import logger
from clear.engine.probing.table import COLUMNS
from clear.visualization.suites.scores import read_scores
from clear.visualization.suites.statistics import (
    best_encoders,
    correlations,
    dataset_effects,
    linear_fit,
    mean_ranks,
    rank_correlations,
)

TASKS = dict(imagenet=('top1', 'image', 'semantic', True), depth=('l1', 'pixel', 'structural', False),
             pets=('miou', 'pixel', 'semantic', True), count=('top1', 'image', 'structural', True))


def row(encoder, task, value, seed='', metric=None, **info):
    name, level, kind, higher = TASKS[task]
    return dict(dict.fromkeys(COLUMNS, ''), encoder=encoder, task=task, metric=metric or name, level=level, kind=kind,
                higher_is_better=higher, value=value, seed=seed, **info)


def write(path, rows):
    path.mkdir(parents=True, exist_ok=True)
    with (path / 'results.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


# Encoder -> method, data, epochs and the values of the tasks.
ENCODERS = dict(sup=('supervised', 'imagenet', 90, .8, .30, .5, .2), moco_a=('moco', 'imagenet', 100, .6, .20, .7, .3),
                moco_b=('moco', 'places', 100, .5, .25, .6, .3), swav=('swav', 'imagenet', 100, .7, .10, .4, .5))


@pytest.fixture
def runs(tmp_path):
    rows = []
    for name, (method, data, epochs, *values) in ENCODERS.items():
        for task, value in zip(TASKS, values):
            rows.append(row(name, task, value, method=method, pretrain_dataset=data, epochs=epochs))
    return [write(tmp_path / 'a', rows[:7]), write(tmp_path / 'b', rows[7:])]


def test_runs_are_joined_and_seeds_averaged(tmp_path):
    first = write(tmp_path / 'a', [row('x', 'depth', .25, 0), row('x', 'depth', .75, 1),
                                   row('x', 'depth', .5, 0, metric='rmse'), row('x', 'depth', .5, 1, metric='rmse')])
    scores = read_scores([first, write(tmp_path / 'b', [row('y', 'depth', .1)]) / 'results.csv'])
    assert scores.values == {('x', 'depth'): .5, ('y', 'depth'): .1} and scores.seeds['x', 'depth'] == [.25, .75]
    assert scores.column('depth') == {'x': -.5, 'y': -.1} and scores.tasks['depth'].axis == '-l1'
    other = read_scores([first], {'depth': 'rmse'})
    assert other.values == {('x', 'depth'): .5} and other.tasks['depth'].metric == 'rmse'


@pytest.fixture
def warned(caplog, monkeypatch):
    """What `read_scores` warns of."""
    monkeypatch.setattr(logger, 'handlers', [])
    monkeypatch.setattr(logger, 'propagate', True)

    def of(runs):
        with caplog.at_level('WARNING', 'clear'):
            read_scores(runs)
        return [each.message for each in caplog.records]
    return of


def test_a_task_without_the_metric_of_the_others_is_named(tmp_path, warned):
    runs = [write(tmp_path / 'a', [row('x', 'depth', .25)]), write(tmp_path / 'b', [
        row('y', 'depth', .5, metric='rmse'), row('y', 'pets', .5)])]
    assert warned(runs) == ['y on depth is left out: it has no l1.']


def test_a_mean_of_fewer_seeds_is_named(tmp_path, warned):
    path = write(tmp_path / 'a', [row(name, 'pets', 0.5, seed) for name, seeds in dict(a='012', b='01').items()
                                            for seed in seeds])
    assert warned([path]) == ['b on pets: the mean of 2 of 3 seeds.']


def test_correlations_are_scipys_on_axes_where_more_is_better(runs):
    scores = read_scores(runs)
    found = {each.task: each for each in correlations(scores, 'imagenet')}
    x, depth = [.8, .6, .5, .7], [-.3, -.2, -.25, -.1]
    linear, ranked = stats.pearsonr(x, depth), stats.spearmanr(x, depth)
    assert (found['depth'].pearson, found['depth'].pearson_p) == pytest.approx((linear.statistic, linear.pvalue))
    assert (found['depth'].spearman, found['depth'].spearman_p) == pytest.approx((ranked.statistic, ranked.pvalue))
    assert 'imagenet' not in found and found['pets'].n == 4
    matrix = rank_correlations(scores)
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1)
    assert matrix[0, 1] == pytest.approx(ranked.statistic)


def test_too_few_or_equal_values_have_no_correlation(tmp_path):
    scores = read_scores([write(tmp_path, [row(name, task, value) for name in 'abc'
                                           for task, value in (('imagenet', .5), ('pets', ord(name) / 200))])])
    assert correlations(scores, 'imagenet')[0].pearson is None
    assert math.isnan(rank_correlations(scores)[0, 1])


def test_the_band_is_that_of_the_mean():
    x, y = np.array([1., 2, 3, 4, 5]), np.array([1.1, 1.9, 3.2, 3.9, 5.3])
    line, half = linear_fit(x, y, [3.0, 6.0])
    slope, intercept = np.polyfit(x, y, 1)
    assert line == pytest.approx([slope * 3 + intercept, slope * 6 + intercept])
    residual = np.sqrt(((y - slope * x - intercept) ** 2).sum() / 3)
    assert half == pytest.approx(3.182446 * residual * np.sqrt([1 / 5, 1 / 5 + 9 / 10]), rel=1e-6)
    assert linear_fit([1., 1, 1], [1., 2, 3], [1.]) is None and linear_fit([1., 2], [1., 2], [1.]) is None


def test_best_encoders_and_their_gain(runs):
    best = {each.task: each for each in best_encoders(read_scores(runs), 'sup')}
    assert (best['imagenet'].encoder, best['imagenet'].gain) == ('sup', 0)
    assert (best['depth'].encoder, best['depth'].value, best['depth'].supervised) == ('swav', .1, .3)
    assert best['depth'].gain == pytest.approx(2 / 3) and best['count'].gain == pytest.approx(1.5)
    assert all(each.gain is None for each in best_encoders(read_scores(runs)))


def test_mean_ranks_share_places_and_their_intervals_hold_them(runs):
    ranks = {(each.method, each.task_class): each for each in mean_ranks(read_scores(runs))}
    # count: swav .5 is first, both MoCo share places 2 and 3, supervised is last.
    assert ranks['moco', 'image structural'].rank == 2.5 and ranks['supervised', 'image structural'].rank == 4
    # depth, lower is better: swav .1, moco_a .2, moco_b .25, supervised .3.
    moco = ranks['moco', 'pixel structural']
    assert moco.rank == 2.5 and (moco.low, moco.high) == (2, 3) and (moco.num_encoders, moco.num_tasks) == (2, 1)
    assert mean_ranks(read_scores(runs)) == mean_ranks(read_scores(runs))


def test_encoders_that_lack_a_task_are_left_out_of_its_ranks(runs, tmp_path):
    extra = write(tmp_path / 'c', [row('part', 'imagenet', .9, method='part')])
    assert not [each for each in mean_ranks(read_scores([*runs, extra])) if each.method == 'part'
                and each.task_class != 'image semantic']


def test_effects_of_data_at_equal_method_and_epochs(runs):
    effects = {each.task: each for each in dataset_effects(read_scores(runs))}
    assert (effects['pets'].method, effects['pets'].epochs) == ('moco', '100')
    assert effects['pets'].values == {'imagenet': .7, 'places': .6}


@pytest.mark.parametrize('change, message', [
    (lambda rows: rows.append(rows[0]), 'top1 of sup on imagenet stands there twice'),
    (lambda rows: rows[0].update(value='nan'), "results.csv:2: the value is 'nan', no finite number"),
    (lambda rows: rows[0].update(value=''), 'no finite number'),
    (lambda rows: rows[0].update(higher_is_better='yes'), "results.csv:2: higher_is_better is 'yes'; expected 'True'"),
    (lambda rows: rows[0].update(level='pixl'), "results.csv:2: level is 'pixl'; expected 'image' or 'pixel'"),
    (lambda rows: rows[0].update(kind=''), "results.csv:2: kind is ''; expected 'semantic' or 'structural'"),
    (lambda rows: rows.append(row('sup', 'pets', .1, method='another')), 'Tables that are joined must agree'),
    (lambda rows: rows.clear(), 'no finished job')])
def test_wrong_tables_are_named(tmp_path, change, message):
    rows = [row('sup', 'imagenet', .5, method='supervised')]
    change(rows)
    with pytest.raises(DataError, match=message):
        read_scores([write(tmp_path, rows)])


def test_what_is_no_table(tmp_path):
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(DataError, match='no column encoder'):
        read_scores([tmp_path / 'other.csv'])
    with pytest.raises(DataError, match='is not there'):
        read_scores([tmp_path])


# The program

def test_the_program_writes_tables_figures_and_a_page(runs, tmp_path):
    done = run('analysis_tools/probing_figures', *map(str, runs), '--out', str(tmp_path / 'out'))
    assert done.code == 0, done.err
    names = {str(path.relative_to(tmp_path / 'out')) for path in (tmp_path / 'out').rglob('*.*')}
    assert names == {'index.html', 'scores.csv', 'correlations.csv', 'best_encoders.csv', 'mean_ranks.csv',
                     'dataset_effects.csv', *(f'figures/{name}.png' for name in (
                         'panels', 'correlations', 'rank_correlations', 'gain_over_supervised', 'mean_ranks',
                         'dataset_effects'))}
    assert 'swav' in done.out and 'pixel structural' in done.out
    page = (tmp_path / 'out' / 'index.html').read_text()
    assert page.count('<img') == 6 and '4 encoders on 4 tasks' in page


@pytest.mark.parametrize('options, message', [
    (['--reference', 'imagnet'], "No task is called 'imagnet', to draw the others against. Name one by --reference: "
                                 "'imagenet'"),
    (['--supervised', 'sop'], "No encoder is called 'sop'. Nearest: 'sup'"),
    (['--metric', 'depth'], "--metric is 'depth'; expected TASK=METRIC"),
    (['--metric', 'depth=rms'], "Task depth has no metric 'rms'"),
    (['--metric', 'dept=l1'], "The tables have no task 'dept'. Nearest: 'depth'")])
def test_wrong_options_are_one_line(runs, options, message):
    done = run('analysis_tools/probing_figures', *map(str, runs), *options)
    assert done.code == 2 and done.err.count('\n') == 1 and message in done.err
