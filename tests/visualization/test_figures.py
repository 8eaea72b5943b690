import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

import clear.visualization
from clear.continual.metrics import clear_metrics, overlap_mask
from clear.core.results import Results
from clear.visualization.figures import (
    draw_figures,
    forgetting_figure,
    matrix_figure,
    new_figure,
    run_figures,
    timeline_figure,
    to_png,
)


def some_run(n=3, protocol='iid', rows=None, **changes):
    matrix = np.random.default_rng(n).random((n, n)).tolist()
    matrix = matrix[:rows] + [[None] * n] * (n - (n if rows is None else rows))
    values = {'name': 'naive', 'runner': 'ContinualRunner', 'protocol': f'clear/{protocol}/v1', 'acc_matrix': matrix,
              'metrics': clear_metrics(matrix, protocol), 'overlap_mask': overlap_mask(n, protocol)}
    return Results(**{**values, **changes})


def boxes(figure, texts):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [text.get_window_extent(renderer) for text in texts if text.get_text()]


def test_matrix_figure_prints_every_measured_entry_in_its_cell():
    run = some_run(rows=2)
    axes = matrix_figure(run).axes[0]
    printed = {text.get_position(): text.get_text() for text in axes.texts}
    assert printed == {(j, i): f'{run.acc_matrix[i][j]:.3f}' for i in range(2) for j in range(3)}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('tested on bucket', 'trained through bucket')


@pytest.mark.parametrize('protocol, hatched', [('iid', set()), ('streaming', {(0, 0), (1, 0), (1, 1)})])
def test_matrix_figure_hatches_measured_training_data(protocol, hatched):
    figure = matrix_figure(some_run(protocol=protocol, rows=2))
    cells = {(round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)) for patch in figure.axes[0].patches
             if patch.get_hatch()}
    assert cells == hatched
    labels = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert labels == (['measures training data'] if hatched else []) + ['not measured']


def test_no_text_overlaps_or_leaves_the_figure_with_eleven_long_buckets():
    run = some_run(11, 'streaming', name='a long name of a run ' * 4, extras={
        'bucket_names': [f'{year}-{year + 1} spring' for year in range(2004, 2015)]})
    figure = matrix_figure(run)
    to_png(figure)
    axes = figure.axes[0]
    everything = [figure._suptitle, axes.xaxis.label, axes.yaxis.label, *axes.texts, *axes.get_yticklabels()]
    found = boxes(figure, everything)
    assert len(found) == 3 + 121 + 11
    for box in boxes(figure, [*everything, *axes.get_xticklabels()]):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))


def test_timeline_has_a_panel_per_test_bucket():
    run = some_run(5, 'streaming')
    panels = [panel for panel in timeline_figure(run).axes if panel.axison]
    assert [panel.get_title() for panel in panels] == [f'tested on {j}' for j in range(1, 6)]
    for j, panel in enumerate(panels):
        column = [row[j] for row in run.acc_matrix]
        own, overlapped = panel.get_lines()[-2:]
        assert list(own.get_ydata()) == column
        np.testing.assert_array_equal(overlapped.get_ydata(), [v if i >= j else np.nan for i, v in enumerate(column)])


@pytest.mark.parametrize('rows', [4, 3])
def test_forgetting_bars_are_first_minus_last_measured(rows):
    run = some_run(4, rows=rows)
    heights = [bar.get_height() for bar in forgetting_figure(run).axes[0].patches]
    expected = [run.acc_matrix[j][j] - run.acc_matrix[rows - 1][j] for j in range(rows - 1)]
    assert heights == pytest.approx(expected)


@pytest.mark.parametrize('run, stems', [
    (some_run(2), ['accuracy_matrix', 'accuracy_over_time', 'forgetting']),
    (some_run(1), ['accuracy_matrix']),
    (some_run(3, rows=1), ['accuracy_matrix']),
    (some_run(3, rows=0), ['accuracy_matrix']),
    (some_run(2, acc_matrix=[[0.5, 0.5]], overlap_mask=None, joint=True), ['accuracy_matrix']),
    (some_run(2, acc_matrix=[[None, None], [0.5, 0.5]], joint=True), ['accuracy_matrix', 'accuracy_over_time']),
    (some_run(2, acc_matrix=None, overlap_mask=None), []),
])
def test_only_figures_with_something_to_show(run, stems):
    assert list(run_figures(run)) == stems


def test_files_are_whole_pngs_of_a_sensible_size(tmp_path):
    from PIL import Image

    paths = draw_figures(some_run(2), tmp_path / 'figures')
    assert sorted(tmp_path.rglob('*.*')) == sorted(paths)
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert image.format == 'PNG'
            assert 400 <= image.width <= 1600 and 300 <= image.height <= 1600
            assert len(set(image.convert('L').getdata())) > 10


def test_a_name_is_no_formula():
    # An unbalanced brace between dollars would be a parse error of matplotlib's math text.
    assert to_png(new_figure(3, 1, 'cost $x^{$', 'of $1')).startswith(b'\x89PNG')


def test_matplotlib_is_imported_inside_functions_only():
    for path in Path(clear.visualization.__file__).parent.glob('*.py'):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {alias.name for node in imports for alias in node.names} | {
            node.module for node in imports if isinstance(node, ast.ImportFrom)}
        assert names and not any(name.startswith('matplotlib') for name in names), path
