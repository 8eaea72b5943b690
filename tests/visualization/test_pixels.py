"""Predictions for pixels beside the truth."""

import numpy as np
import pytest

from clear.visualization.pixels import class_colors, example_figures, examples_figure

K, H, W = 2, 6, 8
RANDOM = np.random.default_rng(0)
VALUES = dict(classes=RANDOM.integers(0, 5, (K, H, W)).astype(np.uint8),
              mask=RANDOM.integers(0, 2, (K, H, W)).astype(np.uint8), depth=RANDOM.random((K, H, W)) * 9,
              edges=RANDOM.random((K, H, W)), luminance=RANDOM.random((K, H, W)), flow=RANDOM.normal(size=(K, H, W, 2)),
              image=RANDOM.integers(0, 255, (K, H, W, 3)).astype(np.uint8))


def painted(figure):
    """Row after row, the pictures of each."""
    return [panel.images[0].get_array() for panel in figure.axes]


@pytest.mark.parametrize('kind', VALUES)
def test_every_kind_beside_its_truth(kind):
    truth, valid = VALUES[kind], np.ones((K, H, W), bool)
    valid[:, 0, 0] = False
    images = RANDOM.integers(0, 255, (K, H, W, 3)).astype(np.uint8)
    figure = examples_figure('job', kind, images, truth, truth.copy(), valid)
    assert [panel.get_title() for panel in figure.axes[:3]] == ['image', 'truth', 'predicted']
    for row in range(K):
        image, left, right = painted(figure)[3 * row:3 * row + 3]
        assert (image == images[row]).all() and (left[0, 0] == 0.75).all()
        assert np.allclose(left[valid[row]], right[valid[row]])
    assert len(np.unique(right.reshape(-1, 3), axis=0)) > 1


def test_clips_show_their_frames():
    frames = RANDOM.integers(0, 255, (K, 2, H, W, 3)).astype(np.uint8)
    figure = examples_figure('job', 'flow', frames, VALUES['flow'], -VALUES['flow'], np.ones((K, H, W), bool))
    assert [panel.get_title() for panel in figure.axes[:4]] == ['frame 1', 'frame 2', 'truth', 'predicted']


def test_flow_has_the_colour_of_its_direction():
    flow = np.zeros((1, 1, 3, 2))
    flow[0, 0, :2] = [[2, 0], [-2, 0]]  # right, left, none
    figure = examples_figure('job', 'flow', np.zeros((1, 1, 3, 3), np.uint8), flow, flow, np.ones((1, 1, 3), bool))
    assert np.allclose(painted(figure)[1][0], [[1, 0, 0], [0, 1, 1], [1, 1, 1]])


def test_depth_has_the_scale_of_the_truth():
    truth, predicted = np.array([[[0., 10]]]), np.array([[[-5., 20]]])
    figure = examples_figure('job', 'depth', np.zeros((1, 1, 2, 3), np.uint8), truth, predicted,
                             np.ones((1, 1, 2), bool))
    assert np.allclose(painted(figure)[1], painted(figure)[2])


def test_class_colours_differ():
    colors = class_colors(60)
    distances = np.abs(colors[:, None] - colors[None]).max(-1) + np.eye(60)
    assert (colors[0] == 0).all() and distances.min() > 0.01


def test_what_cannot_be_drawn_is_left_out_with_a_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr('clear.visualization.pixels.logger.handlers', [])
    monkeypatch.setattr('clear.visualization.pixels.logger.propagate', True)
    for name in ('good', 'damaged', 'unknown', 'none'):
        (tmp_path / name).mkdir()
    arrays = dict(images=np.zeros((K, H, W, 3), np.uint8), truth=VALUES['depth'], predicted=VALUES['depth'],
                  valid=np.ones((K, H, W), bool))
    np.savez(tmp_path / 'good/examples.npz', kind='depth', **arrays)
    np.savez(tmp_path / 'unknown/examples.npz', kind='dept', **arrays)
    (tmp_path / 'damaged/examples.npz').write_bytes(b'PK not a zip')
    with caplog.at_level('WARNING', logger='clear'):
        figures = example_figures({path.name: path for path in sorted(tmp_path.iterdir())})
    assert list(figures) == ['good--pixels'] and len(caplog.records) == 2
    assert "kind is 'dept'" in caplog.text
