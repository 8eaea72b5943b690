"""Numbers about clusters against scikit-learn and loops."""

from collections import Counter

import pytest
import torch
from banks import blobs
from sklearn import metrics

from clear.core.errors import DataError
from clear.features.kmeans import cluster_metrics
from clear.features.kmeans import quality as quality_module


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(k, rows, seed=0):
    """Labels below k, of which some may be unused."""
    return torch.randint(0, k, (rows,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(('rows', 'k', 'away'), [(30, 2, 0.0), (401, 9, 0.0), (60, 50, 0.0), (400, 9, 1000.0)])
def test_scores_of_scikit_learn(rows, k, away):
    features, labels = numbers(rows, 5) + away, drawn(k, rows, rows)
    found, near = cluster_metrics(features, labels, k), (features - away).double()
    assert found['silhouette'] == pytest.approx(metrics.silhouette_score(near, labels), rel=1e-3, abs=1e-4)
    assert found['davies_bouldin'] == pytest.approx(metrics.davies_bouldin_score(near, labels), rel=1e-3)
    assert found['calinski_harabasz'] == pytest.approx(metrics.calinski_harabasz_score(near, labels), rel=1e-3)
    if not away:
        assert found['davies_bouldin'] == pytest.approx(metrics.davies_bouldin_score(near, labels), rel=1e-6)


def test_distances_of_many_centroids_come_in_blocks(monkeypatch):
    features, labels = numbers(500, 4), drawn(90, 500)
    whole = cluster_metrics(features, labels, 90)
    monkeypatch.setattr(quality_module, '_DISTANCES_PER_BLOCK', 7 * 90)
    monkeypatch.setattr(quality_module, '_ROWS_PER_BLOCK', 64)
    assert cluster_metrics(features, labels, 90) == pytest.approx(whole, rel=1e-9)


def test_purity_counts_the_most_frequent_class():
    labels, classes = drawn(7, 300), drawn(4, 300, 1) - 1  # -1 is unknown
    members = [Counter(c for c, own in zip(classes.tolist(), labels.tolist()) if own == k and c >= 0) for k in range(7)]
    expected = sum(max(each.values(), default=0) for each in members) / (classes >= 0).sum().item()
    found = cluster_metrics(numbers(300, 3), labels, 7, classes=classes)
    assert found['purity'] == pytest.approx(expected)
    assert cluster_metrics(numbers(300, 3), labels, 7, classes=labels * 10)['purity'] == 1
    assert 'purity' not in cluster_metrics(numbers(300, 3), labels, 7, classes=torch.full((300,), -1))


def test_sizes():
    labels = torch.tensor([0] * 5 + [2] * 2 + [3] + [6])
    found = cluster_metrics(numbers(9, 3), labels, 8)
    assert {name: found[name] for name in ('num_empty', 'size_smallest', 'size_median', 'size_largest')} == \
        dict(num_empty=4, size_smallest=1, size_median=1.5, size_largest=5)


def test_the_silhouette_is_of_drawn_rows():
    features, labels = blobs(4000, 4, spread=2.0)
    whole = cluster_metrics(features, labels, 4, silhouette_rows=4000)['silhouette']
    parts = [cluster_metrics(features, labels, 4, silhouette_rows=400, seed=seed)['silhouette'] for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    assert parts == pytest.approx([whole] * 3, abs=0.05)


@pytest.mark.parametrize('labels', [torch.zeros(6, dtype=torch.int64), torch.arange(6)])
def test_what_is_not_defined_is_left_out(labels):
    found = cluster_metrics(numbers(6, 3), labels, 6)
    assert {*found} == {'num_empty', 'size_smallest', 'size_median', 'size_largest'}


def test_equal_rows_and_gaps_are_no_error():
    labels = torch.tensor([0, 0, 1, 1, 2])
    for features in (torch.ones(5, 2), torch.full((5, 2), torch.nan)):
        found = cluster_metrics(features, labels, 3)
        assert found['davies_bouldin'] == 0 and found['calinski_harabasz'] == 1  # as scikit-learn
    apart = torch.tensor([[0.], [0.], [5.], [5.], [9.]])
    found = cluster_metrics(apart, labels, 3)
    assert found['davies_bouldin'] == metrics.davies_bouldin_score(apart, labels) == 0
    assert found['calinski_harabasz'] == metrics.calinski_harabasz_score(apart, labels) == 1


def test_lengths_that_differ():
    for options in (dict(), dict(classes=torch.zeros(4))):
        with pytest.raises(DataError, match='5 rows of features'):
            cluster_metrics(numbers(5, 2), torch.zeros(4 if not options else 5, dtype=torch.int64), 2, **options)
    with pytest.raises(DataError, match='0 rows'):
        cluster_metrics(numbers(0, 2), torch.zeros(0, dtype=torch.int64), 2)
