import numpy as np
import pytest
import torch
from PIL import Image

from clear.core.errors import DataError
from clear.features.kmeans.showing import drawn_members, tsne
from clear.visualization.clusters import map_figure, samples_figure, sizes_figure
from clear.visualization.figures import to_png

LABELS = torch.tensor([4] * 30 + [1] * 3 + [7] * 9 + [2])


def test_members_are_of_their_cluster_and_drawn_by_the_seed():
    members = drawn_members(LABELS, num_clusters=16, per_cluster=8, seed=3)
    assert list(members) == [4, 7, 1, 2], 'the largest first'
    for cluster, rows in members.items():
        assert (LABELS[rows] == cluster).all() and len(set(rows)) == len(rows) == min(8, LABELS.tolist().count(cluster))
    again, other = (drawn_members(LABELS, 16, 8, seed) for seed in (3, 4))
    assert all(np.array_equal(members[k], again[k]) for k in members)
    assert not all(np.array_equal(members[k], other[k]) for k in members)
    some = [tuple(drawn_members(LABELS, 2, 1, seed)) for seed in range(30)]
    assert {len(each) for each in some} == {2} and len(set(some)) > 2


def test_pictures_stand_in_the_lines_of_their_clusters():
    colours = {0: (250, 0, 0), 1: (0, 240, 0), 2: (0, 0, 230)}
    figure = samples_figure({5: np.array([0, 1]), 9: np.array([2, 3])},
                            lambda row: Image.new('RGB', (90, 70), colours[row]) if row in colours else None,
                            ['5: a cat', '9: $3'], 'a run', 'Some clusters')
    axes, = figure.axes
    pixels = axes.images[0].get_array()
    middle = [tuple(int(value) for value in pixels[y, x]) for y in (32, 98) for x in (32, 98)]
    assert middle == [*colours.values(), (217, 217, 217)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['5: a cat', r'9: \$3']
    assert list(axes.get_yticks()) == [32, 98]
    assert to_png(figure).startswith(b'\x89PNG')


def test_sizes_fall_and_empty_clusters_count():
    axes, = sizes_figure(LABELS, 8, 'a run', 'sizes').axes
    assert axes.lines[0].get_ydata().tolist() == [30, 9, 3, 1, 0, 0, 0, 0]
    assert axes.lines[1].get_ydata()[0] == len(LABELS) / 8


def test_a_map_keeps_separate_clusters_separate():
    features = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)) * 0.1
    features[30:] += 5
    features[3, 1] = torch.nan
    labels = torch.arange(60) // 30 + 19  # 20 has the colour of 0
    axes, = map_figure(features, labels, 'a run', 'map', max_rows=50).axes
    points, = axes.collections
    assert points.get_offsets().shape == (50, 2) and points.get_array().tolist() == [19] * 30 + [0] * 20
    centres = [points.get_offsets()[part].mean(0) for part in (slice(30), slice(30, 50))]
    nearest = [np.argmin([np.linalg.norm(point - centre) for centre in centres]) for point in points.get_offsets()]
    # A row of a NaN, which counts as 0, may lie anywhere.
    assert np.mean(np.array(nearest) == np.array([0] * 30 + [1] * 20)) > 0.95
    assert np.array_equal(tsne(features[:50]), points.get_offsets())


@pytest.mark.parametrize(('features', 'message'), [(torch.randn(4, 3), 'of 4 rows'), (torch.ones(9, 3), 'the same')])
def test_no_map(features, message):
    with pytest.raises(DataError, match=message):
        map_figure(features, torch.zeros(len(features), dtype=torch.int64), 'a run', 'map')
