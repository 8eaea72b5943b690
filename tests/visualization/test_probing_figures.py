"""Figures of tasks: what is drawn is what the task gave, read back from matplotlib; what has no form is left out."""

import numpy as np
import pytest
from PIL import Image

from clear.core.results import Results
from clear.visualization.figures import to_png
from clear.visualization.probing_figures import curves_figure, draw, task_figures

NO_PICTURE = dict(picture=lambda split, row: None)


def results_of(figure_data, key='net--ZeroShot'):
    encoder, task = key.split('--')
    job = dict(encoder=encoder, task=task, state='done', result=dict(
        metric='top1', value=0.5, higher_is_better=True, extras=dict(figure_data=figure_data)))
    return Results(name='run', runner='ProbeRunner', protocol='p', metrics={}, config_hash='0' * 16, seeds={},
                   extras=dict(jobs={key: job, 'net--other': dict(encoder='net', task='other', state='failed')}))


def axes_of(data, **more):
    return draw('title', 'subtitle', data, **{**NO_PICTURE, **more}).axes[0]


def test_confusion_is_coloured_by_rows_and_written_as_counts():
    axes = axes_of(dict(kind='confusion', matrix=[[3, 1], [0, 0]], names=['cat', '$dog']))
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.75, 0.25], [0, 0]])
    assert [text.get_text() for text in axes.texts] == ['3', '1', '0', '0']
    assert [label.get_text() for label in axes.get_yticklabels()] == ['cat', r'\$dog']


def test_lines_points_and_histograms_hold_the_numbers():
    axes = axes_of(dict(kind='curve', x=[1, 5], lines=dict(i2t=[0.2, 0.4], t2i=[0.1, 0.3]), xlabel='k'))
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.2, 0.4], [0.1, 0.3]] and axes.get_xlabel() == 'k'
    axes = axes_of(dict(kind='scatter', x=[1.0, 2.0], y=[0.5, 0.7]))
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[1, 0.5], [2, 0.7]])
    axes = axes_of(dict(kind='points', x=[0, 1, 2], y=[5, 6, 7], group=['image', 'text', 'image']))
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0, 5], [2, 7]])
    np.testing.assert_allclose(axes.collections[1].get_offsets(), [[1, 6]])
    axes = axes_of(dict(kind='histogram', values=dict(one=[0, 0, 1], two=[1, 1, 1])))
    assert len(axes.containers) == 2
    panels = dict(sts=dict(value=[0.1, 0.2]), zero_shot=dict(value=[0.3, float('nan')]))
    figure = curves_figure('t', 's', [1, 2], panels, 'epoch')
    assert [axes.get_title() for axes in figure.axes] == ['sts', 'zero_shot']


def test_a_sheet_shows_its_pictures_in_their_places_and_grey_for_what_is_gone():
    asked = []

    def picture(split, row):
        asked.append((split, row))
        return None if row == 7 else Image.new('RGB', (30, 20), (row, 0, 0))

    axes = axes_of(dict(kind='sheet', split='val', rows=[
        dict(title='best', images=[100, 200], captions=['a red cat', 'two <b>dogs</b>']),
        dict(title='worst', images=[7], captions=['gone'])]), picture=picture)
    canvas = axes.images[0].get_array()
    assert asked == [('val', 100), ('val', 200), ('val', 7)]
    line = canvas.shape[0] // 2
    assert canvas[40, 40].tolist() == [100, 0, 0] and canvas[40, 142].tolist() == [200, 0, 0]
    assert len(set(canvas[line + 40, 40].tolist())) == 1 and canvas[line + 40, 142].tolist() == [255, 255, 255]
    assert [text.get_text() for text in axes.texts] == ['a red cat', 'two <b>dogs</b>', 'gone']


def test_every_figure_of_every_job_has_a_name_of_its_own_and_becomes_a_png():
    lines = dict(kind='curve', x=[1], lines=dict(a=[1.0]))
    figures = task_figures(results_of({'recall / at k': lines, '猫': dict(kind='confusion', matrix=[[1]], names=['猫']),
                                       '犬': lines}), lambda *_: None)
    assert list(figures) == ['net--ZeroShot--recall_at_k', 'net--ZeroShot--figure', 'net--ZeroShot--figure_3']
    assert all(to_png(figure).startswith(b'\x89PNG') for figure in figures.values())


@pytest.mark.parametrize('data', [
    dict(kind='pie'), dict(x=[1]), dict(kind='curve', x=[1, 2], lines=dict(a=[1])), dict(kind='scatter', x=[1]),
    dict(kind='confusion', matrix=[[1, 2]], names=['a']), dict(kind='points', x=[1], y=[1], group=[]),
    dict(kind='sheet', rows=[dict(title='a', images=[1], captions=['x', 'y'])]), dict(kind='sheet', rows=[]), 5])
def test_what_cannot_be_drawn_is_left_out(data, caplog):
    assert task_figures(results_of(dict(odd=data)), lambda *_: None) == {}
