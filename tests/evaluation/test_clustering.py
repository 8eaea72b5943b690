import itertools
import math

import numpy as np
import pytest
import torch
from banks import MemoryBank, blobs, digits

from clear.core.errors import ConfigError, DataError
from clear.evaluation import Clustering, agreement, k_means
from clear.evaluation.image.clustering import lloyd, matched_accuracy, nearest_centre, plus_plus_centres
from clear.evaluation.task import TaskData


def test_lloyd_equals_scikit_learn_from_the_same_centres():
    from sklearn.cluster import KMeans

    features, _ = digits()
    features = features[:600]
    start = features[:10]
    fit = lloyd(features, start, tolerance=0.0)
    peer = KMeans(10, init=start.numpy(), n_init=1, tol=0.0, algorithm='lloyd').fit(features.numpy())
    assert fit.converged
    assert nearest_centre(features, fit.centres)[0].tolist() == peer.labels_.tolist()
    np.testing.assert_allclose(fit.centres.numpy(), peer.cluster_centers_, atol=1e-5)
    assert fit.inertia == pytest.approx(peer.inertia_, rel=1e-5)


def test_restarts_reach_the_inertia_of_scikit_learn():
    from sklearn.cluster import KMeans

    features, _ = digits()
    peer = KMeans(10, n_init=10, random_state=0).fit(features.numpy())
    assert k_means(features, 10).inertia < 1.01 * peer.inertia_


def test_task_scores_are_those_of_scikit_learn():
    from sklearn import metrics
    from sklearn.cluster import KMeans

    features, labels = blobs(60, spread=3.0)
    data = TaskData(bank=dict(test=MemoryBank(features, labels)))
    result = Clustering(fit_on='test', scale_to_unit=False).run(None, data)
    peer = KMeans(3, n_init=30, random_state=0).fit(features.numpy()).labels_
    assert result.metric == 'ami' and result.extras['n_train'] == 60
    found = result.extras['metrics']
    assert found['ami'] == pytest.approx(metrics.adjusted_mutual_info_score(labels, peer), abs=1e-9)
    assert found['nmi'] == pytest.approx(metrics.normalized_mutual_info_score(labels, peer), abs=1e-9)
    assert found['ari'] == pytest.approx(metrics.adjusted_rand_score(labels, peer), abs=1e-9)


def test_nmi_and_ari_match_their_formulas():
    clusters, labels = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    found = agreement(clusters, labels)
    pairs = list(itertools.combinations(range(6), 2))
    both = sum(clusters[i] == clusters[j] and labels[i] == labels[j] for i, j in pairs)
    in_clusters, in_labels = (sum(part[i] == part[j] for i, j in pairs) for part in (clusters, labels))
    expected = in_clusters * in_labels / len(pairs)
    assert found['ari'] == pytest.approx((both - expected) / ((in_clusters + in_labels) / 2 - expected))
    mutual = sum(n / 6 * math.log(n / 6 / (a / 6 * b / 6)) for n, a, b in ((2, 2, 3), (1, 3, 3), (2, 3, 3), (1, 1, 3)))
    entropies = [-sum(n / 6 * math.log(n / 6) for n in counts) for counts in ((2, 3, 1), (3, 3))]
    assert found['nmi'] == pytest.approx(mutual / (sum(entropies) / 2))


@pytest.mark.parametrize('num_clusters, num_labels', [(3, 3), (4, 2), (2, 4)])
def test_matched_accuracy_is_the_best_of_all_matchings(num_clusters, num_labels):
    rng = np.random.default_rng(num_clusters)
    clusters, labels = rng.integers(0, num_clusters, 30), rng.integers(0, num_labels, 30)
    size = max(num_clusters, num_labels)
    best = max(np.mean(np.array(order)[clusters] == labels) for order in itertools.permutations(range(size)))
    assert matched_accuracy(clusters, labels) == pytest.approx(best)


def test_perfect_clusters_under_other_names():
    found = agreement(np.array([7, 7, 3, 3, 5]), np.array([0, 0, 1, 1, 2]))
    assert all(value == pytest.approx(1.0) for value in found.values())


def test_empty_cluster_takes_a_far_row():
    features = torch.tensor([[0.], [0.1], [0.2], [9.]])
    fit = lloyd(features, torch.tensor([[0.1], [50.]]))
    assert sorted(fit.centres.squeeze(1).tolist()) == [pytest.approx(0.1), pytest.approx(9.)]


def test_first_centres_are_rows_and_differ():
    features, _ = blobs(30, spread=0.1)
    centres = plus_plus_centres(features, 3, torch.manual_seed(0))
    assert all((features == centre).all(1).any() for centre in centres)
    assert len({*nearest_centre(centres, blobs(3, spread=0.0)[0])[0].tolist()}) == 3, 'one per blob'


def test_fewer_rows_than_clusters_and_wrong_arguments():
    with pytest.raises(DataError, match='5 clusters were asked for, but there are 4'):
        k_means(torch.randn(4, 2), 5)
    for wrong, message in ((dict(num_clusters=0), 'num_clusters'), (dict(fit_on='all'), "'all'"),
                           (dict(restarts=0), 'restarts')):
        with pytest.raises(ConfigError, match=message):
            Clustering(**wrong)


def test_identical_rows_do_not_break_the_start():
    assert k_means(torch.ones(6, 2), 3, restarts=2).inertia == 0.0


@pytest.mark.parametrize('away', [0.0, 300.0, 3000.0, 30000.0])
def test_clusters_far_from_zero_are_those_near_it(away):
    features, labels = blobs(150, spread=0.3)
    near = Clustering(scale_to_unit=False).fit(features, labels, features, labels)
    far = Clustering(scale_to_unit=False).fit(features + away, labels, features + away, labels)
    assert far.value == pytest.approx(near.value, abs=1e-9)
    # What is left is the rounding of the features themselves, of 2^-24 * away each.
    assert far.extras['inertia'] == pytest.approx(near.extras['inertia'], rel=1e-5 + away * 1e-6)
    centres, expected = (k_means(rows, 3).centres.sort(0).values for rows in (features + away, features))
    assert torch.allclose(centres, expected + away, rtol=1e-6, atol=1e-2)


def test_random_clusters_have_no_adjusted_agreement():
    rng = np.random.default_rng(0)
    found = agreement(rng.integers(0, 5, 500), rng.integers(0, 5, 500))
    assert abs(found['ami']) < 0.05 and abs(found['ari']) < 0.05
    # Not adjusted for chance.
    assert 0 < found['nmi'] < 0.05
