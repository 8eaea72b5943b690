"""k-means by torch and by faiss against each other, faiss called directly, scikit-learn, and loops."""

import logging

import numpy as np
import pytest
import torch
from banks import blobs

from clear.core.errors import ConfigError, DataError
from clear.features.kmeans import back_translate, fit_kmeans
from clear.features.kmeans import lloyd as lloyd_module
from clear.features.kmeans.draws import Words, drawn_rows, means_or_halves
from clear.features.kmeans.lloyd import cluster_means, lloyd, nearest_centre

BACKENDS = ['torch', 'faiss']
# `ProtoCLIP-PBT`: clusters of twelve rows; norm and first number of each centroid, in float32.
GOLDEN_LABELS = torch.tensor([0, 0, 1, 3, 3, 3, 4, 1, 0, 4, 3, 1])
GOLDEN = [(1.8561378403499096, 0.29566138982772827), (1.6888571837560167, -0.6006284952163696), (0.0, 0.0),
          (1.9642824894608304, 0.6853800415992737), (3.3695425066711993, -0.3805089294910431)]


def needs(backend):
    if backend == 'faiss':
        pytest.importorskip('faiss')


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_faiss(features, k, **options):
    faiss = pytest.importorskip('faiss')
    kmeans = faiss.Kmeans(features.shape[1], k, min_points_per_centroid=1, **options)
    kmeans.train(features.numpy())
    return torch.from_numpy(kmeans.centroids)


def inertia_by_loops(features, centroids):
    return sum(min((row - centre).square().sum().item() for centre in centroids.double()) for row in features.double())


def same_partition(first, second):
    pairs = set(zip(first.tolist(), second.tolist()))
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.parametrize('backend', BACKENDS)
def test_separable_blobs_are_found_as_scikit_learn_finds_them(backend):
    from sklearn.cluster import KMeans

    needs(backend)
    features, labels = blobs(600, 6, spread=0.2)
    found = fit_kmeans(features, 6, restarts=20, seed=1, backend=backend)
    peer = KMeans(6, n_init=20, random_state=0).fit(features.numpy())
    assert found.backend == backend and found.num_mended == 0
    assert same_partition(found.labels, labels) and same_partition(found.labels, torch.from_numpy(peer.labels_))
    assert found.inertia == pytest.approx(peer.inertia_, rel=1e-5)
    assert found.sizes.tolist() == [100] * 6
    means = torch.stack([features[labels == label].mean(0) for label in range(6)])
    order = nearest_centre(means, found.centroids)[0]
    torch.testing.assert_close(found.centroids[order], means, atol=1e-4, rtol=0)
    expected = torch.from_numpy(peer.cluster_centers_[peer.predict(means.numpy())])
    torch.testing.assert_close(means, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(('rows', 'k', 'options'), [
    (300, 7, dict(seed=3)), (2000, 5, dict(seed=1)), (500, 20, dict(seed=5, max_iter=3)), (41, 40, dict(seed=8)),
    (300, 7, dict(seed=2, restarts=5, max_iter=60))])
def test_torch_ends_where_faiss_ends_on_rows_without_clusters(rows, k, options):
    features = numbers(rows, 6, seed=rows)
    torch_fit, faiss_fit = (fit_kmeans(features, k, backend=backend, **options) for backend in BACKENDS)
    torch.testing.assert_close(torch_fit.centroids, faiss_fit.centroids, atol=1e-4, rtol=0)
    assert (torch_fit.labels == faiss_fit.labels).float().mean() > 0.99
    direct = by_faiss(features, k, niter=options.get('max_iter', 20), nredo=options.get('restarts', 1),
                      seed=options['seed'])
    assert torch.equal(faiss_fit.centroids, direct)
    assert faiss_fit.inertia == pytest.approx(inertia_by_loops(features, direct), rel=1e-5)


def test_empty_clusters_are_split_as_faiss_splits_them():
    """Many of the first centroids are equal, so most stay empty; after their split equal rows lie half way between."""
    features = numbers(12, 4, seed=1).repeat_interleave(25, 0)
    for seed in range(6):
        found = fit_kmeans(features, 30, seed=seed, max_iter=1, backend='torch')
        torch.testing.assert_close(found.centroids, by_faiss(features, 30, niter=1, seed=seed), atol=1e-5, rtol=0)


def test_a_split_gives_half_of_a_cluster():
    features = numbers(9, 3)
    means = means_or_halves(features, torch.tensor([0] * 8 + [2]), torch.zeros(9), 3, torch.zeros(3))
    whole, change = features[:8].mean(0), torch.tensor([1, -1, 1]) / 1024
    torch.testing.assert_close(means, torch.stack([whole * (1 - change), whole * (1 + change), features[8]]))


def test_words_are_those_of_a_mersenne_twister():
    words = Words(5489)
    first = words.peek(1)[0]
    words.drop(9_999)  # more than there are
    words = Words(5489)
    words.peek(10_000)
    words.drop(9_999)
    # The 10,000th word from this seed is prescribed by the C++ standard.
    assert (first, words.peek(1)[0]) == (3499211612, 4123659995)


def test_drawn_rows_are_a_draw_without_repeats():
    rows = torch.stack([drawn_rows(10, 3, seed) for seed in range(4000)])
    assert all(len(set(row)) == 3 for row in rows.tolist())
    assert torch.bincount(rows.flatten()).sub(1200).abs().max() < 150
    assert sorted(drawn_rows(7, 7, 0).tolist()) == list(range(7)) and drawn_rows(1, 1, 0).tolist() == [0]


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('rows', [1, 2, 37])
def test_one_cluster_is_the_mean_and_as_many_as_rows_are_the_rows(backend, rows):
    needs(backend)
    features = numbers(rows, 5)
    one = fit_kmeans(features, 1, seed=0, backend=backend)
    torch.testing.assert_close(one.centroids, features.mean(0, keepdim=True), atol=1e-6, rtol=1e-5)
    assert one.inertia == pytest.approx(features.var(0, correction=0).sum().item() * rows, abs=1e-5)
    every = fit_kmeans(features, rows, seed=0, backend=backend)
    assert torch.equal(every.centroids, features) and every.labels.tolist() == list(range(rows))
    assert every.inertia == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize('backend', BACKENDS)
def test_more_clusters_than_rows_end_in_rows_of_zeros(backend):
    needs(backend)
    features = numbers(5, 3) + 2
    found = fit_kmeans(features, 8, seed=0, backend=backend)
    assert torch.equal(found.centroids, torch.cat([features, torch.zeros(3, 3)]))
    assert found.labels.tolist() == list(range(5)) and found.sizes.tolist() == [1] * 5 + [0] * 3


@pytest.mark.parametrize('backend', BACKENDS)
def test_duplicates_share_a_cluster(backend):
    needs(backend)
    features = numbers(4, 3).repeat(10, 1)
    found = fit_kmeans(features, 10, seed=0, backend=backend)
    assert found.centroids.isfinite().all()
    assert torch.equal(found.labels, found.labels[:4].repeat(10))
    alike = fit_kmeans(torch.ones(50, 3), 4, seed=0, backend=backend)
    assert alike.centroids.sub(1).abs().max() < 0.05 and len(alike.labels.unique()) == 1


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_cluster_without_members_keeps_its_centroid_beside_another(backend):
    needs(backend)
    features = torch.eye(4).repeat(20, 1)
    found = fit_kmeans(features, 8, seed=0, backend=backend)
    assert sorted(found.sizes.tolist()) == [0] * 4 + [20] * 4
    gaps = torch.cdist(found.centroids[found.sizes == 0], torch.eye(4)).min(1).values
    assert (gaps < 0.01).all(), 'half of a cluster, and no row of zeros'
    assert not back_translate(features, found.labels, 8)[found.sizes == 0].any()


@pytest.mark.parametrize('backend', BACKENDS)
def test_threads_change_nothing(backend):
    needs(backend)
    features = numbers(20_000, 32)  # several blocks of rows
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(fit_kmeans(features, 150, seed=0, max_iter=3, backend=backend))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0].labels, found[1].labels)
    torch.testing.assert_close(found[0].centroids, found[1].centroids, atol=1e-6, rtol=0)
    if backend == 'torch':
        assert torch.equal(found[0].centroids, found[1].centroids)


def test_seeds_decide_and_repeat():
    features = numbers(200, 4)
    first, again, other = (fit_kmeans(features, 9, seed=seed, backend='torch') for seed in (2**62 + 1, 2**62 + 1, 7))
    assert torch.equal(first.centroids, again.centroids) and first.inertia == again.inertia
    assert not torch.equal(first.centroids, other.centroids)


def test_restarts_keep_the_best():
    features = numbers(200, 4)
    inertias = [fit_kmeans(features, 9, seed=0, restarts=count, backend='torch').inertia for count in (1, 4, 12)]
    assert inertias[0] >= inertias[1] >= inertias[2] and inertias[0] > inertias[2]


@pytest.mark.parametrize('backend', BACKENDS)
def test_what_is_not_finite_counts_as_zero_and_is_said(backend, caplog):
    needs(backend)
    features = numbers(60, 3)
    features[4, 1], features[9, 0], features[9, 2] = torch.nan, torch.inf, -torch.inf
    kept = features.clone()
    with caplog.at_level(logging.WARNING):
        found = fit_kmeans(features, 3, seed=0, backend=backend)
    mended = fit_kmeans(torch.where(features.isfinite(), features, 0.0), 3, seed=0, backend=backend)
    assert found.num_mended == 2 and '2 of 60 rows' in caplog.text
    assert torch.equal(found.centroids, mended.centroids) and mended.num_mended == 0
    assert torch.equal(features.nan_to_num(), kept.nan_to_num()), 'the features given stay as they are'


def test_far_from_zero_labels_are_exact():
    features, labels = blobs(300, 3, spread=0.3)
    found = fit_kmeans(features + 3000, 3, seed=0, restarts=10, backend='torch')
    assert same_partition(found.labels, labels)


def test_half_and_double_precision_are_read():
    features, labels = blobs(90, 3, spread=0.1)
    for dtype in (torch.float16, torch.float64):
        found = fit_kmeans(features.to(dtype), 3, seed=0, restarts=10)
        assert found.centroids.dtype == torch.float32 and same_partition(found.labels, labels)


def test_memory_is_bounded(monkeypatch):
    """No block of distances above the limit, whatever the numbers of rows and centres."""
    monkeypatch.setattr(lloyd_module, '_DISTANCES_PER_BLOCK', 100)
    shapes, original = [], torch.addmm

    def watched(*args, **options):
        found = original(*args, **options)
        shapes.append(found.numel())
        return found

    monkeypatch.setattr(torch, 'addmm', watched)
    features = numbers(500, 3)
    small = fit_kmeans(features, 20, seed=0, max_iter=2, backend='torch')
    assert max(shapes) <= 100 and sum(shapes) == 500 * 20 * 4
    monkeypatch.undo()
    torch.testing.assert_close(small.centroids, fit_kmeans(features, 20, seed=0, max_iter=2, backend='torch').centroids)


def test_missing_faiss_is_said_or_replaced(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'faiss', None)
    assert fit_kmeans(numbers(9, 2), 2, seed=0).backend == 'torch'
    with pytest.raises(ConfigError, match=r"clear-framework\[curate\]"):
        fit_kmeans(numbers(9, 2), 2, seed=0, backend='faiss')


@pytest.mark.parametrize(('options', 'message'), [
    (dict(k=0), 'k'), (dict(max_iter=0), 'max_iter'), (dict(restarts=0), 'restarts'), (dict(backend='gpu'), 'gpu'),
    (dict(seed=-1), 'seed')])
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        fit_kmeans(numbers(9, 2), **dict(dict(k=2, seed=0), **options))


@pytest.mark.parametrize('features', [torch.zeros(0, 3), torch.zeros(4), torch.zeros(4, 2, dtype=torch.int64)])
def test_no_rows(features):
    with pytest.raises(DataError, match='k-means takes rows'):
        fit_kmeans(features, 2, seed=0)


@pytest.mark.parametrize('rows', [1, 8193])
def test_lloyd_returns_the_labels_of_its_centres(rows):
    features = numbers(rows, 3)
    fit = lloyd(features, features[:1].repeat(2, 1) + torch.tensor([[0.], [0.1]]), 4)
    assert torch.equal(fit.labels, nearest_centre(features, fit.centres)[0])
    assert fit.inertia == pytest.approx(inertia_by_loops(features[:50], fit.centres) if rows < 50 else fit.inertia)


@pytest.mark.parametrize('k', [1, 4, 7])
def test_back_translation_is_the_mean_of_the_other_features(k):
    features, labels = numbers(30, 5), torch.from_numpy(np.random.default_rng(k).integers(-1, max(k - 1, 1), 30))
    found = back_translate(features, labels, k)
    assert found.shape == (k, 5) and found.dtype == torch.float32
    for cluster in range(k):
        members = [row for row, label in zip(features.tolist(), labels.tolist()) if label == cluster]
        expected = [sum(column) / len(members) for column in zip(*members)] if members else [0.0] * 5
        assert found[cluster].tolist() == pytest.approx(expected, abs=1e-6)
    assert k == 1 or found[-1].eq(0).all(), 'the last cluster is empty'


def test_back_translation_of_the_reference():
    generator = torch.Generator().manual_seed(240)
    features = torch.randn(12, 16, generator=generator, dtype=torch.float64).float()
    found = back_translate(features, GOLDEN_LABELS, 5)
    assert [(row.norm().item(), row[0].item()) for row in found] == [pytest.approx(pair, rel=2e-6) for pair in GOLDEN]


def test_back_translation_of_what_does_not_fit():
    features = numbers(4, 2)
    with pytest.raises(DataError, match='4 rows of features have labels of shape'):
        back_translate(features, torch.zeros(3, dtype=torch.int64), 2)
    with pytest.raises(DataError, match='0 to 2'):
        back_translate(features, torch.tensor([0, 1, 2, 0]), 2)
    features[1, 0] = torch.nan
    assert back_translate(features, torch.tensor([0, 0, 1, 1]), 2)[0].tolist() == \
        pytest.approx([features[0, 0].item() / 2, features[:2, 1].mean().item()])


def test_cluster_means_over_several_blocks():
    features, labels = numbers(20_000, 2), torch.arange(20_000) % 3
    means, counts = cluster_means(features, labels, 4)
    assert counts.tolist() == [6667, 6667, 6666, 0] and means[3].tolist() == [0, 0]
    expected = torch.stack([features[labels == label].double().mean(0) for label in range(3)])
    torch.testing.assert_close(means[:3].double(), expected, atol=1e-7, rtol=0)
