import pytest

from clear.continual.metrics import clear_metrics
from clear.core.results import Results
from clear.visualization.comparison import group_runs
from clear.visualization.tables import format_comparison, format_matrix, format_metrics

MATRIX = [[0.5, 0.25], [1.0, 0.75]]


def run(name, seed, protocol='iid', matrix=MATRIX):
    return Results(name=name, runner='ContinualRunner', protocol=f'clear/{protocol}/v1', acc_matrix=matrix,
                   metrics=clear_metrics(matrix, protocol), seeds={'train': seed})


def test_matrix_table():
    assert format_matrix([[0.5, 0.25], [None, 0.9126]], ['2004', '2005']).splitlines()[1:] == [
        'bucket  2004  2005',
        '2004   0.500 0.250',
        '2005       - 0.913']


def test_matrix_table_of_one_row_for_all_buckets():
    assert format_matrix([[0.5, 1.0]]).splitlines()[1:] == ['bucket     1     2', 'all    0.500 1.000']


@pytest.mark.parametrize('names', [None, [f'{year}-{year + 1} spring' for year in range(2004, 2015)]])
def test_eleven_buckets_fit_into_100_columns(names):
    lines = format_matrix([[1.0] * 11] * 11, names).splitlines()
    assert len(lines) == 13
    assert max(map(len, lines)) <= 100
    assert len(set(map(len, lines[1:]))) == 1


def test_metrics_are_one_line_each_and_none_is_skipped():
    assert format_metrics({'in_domain': 0.9123, 'forgetting': None, 'train_overlap': {}}) == 'in_domain 0.912'
    assert format_metrics({'loss': 12.0, 'top1': 1}) == 'loss 12.000\ntop1 1'


def test_streaming_metrics_that_measure_training_data_say_so():
    lines = format_metrics(clear_metrics(MATRIX, 'streaming')).splitlines()
    assert [line.split()[0] for line in lines if 'measures training data' not in line] == [
        'next_domain', 'forward_transfer', 'final_domain']
    assert 'train_overlap in_domain 0.625 (measures training data)' in lines
    assert not any(line.startswith('in_domain') for line in lines)


def test_comparison_table():
    better = [[0.7, 0.25], [1.0, 0.75]]
    groups = group_runs([run('naive', 0), run('naive', 1, matrix=better), run('ewc', 0)])['clear/iid/v1']
    title, header, naive, ewc = format_comparison(groups, width=1000).splitlines()
    assert title == 'protocol clear/iid/v1'
    assert header.split()[:4] == ['run', 'buckets', 'in_domain', 'next_domain']
    # in_domain: 0.625 and 0.725, whose sample standard deviation is 0.1 / sqrt(2).
    assert naive.split('  ')[:2] == ['naive', '2 of 2']
    assert '0.675 ± 0.071 (2)' in naive and '0.250 ± 0.000 (2)' in naive
    assert ewc.split()[:6] == ['ewc', '2', 'of', '2', '0.625', '0.250']
    assert '±' not in ewc


def test_a_wide_comparison_continues_below():
    groups = group_runs([run('naive', 0), run('ewc', 0)])['clear/iid/v1']
    lines = format_comparison(groups, width=60).splitlines()
    assert max(map(len, lines)) <= 60
    shown = [name for line in lines if line.startswith('run ') for name in line.split()[2:]]
    assert shown == [name for name, value in clear_metrics(MATRIX).items() if value != {}]
    assert len([line for line in lines if line.startswith('naive')]) > 1


def test_comparison_keeps_training_accuracy_in_a_part_of_its_own():
    groups = group_runs([run('naive', 0, 'streaming')])['clear/streaming/v1']
    headline, overlapped = format_comparison(groups, width=1000).split('not comparable with held-out accuracy')
    assert 'next_domain' in headline and 'in_domain' not in headline
    assert 'measures training data' in overlapped and 'in_domain' in overlapped and '0.625' in overlapped
