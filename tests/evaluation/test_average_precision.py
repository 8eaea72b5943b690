"""Average precision against scikit-learn, mmpretrain's metric, VOC's own program re-told with loops, and by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from clear.evaluation.metrics.average_precision import (
    average_precision,
    mean_average_precision,
    per_image_average_precision,
    precision_recall,
)


def draw(seed, n, levels=None):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, n) if levels else rng.standard_normal(n)
    targets = rng.choice([-1, 0, 1], n, p=[0.2, 0.5, 0.3])
    targets[rng.integers(n)] = 1
    return scores.astype(float), targets


@pytest.mark.parametrize('levels', [None, 2, 5])  # with equal scores
@pytest.mark.parametrize('n', [1, 2, 7, 60])
def test_area_is_scikit_learn_s(n, levels):
    for seed in range(5):
        scores, targets = draw(seed, n, levels)
        kept = targets >= 0
        wanted = average_precision_score(targets[kept], scores[kept])
        assert average_precision(scores, targets) == pytest.approx(wanted, abs=1e-12)
        shuffled = np.random.default_rng(seed).permutation(n)
        assert average_precision(scores[shuffled], targets[shuffled]) == pytest.approx(wanted, abs=1e-12)


def test_mean_is_that_of_mmpretrain():
    from mmpretrain.evaluation import AveragePrecision

    draws = [draw(seed, 30) for seed in range(4)]
    scores, targets = (np.stack([each[i] for each in draws], 1) for i in (0, 1))
    wanted = AveragePrecision.calculate(torch.from_numpy(scores), torch.from_numpy(targets)).item()
    value, each = mean_average_precision(scores, targets)
    assert 100 * value == pytest.approx(wanted, abs=1e-4) and value == pytest.approx(each.mean())


def eleven_points_by_loops(scores, targets):
    order = sorted((i for i in range(len(scores)) if targets[i] >= 0), key=lambda i: -scores[i])
    positives = sum(target == 1 for target in targets)
    points, hits = [], 0
    for rank, i in enumerate(order, 1):
        hits += targets[i] == 1
        points.append((hits, hits / rank))
    total = 0.0
    for tenth in range(11):
        # recall >= tenth / 10 in whole numbers
        total += max((precision for hits, precision in points if 10 * hits >= tenth * positives), default=0.0)
    return total / 11


@pytest.mark.parametrize('n', [1, 10, 61])
def test_eleven_points(n):
    for seed in range(5):
        scores, targets = draw(seed, n)
        assert average_precision(scores, targets, '11point') == pytest.approx(eleven_points_by_loops(scores, targets))


def test_by_hand():
    scores, targets = np.array([4.0, 3.0, 2.0, 1.0]), np.array([1, 0, 1, 0])
    assert average_precision(scores, targets) == pytest.approx((1 + 2 / 3) / 2)
    # recall 0 ... 0.5: precision 1 (six points); 0.6 ... 1: 2/3 (five points)
    assert average_precision(scores, targets, '11point') == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert average_precision(scores, np.array([1, -1, 1, 0])) == 1.0
    recall, precision = precision_recall(np.array([1.0, 1.0]), np.array([1, 0]))
    assert (recall.tolist(), precision.tolist()) == ([1.0], [0.5])


def test_per_image_ranks_the_classes_of_an_image():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    targets = np.array([[1, 0, 0], [1, -1, 0], [0, -1, 0]])  # the last has no positive and is left out
    assert per_image_average_precision(scores, targets) == pytest.approx((1 + 1 / 3) / 2)
    rng = np.random.default_rng(0)
    scores, targets = rng.standard_normal((9, 6)), rng.integers(0, 2, (9, 6))
    targets[:, 0] = 1
    assert per_image_average_precision(scores, targets) == pytest.approx(
        average_precision_score(targets, scores, average='samples'))


@pytest.mark.parametrize(('scores', 'targets', 'method', 'says'), [
    ([1.0, 2.0], [0, -1], 'area', 'no target is positive'), ([1.0, np.nan], [0, 1], 'area', 'not finite'),
    ([1.0], [1, 0], 'area', r'should both be \(N,\)'), ([1.0], [1], 'voc', "method is 'voc'"),
])
def test_what_has_no_precision(scores, targets, method, says):
    with pytest.raises(ValueError, match=says):
        average_precision(np.array(scores), np.array(targets), method)


def test_a_class_without_positives_is_named():
    with pytest.raises(ValueError, match='class 1 has no positive'):
        mean_average_precision(np.ones((3, 2)), np.array([[1, 0], [0, -1], [1, 0]]))
    with pytest.raises(ValueError, match='no image has a positive'):
        per_image_average_precision(np.ones((3, 2)), np.zeros((3, 2)))
