"""Distances between samples against loops and peers; p-values that are silent without a drift; where to cut."""

from itertools import combinations

import numpy as np
import pytest
from banks import digits
from scipy import linalg

from clear.core.errors import DataError
from clear.evaluation.drift import compare_buckets, drifting_classes, examples, samples, suggested_edges
from clear.evaluation.metrics.drift import change_points, compare, enough_permutations, holm, mmd2, sampling_keys
from clear.features.writing import write_bank

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def images():
    """The digits as (N, 64) features and labels."""
    features, labels = digits()
    return features.numpy(), labels.numpy()


def mmd2_by_loops(first, second):
    rows = np.concatenate([first, second])
    width = np.median([np.linalg.norm(a - b) for a, b in combinations(rows, 2)])

    def mean(pairs):
        return np.mean([np.exp(-((a - b) ** 2).sum() / (2 * width ** 2)) for a, b in pairs])

    return (mean(combinations(first, 2)) + mean(combinations(second, 2))
            - 2 * mean((a, b) for a in first for b in second))


def test_mmd_as_its_definition():
    # 15 rows are 105 pairs, an odd number: one middle value.
    first, second = RNG.normal(size=(7, 3)), RNG.normal(0.7, size=(8, 3))
    assert mmd2(first, second) == pytest.approx(mmd2_by_loops(first, second), rel=1e-6)
    assert compare(first, second).mmd2 == pytest.approx(mmd2_by_loops(first, second), rel=1e-6)


@pytest.mark.parametrize('dim', [5, 80])
def test_frechet_as_scipy_on_the_leading_components(dim):
    first, second = RNG.normal(size=(150, dim)) * np.linspace(3, 0.1, dim), RNG.normal(0.3, 1.2, size=(130, dim))
    pooled = np.concatenate([first, second])
    axes = np.linalg.svd(pooled - pooled.mean(0))[2][:64]
    one, two = first @ axes.T, second @ axes.T
    covariances = np.cov(one.T), np.cov(two.T)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert compare(first, second, permutations=1).frechet == pytest.approx(expected, rel=1e-6)


def test_neighbours_as_by_loops():
    first, second = RNG.normal(size=(20, 2)), RNG.normal(0.5, size=(31, 2))
    rows, is_first = np.concatenate([first, second]), np.arange(51) < 20
    ratios = []
    for row in range(51):
        order = [other for other in np.argsort(((rows - rows[row]) ** 2).sum(1)) if other != row][:10]
        chance = (31 if is_first[row] else 20) / 50
        ratios.append(np.mean([is_first[other] != is_first[row] for other in order]) / chance)
    assert compare(first, second, permutations=1).knn_overlap == pytest.approx(np.mean(ratios))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_enough_splits_for_holm_to_fall_below_5_percent():
    assert [enough_permutations(tests) for tests in (1, 9, 55)] == [199, 199, 1100]
    assert all(tests / (1 + enough_permutations(tests)) < 0.05 for tests in range(1, 200))


def test_silent_on_a_shuffled_stream_and_finds_a_drift(images):
    features, _ = images
    found = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(features))[:400]
        outcome = compare(features[order[:200]], features[order[200:]], seed=seed)
        found.append((outcome.mmd_p, outcome.frechet_p))
        assert 0.9 < outcome.knn_overlap < 1.1
    assert all(sum(p < 0.05 for p in column) <= 3 for column in zip(*found))
    drifted = compare(features[order[:200]], features[order[200:]] * 0.9)  # ten per cent darker
    assert drifted.mmd_p == drifted.frechet_p == 1 / 200


def test_same_rows_twice_cannot_be_compared():
    with pytest.raises(ValueError, match='median distance is 0'):
        compare(np.zeros((5, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match='1 and 5 rows'):
        compare(np.zeros((1, 2)), np.zeros((5, 2)))


def test_change_points_as_the_best_of_all_cuts():
    features = 0.3 * RNG.normal(size=(14, 2)) + np.repeat([[0, 0], [3, 0], [3, 4]], [5, 3, 6], axis=0)
    within = {cuts: sum(((part - part.mean(0)) ** 2).sum() for part in np.split(features, cuts))
              for cuts in combinations(range(1, 14), 2)}
    best = min(within, key=within.get)
    cuts, explained = change_points(features, 3)
    assert tuple(cuts) == best == (5, 8)
    assert explained == pytest.approx(1 - within[best] / ((features - features.mean(0)) ** 2).sum())
    assert change_points(features, 1) == ([], pytest.approx(0))
    with pytest.raises(ValueError, match='14 rows cannot be cut into 15'):
        change_points(features, 15)


@pytest.fixture
def stream(tmp_path, images):
    """A bank of three years; in the last, digit 3 is another one and everything is darker."""
    features, labels = images
    features, labels = features[:1500].copy(), labels[:1500]
    years = np.repeat([2010, 2011, 2012], 500)
    features[(years == 2012) & (labels == 3)] = features[labels == 8][:50][RNG.integers(
        0, 50, ((years == 2012) & (labels == 3)).sum())] + RNG.normal(0, 0.05, ((
            (years == 2012) & (labels == 3)).sum(), 64))
    times = np.array([f'{year}-01-01' for year in years], 'datetime64[s]') + np.tile(np.arange(500), 3) * 60_000
    valid = np.ones(1500, bool)
    valid[::100] = False
    return dict(features=features, labels=labels, ids=[f'i{row}' for row in range(1500)],
                buckets=[str(year - 2010) for year in years], timestamps=[
                    time.astype(object).replace(tzinfo=None) for time in times], valid=valid.tolist())


def bank_of(path, stream, rows=slice(None), **more):
    parts = {name: np.asarray(values, object)[rows].tolist() if name not in ('features', 'labels') else values[rows]
             for name, values in stream.items()}
    return write_bank(path, parts.pop('features'), parts.pop('labels'), class_names=list('0123456789'),
                      encoder='e' * 64, **parts, **more)


def test_samples_are_the_smallest_hashes_of_readable_images_whatever_the_banks(tmp_path, stream):
    whole = samples([bank_of(tmp_path / 'whole', stream)], most=100)
    parts = samples([bank_of(tmp_path / 'a', stream, slice(700, None)), bank_of(tmp_path / 'b', stream, slice(700))],
                    most=100)
    assert list(whole) == ['0', '1', '2']
    for name, sample in whole.items():
        rows = [row for row in range(1500) if stream['buckets'][row] == name and stream['valid'][row]]
        keys = dict(zip(rows, sampling_keys(stream['ids'][row] for row in rows).tolist()))
        expected = sorted(rows, key=keys.get)[:100]
        assert sample.ids.tolist() == parts[name].ids.tolist() == [f'i{row}' for row in expected]
        assert np.array_equal(sample.features, stream['features'][expected].astype(np.float32))
        assert np.array_equal(sample.features, parts[name].features)
    by_year = samples([bank_of(tmp_path / 'c', stream)], 'year', most=100)
    assert list(by_year) == ['2010', '2011', '2012'] and by_year['2010'].ids.tolist() == whole['0'].ids.tolist()
    assert '2010-Q4' in samples([bank_of(tmp_path / 'd', stream)], 'quarter')


def test_the_class_that_moves_comes_first_and_the_stream_is_cut_before_it_moves(tmp_path, stream):
    found = samples([bank_of(tmp_path / 'bank', stream)])
    classes = drifting_classes(found)
    assert classes[0].label == 3 and (classes[0].first, classes[0].last) == ('0', '2') and classes[0].p < 0.05
    assert sum(each.p < 0.05 for each in classes) == 1 and len(classes) == 10
    rows = examples(found['2'], 3)
    assert len(rows) == 4 and set(found['2'].labels[rows]) == {3}
    darker = dict(stream, features=stream['features'] * np.where(np.arange(1500) < 1000, 1, 0.7)[:, None])
    dark = samples([bank_of(tmp_path / 'dark', darker)])
    edges = suggested_edges(dark, 2)
    assert abs(edges.starts[0] / 1e6 - np.datetime64('2012-01-01', 's').astype(int)) < 40 * 86400
    pairs = compare_buckets(dark)
    assert [pair for pair, outcome in pairs.items() if outcome.mmd_p < 0.02] == [('0', '2'), ('1', '2')]


def test_banks_that_cannot_be_compared(tmp_path, stream):
    other = write_bank(tmp_path / 'other', stream['features'], stream['labels'], buckets=stream['buckets'],
                       class_names=list('0123456789'))
    with pytest.raises(DataError, match='several encoders'):
        samples([bank_of(tmp_path / 'bank', stream), other])
    bare = write_bank(tmp_path / 'bare', stream['features'], stream['labels'], class_names=list('0123456789'))
    with pytest.raises(DataError, match='--every year'):
        samples([bare])
