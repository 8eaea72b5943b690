"""The parts of pages: colours, scales and charts."""

import re

import pytest

from clear.visualization.html.charts import Line, dots, line_panel, nice_ticks, padded
from clear.visualization.html.colors import LEVELS, color_rules, scale_colors
from clear.visualization.html.facts import headline_names, is_lower_better
from clear.visualization.html.matrices import Scale, difference, matrix_of, mean_matrix


def luminance(color):
    channels = [int(color[k:k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize('theme', ['light', 'dark'])
def test_numbers_stand_out_and_grey_keeps_the_order(theme):
    for scale in 'hd':
        colors = scale_colors(scale, theme)
        assert len(colors) == LEVELS
        assert all(contrast(color, ink) >= 4.5 for color, ink in colors)
    shades = [luminance(color) for color, _ in scale_colors('h', theme)]
    assert shades == sorted(shades, reverse=theme == 'light') and len({*shades}) == LEVELS
    rules = color_rules()
    if theme == 'dark':
        rules = rules[rules.index('@media'):]
    named = dict(re.findall(r'--(\w+): (#\w{6})', rules[:rules.index('@media')] if theme == 'light' else rules))
    assert all(contrast(named[name], named['paper']) >= 4.5 for name in ('ink', 'soft', 'accent', 'warn', 's0', 's1',
                                                                        's2', 's3', 's4', 's5'))


def test_a_scale_is_of_all_matrices():
    scale = Scale.of([[[0.512, None]], [[0.874]]])
    assert (scale.low, scale.high) == (0.5, 0.9)
    assert [scale.level(value) for value in (0.5, 0.519, 0.521, 0.7, 0.9, 2.0, -1.0)] == [0, 0, 1, 5, 10, 10, 0]
    assert [scale.text(value) for value in (0.9124, 0.9996, 0.0, None)] == ['.912', '1.00', '.000', '-']
    assert (Scale.of([]).low, Scale.of([[[0.5]]]).high) == (0.0, 0.55)
    change = Scale.of_differences([[[0.013, -0.041, None]]])
    assert (change.low, change.high, change.level(0.0)) == (-0.05, 0.05, 5)
    assert [change.text(value) for value in (0.0134, -0.2, 0.0001)] == ['+.013', '-.200', '.000']


def test_differences_and_means_of_matrices():
    assert difference([[0.5, None]], [[0.25, 0.5]]) == [[0.25, None]]
    assert difference([[0.5]], [[0.25, 0.5]]) is None
    assert mean_matrix([[[0.5, 0.25]], [[1.0, None]]]) == [[0.75, None]]


@pytest.mark.parametrize('size', [1, 12, 13, 30])
def test_every_number_of_a_matrix_is_in_the_page(size):
    matrix = [[(i * size + j) / 1000 for j in range(size)] for i in range(size)]
    names = [f'b{k}' for k in range(size)]
    html = matrix_of(matrix, names, names, Scale.of([matrix]))
    shown = [float(f'0{text}') for text in re.findall(r'<td class="[^"]*">(\.\d+)</td>', html)]
    assert sorted(shown) == pytest.approx(sorted(value for row in matrix for value in row))
    assert html.count(' own"') == (size if size > 1 else 0)
    assert ('<svg' in html) == (size > 12)


def test_a_picture_has_every_cell():
    matrix = [[None if i == j == 3 else (i + j) / 60 for j in range(30)] for i in range(30)]
    html = matrix_of(matrix, ['x'] * 30, ['x'] * 30, Scale.of([matrix]), has_numbers=False)
    colored = ''.join(re.findall(r'<path class="h\d+" d="([^"]*)"', html))
    widths = [float(width) for width in re.findall(r'h(\d+)v1h', colored)]
    assert sum(widths) == 899 and len(widths) == colored.count('z') < 500
    assert 'transform="scale(10.0000 10.0000)"' in html
    assert re.search('class="gone" d="([^"]*)"', html)[1].count('M') == 1
    assert len(html) < 20_000


@pytest.mark.parametrize('low, high', [(0.0, 1.0), (0.612, 0.658), (-3.0, 9000.0), (1e-9, 3e-9), (-0.2, -0.1)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 5 and low - 1e-12 <= ticks[0] and ticks[-1] <= high + 1e-9 * abs(high)
    steps = {f'{b - a:.3e}'[0] for a, b in zip(ticks, ticks[1:])}
    assert len(steps) == 1 and steps <= {'1', '2', '5'}


def test_lines_have_gaps_and_stay_inside():
    line = Line('a', [0.0, 1.0, None, 0.5, 0.25], spread=[None, 0.1, None, 0.2, None])
    html = line_panel('t<', [line], ['a', 'b', 'c', 'd', '<e'], envelope=[(0, 1)] * 5, mark=1)
    path = re.search('class="line s0" d="([^"]*)"', html)[1]
    assert path.count('M') == 2 and path.count('L') == 2
    assert html.count('class="m0"') == 4 and '&lt;e' in html and 't&lt;' in html
    points = [tuple(map(float, pair)) for pair in re.findall(r'([\d.]+) ([\d.]+)', path)]
    assert all(0 <= x <= 270 and 0 <= y <= 150 for x, y in points)
    assert points[1][1] < points[3][1] < points[0][1]  # more is up
    assert '<path class="line s0" d=""/>' in line_panel('t', [Line('a', [None])], [])


def test_dots_show_mean_and_spread():
    html = dots([0.2, 0.4], 0.0, 1.0)
    assert html.count('class="one"') == 2 and 'cx="31.6%" cy="50%" r="4"' in html  # 4 + 92 * 0.3
    assert 'class="spread" x1="18.6%" x2="44.6%"' in html and 'class="zero"' not in html
    assert 'class="zero"' in dots([0.2], -1.0, 1.0)
    assert padded([]) == (0.0, 1.0) and padded([2.0]) == (1.8, 2.2)


@pytest.mark.parametrize('names, expected', [
    (['accuracy', 'in_domain', 'next_domain', 'backward_transfer'], ['in_domain', 'next_domain', 'backward_transfer']),
    (['next_domain', 'forward_transfer', 'final_domain'], ['next_domain', 'forward_transfer', 'final_domain']),
    (['loss', 'acc', 'acc_top5', 'knn_top1'], ['knn_top1', 'loss', 'acc']),
    (['knn/each/in_domain', 'knn/each/next_domain', 'knn/each/backward_transfer', 'lin/each/in_domain'],
     ['knn/each/in_domain', 'knn/each/next_domain', 'knn/each/backward_transfer']),
    (['a/t/top1', 'a/t/top5', 'b/t/top1', 'a/u/mAP'], ['a/t/top1', 'b/t/top1', 'a/u/mAP']),
    (['own'], ['own']), ([], [])])
def test_three_metrics_lead(names, expected):
    assert headline_names(names) == expected


def test_less_of_a_loss_is_better():
    assert [name for name in ('loss', 'val_loss_ce', 'a/t/rmse', 'forgetting', 'top1', 'lossless/top1')
            if is_lower_better(name)] == ['loss', 'val_loss_ce', 'a/t/rmse', 'forgetting']
