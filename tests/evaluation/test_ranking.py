"""Measures of a ranking against loops over all orders of equal scores, torchmetrics, scikit-learn and by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score

from clear.core.errors import ConfigError
from clear.evaluation.metrics.ranking import (
    RelevantRanks,
    average_precision_at,
    map_at_r,
    mean_reciprocal_rank,
    median_rank,
    ndcg_at_k,
    precision_at_k,
    r_precision,
    rank_relevant,
    ranks_from_counts,
    recall_at_k,
)

LN2 = np.log(2)


def measures(grades, k):
    """Every measure of one ranked list of grades, by loops."""
    hits = [place for place, grade in enumerate(grades, 1) if grade > 0]
    shown, total = [place for place in hits if place <= k], len(hits)
    precisions = sum((hits.index(place) + 1) / place for place in shown)

    def gain(order, of):
        return sum(of(grade) * LN2 / np.log(1 + place) for place, grade in enumerate(order[:k], 1))

    ideal = sorted(grades, reverse=True)
    return {
        'any': float(bool(shown)), 'share': len(shown) / total, 'precision': len(shown) / k,
        'mrr': 1 / hits[0] if hits[0] <= k else 0.0,
        'linear': gain(grades, float) / gain(ideal, float),
        'exponential': gain(grades, lambda g: 2 ** g - 1) / gain(ideal, lambda g: 2 ** g - 1),
        'min': precisions / min(k, total), 'hits': precisions / max(len(shown), 1), 'relevant': precisions / total,
        'r_precision': sum(place <= total for place in hits) / total,
        'map_at_r': sum((hits.index(place) + 1) / place for place in hits if place <= total) / total}


def ours(ranks, k, ties='worst'):
    found = {'precision': precision_at_k(ranks, k, ties=ties), 'mrr': mean_reciprocal_rank(ranks, k, ties=ties),
             'r_precision': r_precision(ranks, ties=ties), 'map_at_r': map_at_r(ranks, ties=ties)}
    found.update({name: recall_at_k(ranks, k, definition=name, ties=ties) for name in ('any', 'share')})
    found.update({name: ndcg_at_k(ranks, k, definition=name, ties=ties) for name in ('linear', 'exponential')})
    names = ('min', 'hits', 'relevant') if ties == 'worst' else ('min', 'relevant')
    return {**found, **{name: average_precision_at(ranks, k, definition=name, ties=ties) for name in names}}


def tied_lists(count, num_candidates, levels, seed=0):
    rng = np.random.default_rng(seed)
    grades = rng.integers(0, 3, (count, num_candidates))
    grades[:, 0] = np.maximum(grades[:, 0], 1)  # each query has a relevant item
    return rng.integers(0, levels, (count, num_candidates)).astype(float), grades


@pytest.mark.parametrize('k', [1, 3, 7, 20])
@pytest.mark.parametrize('num_candidates, levels', [(1, 1), (7, 1), (7, 3), (30, 6)])
def test_the_worst_case_is_a_sort_with_relevant_items_behind(num_candidates, levels, k):
    scores, grades = tied_lists(40, num_candidates, levels)
    found = ours(rank_relevant(torch.tensor(scores), torch.tensor(grades)), k)
    for row in range(40):
        order = sorted(range(num_candidates), key=lambda item: (-scores[row, item], grades[row, item]))
        expected = measures([int(grades[row, item]) for item in order], k)
        assert {name: float(values[row]) for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('k', [1, 2, 4, 9])
def test_the_expectation_is_the_mean_over_all_orders(k):
    scores, grades = tied_lists(12, 6, 3, seed=1)
    found = ours(rank_relevant(torch.tensor(scores), torch.tensor(grades)), k, 'expected')
    for row in range(12):
        each = []
        for order in permutations(range(6)):
            ranked = scores[row, list(order)]
            if (ranked[1:] <= ranked[:-1]).all():
                each.append(measures([int(grades[row, item]) for item in order], k))
        expected = {name: np.mean([measured[name] for measured in each]) for name in found}
        assert {name: float(values[row]) for name, values in found.items()} == pytest.approx(expected, abs=1e-12)


def test_both_rules_agree_without_ties():
    scores, grades = torch.randn(9, 40, generator=torch.Generator().manual_seed(0)), torch.ones(9, 40).tril()
    ranks = rank_relevant(scores, grades > 0)
    plain = RelevantRanks(ranks.worst)  # ranks alone, as another search gives them
    for k in (1, 5, 100):
        for found in (ours(ranks, k, 'expected'), ours(plain, k), ours(plain, k, 'expected')):
            assert all(torch.allclose(values, ours(ranks, k)[name]) for name, values in found.items())
    assert all(torch.equal(average_precision_at(ranks, definition=name), average_precision_at(ranks))
               for name in ('hits', 'relevant'))


def test_values_do_not_depend_on_the_order_of_the_candidates():
    scores, grades = tied_lists(20, 30, 4, seed=2)
    order = np.random.default_rng(3).permutation(30)
    for ties in ('worst', 'expected'):
        pair = [ours(rank_relevant(torch.tensor(scores[:, rows]), torch.tensor(grades[:, rows])), 5, ties)
                for rows in (np.arange(30), order)]
        assert all(torch.equal(values, pair[1][name]) for name, values in pair[0].items())


def test_a_collapsed_model_is_at_chance_or_below():
    ranks = rank_relevant(torch.zeros(1, 100), torch.arange(100)[None] < 1)
    assert ranks.worst.tolist() == [[100.0]]
    assert recall_at_k(ranks, 10).item() == 0 and recall_at_k(ranks, 10, ties='expected').item() == pytest.approx(.1)
    assert mean_reciprocal_rank(ranks).item() == .01
    harmonic = sum(1 / place for place in range(1, 101))
    assert mean_reciprocal_rank(ranks, ties='expected').item() == pytest.approx(harmonic / 100)


def test_recall_has_two_meanings():
    # One image with five captions among ten; two of them are in the first five.
    ranks = rank_relevant(torch.arange(10, 0, -1.0)[None], torch.tensor([[1, 0, 0, 1, 0, 1, 1, 0, 1, 0]]).bool())
    assert recall_at_k(ranks, 5).item() == 1
    assert recall_at_k(ranks, 5, definition='share').item() == pytest.approx(.4)
    assert precision_at_k(ranks, 5).item() == pytest.approx(.4)


@pytest.mark.parametrize('definition, expected', [('min', 1 / 2), ('hits', 1.0), ('relevant', 1 / 3)])
def test_average_precision_cut_at_two_of_relevant_ranks_1_3_4(definition, expected):
    ranks = rank_relevant(torch.tensor([[.9, .8, .7, .6]]), torch.tensor([[True, False, True, True]]))
    assert average_precision_at(ranks, 2, definition=definition).item() == pytest.approx(expected)
    assert average_precision_at(ranks, definition=definition).item() == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@pytest.mark.parametrize('definition, expected', [('linear', .5025), ('exponential', .5234)])
def test_graded_gain_of_grades_0_3_1_2(definition, expected):
    ranks = rank_relevant(torch.tensor([[.9, .8, .7, .6]]), torch.tensor([[0, 3, 1, 2]]))
    assert ndcg_at_k(ranks, 3, definition=definition).item() == pytest.approx(expected, abs=5e-5)


def test_packages_agree_without_ties():
    from torchmetrics.functional import retrieval as peers

    generator = torch.Generator().manual_seed(4)
    scores, relevant = torch.rand(12, 30, generator=generator) + .1, torch.rand(12, 30, generator=generator) < .2
    relevant[:, 3] = True
    ranks = rank_relevant(scores, relevant)
    found = ours(ranks, 5)
    for row, (each, right) in enumerate(zip(scores, relevant)):
        expected = {'any': peers.retrieval_hit_rate(each, right, top_k=5),
                    'share': peers.retrieval_recall(each, right, top_k=5),
                    'precision': peers.retrieval_precision(each, right, top_k=5),
                    'mrr': peers.retrieval_reciprocal_rank(each, right, top_k=5),
                    'hits': peers.retrieval_average_precision(each, right, top_k=5),
                    'linear': peers.retrieval_normalized_dcg(each, right, top_k=5),
                    'r_precision': peers.retrieval_r_precision(each, right)}
        assert {name: float(found[name][row]) for name in expected} == pytest.approx(
            {name: float(value) for name, value in expected.items()}, abs=1e-6)
        assert float(average_precision_at(ranks)[row]) == pytest.approx(average_precision_score(right, each))


def test_expected_gain_is_that_of_scikit_learn():
    scores, grades = tied_lists(15, 12, 3, seed=5)
    for k in (1, 4, 12):
        found = ndcg_at_k(rank_relevant(torch.tensor(scores), torch.tensor(grades)), k, ties='expected')
        assert float(found.mean()) == pytest.approx(ndcg_score(grades, scores, k=k))


def test_median_rank_is_of_first_relevant_items():
    scores = torch.tensor([[3., 2, 1, 0], [0, 3, 2, 1], [1, 1, 1, 1], [2, 3, 1, 0]])
    relevant = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0]]).bool()
    assert rank_relevant(scores, relevant).worst[:, 0].tolist() == [1, 4, 4, 2]
    assert median_rank(rank_relevant(scores, relevant)) == 3


def test_ranks_from_counts_are_those_of_scores():
    scores, grades = (torch.tensor(each) for each in tied_lists(10, 20, 4, seed=6))
    expected = rank_relevant(scores, grades)
    rows, items = (grades > 0).nonzero().flip(0).T
    own = scores[rows, items][:, None]
    found = ranks_from_counts(rows, (scores[rows] > own).sum(1), (scores[rows] == own).sum(1), 10, grades[rows, items])
    for name in ('worst', 'first', 'size', 'grades'):
        assert torch.equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_scores_may_be_of_half_precision(dtype):
    scores = torch.tensor([[0.5, 0.25, 0.5, 1.0]])
    relevant = torch.tensor([[True, True, False, False]])
    assert rank_relevant(scores.to(dtype), relevant).worst.tolist() == [[3, 4]]


def test_bad_input_is_refused():
    scores, relevant = torch.rand(3, 4), torch.eye(3, 4).bool()
    relevant[1] = False
    with pytest.raises(ValueError, match=r'query 1 has no relevant item \(1 of 3 queries have none\)'):
        rank_relevant(scores, relevant)
    with pytest.raises(ValueError, match='NaN'):
        rank_relevant(scores * torch.nan, relevant)
    with pytest.raises(ValueError, match='both be'):
        rank_relevant(scores, relevant[:2])
    with pytest.raises(ValueError, match='Q > 0'):
        ranks_from_counts(*torch.zeros(3, 0, dtype=torch.int64), 0)
    ranks = rank_relevant(scores[:1], relevant[:1])
    with pytest.raises(ConfigError, match='k is 0'):
        recall_at_k(ranks, 0)
    for call in (lambda: recall_at_k(ranks, 1, definition='hit'), lambda: ndcg_at_k(ranks, 1, definition='log'),
                 lambda: average_precision_at(ranks, 1, definition='R'), lambda: map_at_r(ranks, ties='mean')):
        with pytest.raises(ConfigError, match='expected'):
            call()
    with pytest.raises(ValueError, match='no closed form'):
        average_precision_at(ranks, 1, definition='hits', ties='expected')
