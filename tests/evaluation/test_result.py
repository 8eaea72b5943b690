import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError
from clear.evaluation import TaskResult, classification_metrics
from clear.evaluation.task import counts_of, over_seeds


def tied_scores(num_classes):
    rng = np.random.default_rng(0)
    return rng.integers(0, 4, size=(50, num_classes)).astype(float), rng.integers(0, num_classes, size=50)


@pytest.mark.parametrize('num_classes', [1, 2, 7])
def test_the_target_stands_behind_all_of_its_score(num_classes):
    scores, targets = tied_scores(num_classes)
    places = []
    for row, target in zip(scores, targets):
        order = sorted(range(num_classes), key=lambda index: (-row[index], index == target))
        places.append(order.index(target))
    before, shared = counts_of(torch.tensor(scores), torch.tensor(targets))
    assert before.tolist() == places and (shared == 1).all()
    metrics = classification_metrics(torch.tensor(scores), torch.tensor(targets))
    assert metrics['top1'] == pytest.approx(np.mean([place < 1 for place in places]))
    if num_classes > 5:
        assert metrics['top5'] == pytest.approx(np.mean([place < 5 for place in places]))


@pytest.mark.parametrize('num_classes', [1, 2, 7])
def test_expected_accuracies_are_the_mean_over_orders(num_classes):
    scores, targets = tied_scores(num_classes)
    hits = {1: [], 5: []}
    for row, target in zip(scores, targets):
        first = sum(row > row[target])
        for k, found in hits.items():
            found.append(np.mean([place < k for place in range(first, first + sum(row == row[target]))]))
    metrics = classification_metrics(torch.tensor(scores), torch.tensor(targets), ties='expected')
    assert metrics['top1'] == pytest.approx(np.mean(hits[1]))
    assert metrics['mean_per_class'] == pytest.approx(np.mean(
        [np.mean([hit for hit, target in zip(hits[1], targets) if target == each]) for each in set(targets)]))
    assert num_classes < 6 or metrics['top5'] == pytest.approx(np.mean(hits[5]))


def test_equal_scores_for_all_classes_are_no_answer():
    scores, targets = torch.zeros(12, 10), torch.arange(12) % 10
    assert classification_metrics(scores, targets) == dict(top1=0, top5=0, mean_per_class=0)
    expected = classification_metrics(scores, targets, ties='expected')
    assert expected == pytest.approx(dict(top1=.1, top5=.5, mean_per_class=.1))
    none = classification_metrics(scores - torch.inf, targets, ties='expected')
    assert none == dict(top1=0, top5=0, mean_per_class=0)  # -inf is no answer
    with pytest.raises(ConfigError, match='ties'):
        classification_metrics(scores, targets, ties='mean')


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
