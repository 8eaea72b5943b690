import math

import numpy as np
import pytest

from clear.core.results import Results
from clear.visualization.probing import _within_task, format_probe_table, probe_figures


def entry(lr, value, optimizer='sgd', diverged=False):
    return dict(lr=lr, weight_decay=0.0, optimizer=optimizer, schedule='cosine', diverged=diverged, val_top1=value,
                val_loss=None if value is None else 1 - value)


def job(encoder, task, value=None, metric='top1', higher=True, **extras):
    record = dict(encoder=encoder, task=task, state='failed' if value is None else 'done')
    if value is not None:
        record['result'] = dict(metric=metric, value=value, higher_is_better=higher, extras=extras)
    return {f'{encoder}--{task}': record}


@pytest.fixture
def results():
    grid = [entry(0.1, 0.8), entry(0.01, 0.6), entry(1.0, None, diverged=True), entry(0.1, 0.7, 'adam'),
            entry(0.01, 0.75, 'adam')]
    jobs = {**job('a', 'linear', 0.8, grid=grid, std=dict(top1=0.012)), **job('b', 'linear', 0.5, grid=grid),
            **job('a', 'depth', 0.2, 'l1', higher=False), **job('b', 'depth')}
    return Results('suite', 'ProbeRunner', 'clear/probe/v1', extras=dict(jobs=jobs))


def test_table_by_hand(results):
    lines = format_probe_table(results).splitlines()
    assert [line.split() for line in lines] == [
        ['encoder', 'linear', '[top1]', 'depth', '[l1]'], ['a', '0.800', '±', '0.012', '0.200'],
        ['b', '0.500', 'failed']]
    assert len({len(line) for line in lines}) == 1


def test_a_wide_table_has_a_line_for_each_task():
    jobs = {key: value for number in range(12) for encoder in 'ab' for key, value in
            job(encoder, f'task{number}', number / 100).items()}
    lines = format_probe_table(Results('suite', 'ProbeRunner', 'p', extras=dict(jobs=jobs))).splitlines()
    assert [line.split() for line in lines[:3]] == [['task', 'a', 'b'], ['task0', '[top1]', '0.000', '0.000'],
                                                    ['task1', '[top1]', '0.010', '0.010']] and len(lines) == 13


def test_figures_show_the_values(results):
    figures = probe_figures(results)
    assert list(figures) == ['tasks_by_encoders', 'accuracy_bars', 'lr_sensitivity_linear']
    texts = {text.get_text() for text in figures['tasks_by_encoders'].axes[0].texts}
    assert texts == {'0.800 ± 0.012', '0.500', '0.200', 'failed'}
    heights = [bar.get_height() for bar in figures['accuracy_bars'].axes[0].patches]
    assert [value for value in heights if not math.isnan(value)] == [0.8, 0.2, 0.5]
    panel = figures['lr_sensitivity_linear'].axes[0]
    curves = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines
              if not line.get_label().startswith('_')}
    assert curves['sgd, cosine, decay 0'] == ([0.01, 0.1], [0.6, 0.8])
    assert curves['adam, cosine, decay 0'] == ([0.01, 0.1], [0.75, 0.7])
    crosses = [list(line.get_xdata()) for line in panel.lines if line.get_marker() == 'x']
    assert [1.0] in crosses, 'the diverged learning rate'


def test_bars_of_many_tasks_stand_in_panels_by_metric():
    jobs = {key: value for number in range(11) for key, value in
            job('a', f'task{number}', number / 10, 'l1' if number in (1, 4) else 'top1', number not in (1, 4)).items()}
    panels = probe_figures(Results('suite', 'ProbeRunner', 'p', extras=dict(jobs=jobs)))['accuracy_bars'].axes
    shown = [[label.get_text() for label in panel.get_xticklabels()] for panel in panels]
    others = [f'task{number}' for number in range(11) if number not in (1, 4)]
    assert shown == [others[:8], others[8:], ['task1', 'task4']]
    assert [panel.get_ylabel() for panel in panels] == ['top1', 'top1', 'l1']
    assert [bar.get_height() for bar in panels[2].patches] == [0.1, 0.4]


def test_pixelwise_grids_and_learning_curves_are_drawn():
    grid = [dict(name=str(lr), lr=lr, weight_decay=0.0, optimizer='adam', schedule='constant', momentum=0.9, val=value,
                 epoch=2, diverged_in_epoch=epoch) for lr, value, epoch in ((0.01, 0.3, None), (0.1, None, 1),
                                                                            (0.001, 0.5, None))]
    curves = {'0.01': dict(train_loss=[2.0, 1.0], val_metric=[0.2, 0.3], train_metric=[0.1, 0.2]),
              '0.1': dict(train_loss=[None], val_metric=[None]),
              '0.001': dict(train_loss=[2.0, 1.0], val_metric=[], train_metric=[0.4, 0.6])}
    jobs = {**job('a', 'depth', 0.4, 'l1', False, grid=grid, curves=curves),
            **job('b', 'depth', 0.5, 'l1', False, grid=grid, curves={'x': dict(val_metric=[0.3])})}
    figures = probe_figures(Results('suite', 'ProbeRunner', 'p', extras=dict(jobs=jobs)))
    panel = figures['lr_sensitivity_depth'].axes[0]
    assert (list(panel.lines[0].get_xdata()), list(panel.lines[0].get_ydata())) == ([0.001, 0.01], [0.5, 0.3])
    course = figures['learning_curves_depth'].axes
    drawn = {line.get_label(): (line.get_linestyle(), list(line.get_ydata())) for line in course[0].lines}
    assert drawn['0.01'] == ('-', [0.2, 0.3]) and drawn['0.001'] == ('--', [0.4, 0.6])
    assert len([axes for axes in course if axes.lines]) == 1  # one epoch is no course


def test_best_is_bright_also_where_lower_is_better():
    shades = _within_task(np.array([[0.2, 0.4, 0.3], [0.2, 0.4, np.nan], [0.5, 0.5, 0.5]]), [1, -1, 1])
    np.testing.assert_allclose(shades, [[0, 1, 0.5], [1, 0, np.nan], [0.5, 0.5, 0.5]])


def test_nothing_finished_draws_nothing():
    empty = Results('suite', 'ProbeRunner', 'clear/probe/v1', extras=dict(jobs=job('a', 'linear')))
    assert probe_figures(empty) == {}
    assert 'failed' in format_probe_table(empty)


def test_grid_without_validation_has_no_sensitivity_figure():
    jobs = job('a', 'linear', 0.5, grid=[entry(0.1, None)])
    assert 'lr_sensitivity_linear' not in probe_figures(Results('s', 'ProbeRunner', 'p', extras=dict(jobs=jobs)))


def test_grids_of_heads_for_pixels_are_drawn_by_their_own_metric():
    common = dict(optimizer='adam', schedule=dict(type='poly', power=0.9), weight_decay=0.0)
    grid = [dict(lr=0.01, val=2.5, epoch=3, diverged_in_epoch=None, **common),
            dict(lr=0.1, val=None, epoch=None, diverged_in_epoch=1, **common),
            dict(lr=0.001, val=3.5, epoch=9, diverged_in_epoch=None, **common)]
    jobs = {**job('a', 'depth', 2.6, 'l1', higher=False, grid=grid), **job('a', 'one', 2.6, 'l1', grid=grid[:1])}
    figures = probe_figures(Results('s', 'ProbeRunner', 'p', extras=dict(jobs=jobs)))
    assert [name for name in figures if name.startswith('lr')] == ['lr_sensitivity_depth']
    figure = figures['lr_sensitivity_depth']
    panel = figure.axes[0]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in panel.lines if line.get_marker() == 'o']
    assert lines == [([0.001, 0.01], [3.5, 2.5])] and figure.get_supylabel() == 'l1 on validation'
    assert [0.1] in [list(line.get_xdata()) for line in panel.lines if line.get_marker() == 'x']
