import numpy as np
import pytest
import torch

from clear.evaluation import TaskResult, classification_metrics
from clear.evaluation.task import over_seeds, ranks_of


def rank_by_loop(scores, target):
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    return order.index(target)


@pytest.mark.parametrize('num_classes', [1, 2, 7])
def test_ranks_match_a_stable_sort_with_ties(num_classes):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, size=(50, num_classes)).astype(float)  # many ties
    targets = rng.integers(0, num_classes, size=50)
    expected = [rank_by_loop(list(row), target) for row, target in zip(scores, targets)]
    assert ranks_of(torch.tensor(scores), torch.tensor(targets)).tolist() == expected


def test_metrics_by_hand():
    scores = torch.tensor([[3., 2, 1], [3, 2, 1], [1, 2, 3], [1, 3, 2]])
    metrics = classification_metrics(scores, torch.tensor([0, 1, 2, 1]))
    assert metrics == dict(top1=0.75, mean_per_class=pytest.approx((1 + 0.5 + 1) / 3))


def test_top5_only_above_five_classes():
    scores = torch.arange(6.).expand(2, 6)
    metrics = classification_metrics(scores, torch.tensor([0, 1]))
    assert metrics['top5'] == 0.5  # class 0 is last of six, class 1 fifth
    assert 'top5' not in classification_metrics(torch.zeros(1, 5), torch.tensor([0]))


def test_mean_per_class_counts_only_classes_that_occur():
    scores = torch.eye(3)[[0, 0, 1]]
    metrics = classification_metrics(scores, torch.tensor([0, 0, 0]))
    assert metrics['mean_per_class'] == metrics['top1'] == pytest.approx(2 / 3)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match='NaN'):
        classification_metrics(torch.tensor([[float('nan'), 1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match='N > 0'):
        classification_metrics(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_over_seeds_is_mean_and_sample_deviation():
    means, deviations = over_seeds({0: dict(top1=0.5), 1: dict(top1=0.7), 2: dict(top1=0.9)})
    assert means['top1'] == pytest.approx(0.7)
    assert deviations['top1'] == pytest.approx(np.std([0.5, 0.7, 0.9], ddof=1))
    assert over_seeds({4: dict(top1=0.5)}) == (dict(top1=0.5), {})


def test_result_survives_a_round_trip():
    result = TaskResult('top1', 0.5, True, dict(n_test=3))
    assert TaskResult(**result.to_dict()) == result
