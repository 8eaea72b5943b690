from clear.visualization.figures import to_png
from clear.visualization.representation import representation_figure


def figure_of(matrix, owns):
    rows, columns = len(matrix), len(matrix[0])
    return representation_figure(matrix, [f'encoder {i}' for i in range(rows)], [str(j) for j in range(columns)], owns,
                                 'a run', 'KNN')


def test_numbers_and_frames_stand_in_their_cells():
    figure = figure_of([[0.5, 0.25, None], [0.125, 1.0, 0.0]], [None, 2])
    axes = figure.axes[0]
    numbers = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    assert numbers == {(0, 0): '0.500', (0, 1): '0.250', (1, 0): '0.125', (1, 1): '1.000', (1, 2): '0.000'}
    frame, = axes.patches
    assert (round(frame.get_x() + frame.get_width() / 2), round(frame.get_y() + frame.get_height() / 2)) == (2, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['trained through this bucket',
                                                                          'not measured']
    assert to_png(figure).startswith(b'\x89PNG')


def test_a_matrix_without_numbers_or_of_equal_ones_can_be_drawn():
    assert to_png(figure_of([[None, None]], [0])).startswith(b'\x89PNG')
    figure = figure_of([[0.5], [0.5]], [0, None])
    low, high = figure.axes[0].images[0].get_clim()
    assert low <= 0.5 <= high and low < high
