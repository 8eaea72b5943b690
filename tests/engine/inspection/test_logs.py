"""Logs of ours and of mmengine are read alike."""

import json

import pytest

from clear.core.errors import ConfigError, DataError
from clear.core.results import Results, write_results
from clear.engine.inspection.logs import curves_figure, iteration_times, read_log


def write_scalars(folder):
    """Two epochs of three logged intervals, a validation, and a line that a crash has cut."""
    lines = [dict(lr=0.1, loss=3.0 - 0.1 * number, time=0.5 if number % 3 == 0 else 0.1 * (1 + number // 3),
                  epoch=1 + number // 3, iter=10 * (number + 1), step=10 * (number + 1)) for number in range(6)]
    lines.append({'accuracy/top1': 80.0, 'time': 7.0, 'step': 2})
    path = folder / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, lines)) + '\n{"loss": 1.')
    return folder


@pytest.mark.parametrize('place', ['', 'vis_data/scalars.json'])
def test_scalars(tmp_path, place):
    log = read_log(write_scalars(tmp_path / 'run') / place)
    assert log.name == 'run'
    assert log.curves['loss'] == ([10, 20, 30, 40, 50, 60], pytest.approx([3.0, 2.9, 2.8, 2.7, 2.6, 2.5]))
    assert log.curves['accuracy/top1'] == ([2], [80.0])
    assert log.curves['val/time'] == ([2], [7.0]) and log.curves['time'][0] == [10, 20, 30, 40, 50, 60]
    assert log.units['loss'] == 'iteration' and log.units['accuracy/top1'] == 'epoch'


def test_iterations_that_mmcv_counts_in_each_epoch(tmp_path):
    lines = [dict(mode='train', epoch=epoch, iter=iteration, loss=1 / epoch, time=0.1 * epoch)
             for epoch in (1, 2, 3) for iteration in (10, 20)]
    lines.insert(2, dict(mode='val', epoch=1, iter=9, time=7.0, accuracy=0.5))
    path = tmp_path / 'a.log.json'
    path.write_text('\n'.join(map(json.dumps, lines)))
    log = read_log(path)
    assert log.curves['loss'][0] == [10, 20, 30, 40, 50, 60]
    assert log.curves['accuracy'] == ([1], [0.5]) and log.curves['val/time'] == ([1], [7.0])
    assert {epoch: sum(times) for epoch, times in log.iteration_s.items()} == pytest.approx({1: 0.2, 2: 0.4, 3: 0.6})


def test_times_leave_the_first_interval_of_an_epoch_out(tmp_path):
    log = read_log(write_scalars(tmp_path))
    times = iteration_times(log)
    assert times.slowest == (2, pytest.approx(0.2)) and times.fastest == (1, pytest.approx(0.1))
    assert times.mean_s == pytest.approx(0.15)
    assert iteration_times(log, include_outliers=True).mean_s == pytest.approx((2 * 0.5 + 2 * 0.1 + 2 * 0.2) / 6)


def test_folders_named_by_time(tmp_path):
    for name, loss in (('20240101_000000', 1.0), ('20240202_000000', 2.0)):
        path = tmp_path / name / 'vis_data' / 'scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(dict(loss=loss, iter=1)))
    assert read_log(tmp_path).curves['loss'] == ([1], [2.0])


def test_results_of_a_run(tmp_path):
    entries = [dict(epoch=1, iteration=5, loss=2.0, lr=0.1), dict(epoch=2, iteration=10, loss=1.0, lr=0.05)]
    write_results(tmp_path / 'results.json', Results('a', 'Runner', 'training/v1', extras=dict(train_log=entries)))
    log = read_log(tmp_path)
    assert log.curves == {'loss': ([1, 2], [2.0, 1.0]), 'lr': ([1, 2], [0.1, 0.05])}
    with pytest.raises(DataError, match='tells no time'):
        iteration_times(log)


def test_wrong_input(tmp_path):
    with pytest.raises(DataError, match='holds no log'):
        read_log(tmp_path)
    (tmp_path / 'list.json').write_text('[1]\n')
    with pytest.raises(DataError, match='no log of training'):
        read_log(tmp_path / 'list.json')
    log = read_log(write_scalars(tmp_path / 'run'))
    with pytest.raises(ConfigError, match="No log has 'los'. Did you mean 'loss'"):
        curves_figure([log], ['los'])
    other = read_log(write_scalars(tmp_path / 'other'))
    other.units['loss'] = 'epoch'
    with pytest.raises(ConfigError, match='some logs count epochs and others iterations'):
        curves_figure([log, other], ['loss'])


def test_figure_has_a_line_per_run_and_a_panel_per_key(tmp_path):
    logs = [read_log(write_scalars(tmp_path / name)) for name in 'ab']
    figure = curves_figure(logs, ['loss', 'lr'])
    assert [len(panel.lines) for panel in figure.axes] == [2, 2]
    assert figure.axes[0].lines[1].get_ydata().tolist() == logs[1].curves['loss'][1]
