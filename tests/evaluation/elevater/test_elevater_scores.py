"""ELEVATER's four metrics: cases worked out by hand, loops, and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clear.evaluation.elevater.base import zero_shot_probabilities
from clear.evaluation.elevater.heads.scores import score_heads, score_probabilities


def random_table(images, classes, seed):
    return torch.randn(images, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(1)


def test_a_class_without_images_is_no_rival_in_mean_per_class():
    # Class 2 has no image. It leads in rows 1 and 3, of which row 1 is right without it.
    table = torch.tensor([[.6, .3, .1], [.3, .1, .6], [.2, .7, .1], [.3, .2, .5]])
    labels = torch.tensor([0, 0, 1, 1])
    assert score_probabilities('mean_per_class', table, labels) == pytest.approx((2 / 2 + 1 / 2) / 2)
    assert score_probabilities('top1', table, labels) == pytest.approx(2 / 4)
    assert score_heads('mean_per_class', table.T[None], labels).tolist() == [0.75]


@pytest.mark.parametrize('seed', range(3))
def test_mean_per_class_is_scikit_learns_balanced_accuracy_of_the_classes_that_occur(seed):
    table = random_table(60, 9, seed)
    labels = torch.randint(0, 4, (60,), generator=torch.Generator().manual_seed(seed)) * 2  # 0, 2, 4, 6
    present = labels.unique()
    predicted = present[table[:, present].argmax(1)]
    expected = balanced_accuracy_score(labels, predicted)
    assert score_probabilities('mean_per_class', table, labels) == pytest.approx(expected)


def test_11_point_precision_by_hand():
    """Class 0 has positives at ranks 1, 3 and 4 of five: precision 1, 2/3, 3/4 at recalls 1/3, 2/3, 1.

    The best precision at a recall of at least 0 ... 0.3 is 1 (four points), of 0.4 ... 1 is 3/4 (seven). Class 1 has
    one positive at rank 2: 1/2 at every point. Class 2 has none and is left out.
    """
    table = torch.tensor([[.9, .05, .05], [.5, .3, .2], [.4, .2, .4], [.3, .4, .3], [.1, .1, .8]])
    targets = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]])
    expected = ((4 * 1 + 7 * 3 / 4) / 11 + 1 / 2) / 2
    assert score_probabilities('map_11point', table, targets) == pytest.approx(expected)


def eleven_points_by_loops(scores, targets):
    best = []
    for level in range(11):
        found = [0.0]
        for threshold in scores:
            chosen = [target for score, target in zip(scores, targets) if score >= threshold]
            if 10 * sum(chosen) >= level * sum(targets):
                found.append(sum(chosen) / len(chosen))
        best.append(max(found))
    return sum(best) / 11


@pytest.mark.parametrize('images, classes', [(30, 4), (11, 2), (50, 1)])
def test_11_point_precision_by_loops(images, classes):
    table = random_table(images, classes + 1, images).numpy().round(1)  # rounded, so that scores are equal
    targets = (np.random.default_rng(images).random(table.shape) < 0.3).astype(int)
    targets[:, -1] = 0
    expected = np.mean([eleven_points_by_loops(table[:, each].tolist(), targets[:, each].tolist())
                        for each in range(classes)])
    assert score_probabilities('map_11point', torch.from_numpy(table), torch.from_numpy(targets)) == \
        pytest.approx(expected)


def test_roc_auc_is_of_the_second_class_and_counts_equal_scores_half():
    scores = torch.tensor([.9, .4, .4, .2, .1], dtype=torch.float64)
    labels = torch.tensor([1, 1, 0, 0, 1])
    # Pairs of a positive and a negative: .9 wins two; .4 ties one and wins one; .1 loses both.
    assert score_probabilities('roc_auc', torch.stack([1 - scores, scores], 1), labels) == pytest.approx(3.5 / 6)
    table = random_table(40, 2, 0)
    labels = torch.randint(0, 2, (40,), generator=torch.Generator().manual_seed(1))
    assert score_probabilities('roc_auc', table, labels) == pytest.approx(roc_auc_score(labels, table[:, 1]))


def test_roc_auc_is_of_two_classes_alone():
    labels = torch.tensor([0, 2, 2, 0])  # of the class 2, whose score is not that of class 1
    with pytest.raises(ValueError, match='roc_auc is not defined'):
        score_probabilities('roc_auc', random_table(4, 3, 0), labels)
    assert score_heads('roc_auc', random_table(4, 3, 0).T[None], labels).tolist() == [0.0]


def test_of_logits_the_softmax_is_ranked_also_for_several_labels():
    """Image 0 has the higher logit of class 0, image 1 the higher softmax."""
    logits = torch.tensor([[[5.0, 2.0], [5.0, -9.0]]])  # (1, C, N)
    targets = torch.tensor([[0, 0], [1, 0]])
    assert score_heads('map_11point', logits, targets).tolist() == [1.0]
    assert score_heads('map_11point', logits, targets.flip(0)).tolist() == [0.5]


@pytest.mark.parametrize('classes', [2, 10, 11, 102])
def test_classes_of_one_vector_are_equally_likely_wherever_they_stand(classes):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(classes, 512, generator=generator)
    vectors[-1] = vectors[0]
    images = vectors[:1] + torch.randn(99, 512, generator=generator)
    found = zero_shot_probabilities(images, vectors)
    assert found.shape == (99, classes) and torch.equal(found[:, 0], found[:, -1])
    for label in (0, classes - 1):
        assert score_probabilities('top1', found, torch.full((99,), label)) == 0
