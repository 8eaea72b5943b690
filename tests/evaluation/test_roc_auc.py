"""ROC AUC against counting pairs, scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clear.evaluation.metrics.roc_auc import roc_auc


@pytest.mark.parametrize('scores, targets, expected', [
    ([.1, .4, .35, .8], [0, 0, 1, 1], .75), ([1, 2, 3, 4], [0, 0, 1, 1], 1.0), ([4, 3, 2, 1], [0, 0, 1, 1], 0.0),
    ([5, 5, 5, 5], [1, 0, 0, 0], .5), ([1, 2, 2, 3], [0, 1, 0, 1], .875), ([9, 1, 2], [-1, 0, 1], 1.0)])
def test_hand_computed(scores, targets, expected):
    assert roc_auc(np.array(scores), np.array(targets)) == expected


@pytest.mark.parametrize('levels', [None, 2, 5])
def test_it_is_the_share_of_pairs_in_order_and_scikit_learns(levels):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=60) if levels is None else rng.integers(0, levels, 60).astype(float)
    targets = rng.integers(0, 2, 60)
    pairs = [(1.0 if a > b else .5 if a == b else 0.0) for a in scores[targets == 1] for b in scores[targets == 0]]
    assert roc_auc(scores, targets) == pytest.approx(np.mean(pairs)) == pytest.approx(roc_auc_score(targets, scores))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match='2 positive and 0 negative'):
        roc_auc(np.array([1., 2]), np.array([1, 1]))
    with pytest.raises(ValueError, match='NaN'):
        roc_auc(np.array([np.nan, 2]), np.array([1, 0]))
    with pytest.raises(ValueError, match=r'both be \(N,\)'):
        roc_auc(np.zeros(3), np.zeros(2))
