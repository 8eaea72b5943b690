import math

import numpy as np
import pytest

from clear.continual.metrics import clear_metrics
from clear.core.errors import DataError
from clear.core.results import Results, config_text
from clear.visualization.comparison import (
    comparison_figures,
    group_runs,
    group_value,
    mean_and_std,
    metric_names,
    metrics_figure,
    next_domain_curve,
    next_domain_figure,
    repeats_note,
)


def random_matrix(seed, n=3):
    return np.random.default_rng(seed).random((n, n)).tolist()


def run(name='naive', seed=0, matrix=None, protocol='iid', **extras):
    matrix = random_matrix(seed) if matrix is None else matrix
    return Results(name=name, runner='ContinualRunner', protocol=f'clear/{protocol}/v1', acc_matrix=matrix,
                   metrics=clear_metrics(matrix, protocol), seeds={'train': seed}, extras=extras)


def unfinished(seed=0, rows=1, n=3):
    return random_matrix(seed, n)[:rows] + [[None] * n] * (n - rows)


def test_names_group_within_a_protocol_only():
    runs = [run(seed=0), run('ewc'), run(seed=1), run(seed=0, protocol='streaming')]
    groups = group_runs(runs)
    assert {protocol: [(group.label, len(group.runs)) for group in members] for protocol, members in groups.items()} \
        == {'clear/iid/v1': [('naive', 2), ('ewc', 1)], 'clear/streaming/v1': [('naive', 1)]}


def test_ungrouped_runs_of_one_name_are_told_apart_by_their_source():
    groups = group_runs([run(seed=0), run(seed=1), run('ewc')], 'none', ['runs/a', 'runs/b', 'runs/c'])
    assert [group.label for group in groups['clear/iid/v1']] == ['naive (runs/a)', 'naive (runs/b)', 'ewc']


@pytest.mark.parametrize('other, message', [
    (run(seed=0), r"a and b have the same name 'naive' and the same seeds \{'train': 0\}.*--group-by none"),
    (run(seed=1, matrix=random_matrix(1, 4)), r'not the same buckets \(3 and 4\)'),
])
def test_runs_that_are_no_repeats_are_refused(other, message):
    with pytest.raises(DataError, match=message):
        group_runs([run(seed=0), other], sources=['a', 'b'])
    assert len(group_runs([run(seed=0), other], 'none')['clear/iid/v1']) == 2


def test_a_mean_over_other_configs_is_told():
    def note(*configs):
        return repeats_note(group_runs([run(seed=k, config_text=config_text(config)) for k, config in
                                        enumerate(configs)])['clear/iid/v1'])

    here = dict(seed=0, scenario=dict(type='CLEAR', seed=0), cl_strategy=dict(optimizer=dict(lr=0.1)), work_dir='a')
    seeds = dict(here, seed=1, scenario=dict(type='CLEAR', seed=1), work_dir='b', num_workers=4)
    other = dict(seeds, cl_strategy=dict(optimizer=dict(lr=0.2), train_epochs=2))
    assert note(here, seeds) == note(here) == note(here, {}) == ''
    assert note(here, seeds, other) == ('Means are over runs that differ in more than their seeds '
                                        '(naive: cl_strategy.optimizer.lr, cl_strategy.train_epochs).')


def test_an_unknown_grouping_is_refused():
    with pytest.raises(ValueError, match="'name' or 'none'"):
        group_runs([run()], 'seed')


@pytest.mark.parametrize('n', [2, 3, 7])
def test_mean_and_sample_std_match_numpy(n):
    values = np.random.default_rng(n).random(n)
    assert mean_and_std(values.tolist()) == pytest.approx((np.mean(values), np.std(values, ddof=1)))


def test_one_value_has_no_std():
    assert mean_and_std([0.5]) == (0.5, None)


def test_unfinished_runs_are_marked_and_left_out_of_the_mean():
    group, = group_runs([run(seed=0), run(seed=1), run(seed=2, matrix=unfinished(2))])['clear/iid/v1']
    assert group.progress == '3 of 3, 1 of 3 (unfinished)'
    assert group.marked_label == 'naive, 3 of 3, 1 of 3 (unfinished)'
    assert len(group.values('in_domain')) == 2
    assert group_value(group, 'in_domain').endswith('(2)')
    alone, = group_runs([run(matrix=unfinished())])['clear/iid/v1']
    assert (alone.progress, group_value(alone, 'in_domain')) == ('1 of 3 (unfinished)', '-')


def test_metric_names_leave_out_what_no_run_has():
    members = group_runs([run(matrix=[[0.5]]), run('probe', matrix=[[0.25]], protocol='iid')])['clear/iid/v1']
    assert metric_names(members) == ['in_domain', 'accuracy']
    streaming = group_runs([run(protocol='streaming')])['clear/streaming/v1']
    assert metric_names(streaming) == ['next_domain', 'forward_transfer', 'final_domain']
    assert metric_names(streaming, overlapped=True) == [
        'in_domain', 'accuracy', 'backward_transfer', 'forgetting', 'challenge_score']


def test_next_domain_curve_matches_loops():
    runs = [run(seed=seed) for seed in range(3)] + [run(seed=9, matrix=unfinished(9))]
    curve = next_domain_curve(group_runs(runs)['clear/iid/v1'][0])
    first = [r.acc_matrix[0][1] for r in runs]
    second = [r.acc_matrix[1][2] for r in runs[:3]]
    assert curve == [pytest.approx((np.mean(first), np.std(first, ddof=1))),
                     pytest.approx((np.mean(second), np.std(second, ddof=1)))]


def test_metrics_figure_shows_means_and_unfinished_runs():
    members = group_runs([run(seed=0), run(seed=1), run('ewc', 2), run('lwf', 3, unfinished(3))])['clear/iid/v1']
    figure = metrics_figure(members)
    panels = {panel.get_title(): panel for panel in figure.axes if panel.get_title()}
    assert list(panels) == metric_names(members)
    labels = [label.get_text() for label in panels['in_domain'].get_yticklabels()]
    assert labels == ['naive', 'ewc', 'lwf, 1 of 3 (unfinished)']
    bars = panels['in_domain'].containers
    assert [bar.lines[0].get_xdata()[0] for bar in bars] == pytest.approx(
        [np.mean(group.values('in_domain')) for group in members[:2]])
    assert [bar.has_xerr for bar in bars] == [True, False]


def test_next_domain_figure_draws_a_line_per_group():
    members = group_runs([run(seed=0), run('lwf', 3, unfinished(3))])['clear/iid/v1']
    lines = next_domain_figure(members).axes[0].get_lines()
    assert list(lines[0].get_ydata()) == [members[0].runs[0].acc_matrix[0][1], members[0].runs[0].acc_matrix[1][2]]
    assert lines[1].get_ydata()[0] == members[1].runs[0].acc_matrix[0][1] and math.isnan(lines[1].get_ydata()[1])


def test_figures_per_protocol_and_per_set_of_buckets():
    groups = group_runs([run(), run('other', bucket_names=['a', 'b', 'c']), run(protocol='streaming'),
                         Results(name='probe', runner='ProbeRunner', protocol='probe/v1', metrics={'top1': 0.5})])
    assert list(comparison_figures(groups)) == [
        'metrics_clear-iid-v1', 'next_domain_clear-iid-v1', 'next_domain_clear-iid-v1-2',
        'metrics_clear-streaming-v1', 'next_domain_clear-streaming-v1', 'metrics_probe-v1']
