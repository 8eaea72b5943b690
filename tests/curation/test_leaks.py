"""Leaks by hashes and features, and accuracies with and without them, against loops."""

from collections import Counter

import numpy as np
import pytest
from photo_tiles import KINDS, photo_tiles

from clear.core.errors import DataError
from clear.curation import leaks
from clear.curation.leaks import Likeness, Side, find_leaks, knn_accuracies, knn_hits
from clear.datasets.table import ImageTable

RNG = np.random.default_rng(0)


def side(name, moments, features=None, labels=None, buckets='012', images=None):
    moments = np.array(moments)
    labels = np.full(len(moments), -1) if labels is None else np.array(labels)
    paths = np.array([f'{name}/{row}' for row in range(len(moments))], object)
    return Side(name, paths, moments, list(buckets), labels, images, features)


@pytest.mark.parametrize('order', ['any', 'same_or_later', 'later'])
def test_leaks_by_features_equal_a_loop(monkeypatch, order):
    monkeypatch.setattr(leaks, '_BLOCK', 4)
    train, test = RNG.normal(size=(11, 3)), RNG.normal(size=(9, 3))
    one = side('train', RNG.integers(0, 3, 11), train)
    two = side('test', RNG.integers(0, 3, 9), test)
    found = find_leaks(one, two, Likeness(False, 0.6), order)
    allowed = dict(any=lambda gap: True, same_or_later=lambda gap: gap >= 0, later=lambda gap: gap > 0)[order]
    listed = [[a, b] for a in range(11) for b in range(9)
              if train[a] @ test[b] / np.linalg.norm(train[a]) / np.linalg.norm(test[b]) >= 0.6
              and allowed(two.moments[b] - one.moments[a])]
    assert found.pairs.tolist() == listed and set(found.by) == {'features'}
    counts = Counter()
    for bucket in range(3):
        for row in {b for a, b in listed if one.moments[a] == bucket}:
            counts[bucket, int(two.moments[row])] += 1
    assert found.counts(one, two).tolist() == [[counts[a, b] for b in range(3)] for a in range(3)]


def knn_by_hand(train, labels, query, own=None, most=20):
    cosines = sorted(((float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)), -place, label)
                      for place, (row, label) in enumerate(zip(train, labels)) if label >= 0 and place != own),
                     reverse=True)[:most]
    votes = Counter()
    for cosine, _, label in cosines:
        votes[label] += cosine
    return max(votes, key=lambda label: (votes[label], -label))


@pytest.mark.parametrize('leave_out_own', [False, True])
def test_knn_equals_a_loop(monkeypatch, leave_out_own):
    monkeypatch.setattr(leaks, '_BLOCK', 7)
    features, labels = RNG.normal(size=(50, 4)) + 1, RNG.integers(-1, 3, 50)
    train = side('train', [0] * 50, features, labels)
    queries = features if leave_out_own else RNG.normal(size=(30, 4)) + 1
    answers = labels if leave_out_own else RNG.integers(0, 3, 30)
    test = train if leave_out_own else side('test', [0] * 30, queries, answers)
    expected = [knn_by_hand(features, labels, query, row if leave_out_own else None) == answers[row]
                for row, query in enumerate(queries)]
    assert knn_hits(train, test, leave_out_own).tolist() == expected


def test_accuracy_with_and_without_what_leaked():
    features = RNG.normal(size=(60, 8))
    labels, moments = RNG.integers(0, 3, 60), np.repeat([0, 1, 2], 20)
    features[40:45] = features[:5]  # copies of bucket 0 in bucket 2
    labels[40:45] = labels[:5]
    whole = side('all', moments, features, labels)
    found = find_leaks(whole, whole, Likeness(False, 0.9999), 'later')
    assert found.pairs.tolist() == [[row, row + 40] for row in range(5)]
    measured = {(each.through, each.bucket): each for each in knn_accuracies(whole, whole, found, 'later')}
    assert set(measured) == {('0', '1'), ('0', '2'), ('1', '2')}
    each = measured['0', '2']
    hits = [knn_by_hand(features[:20], labels[:20], features[row]) == labels[row] for row in range(40, 60)]
    assert (each.rows, each.right, each.clean_rows, each.clean_right) == (20, sum(hits), 15, sum(hits[5:]))
    assert measured['1', '2'].clean_rows == 20
    together = knn_accuracies(whole, whole, found, 'any')[0]
    assert (together.rows, together.clean_rows) == (60, 55)


def test_what_a_likeness_needs(tmp_path):
    bare = side('bank', [0], np.ones((1, 3)))
    with pytest.raises(DataError, match='bank has features alone'):
        find_leaks(bare, bare, Likeness())
    with pytest.raises(DataError, match='they are of two encoders'):
        find_leaks(bare, side('other', [0], np.ones((1, 2))), Likeness(False, 0.9))
    with pytest.raises(DataError, match='no labels'):
        knn_hits(bare, bare)


@pytest.mark.slow
def test_copies_planted_across_buckets(tmp_path):
    """Pooled recall 0.95, 0.9 for each kind, precision 0.95, on at least 300 textured tiles."""
    tiles, rng = photo_tiles(), np.random.default_rng(3)
    assert len(tiles) >= 300
    rows, planted = [], {}
    for number, tile in enumerate(tiles):
        kind = KINDS[number % len(KINDS)]
        rows.append((f'0/{number}.png', 0))
        tile.save(_made(tmp_path / rows[-1][0]))
        if number % 8 < len(KINDS):
            rows.append((f'{1 + number % 2}/{number}.png', 1 + number % 2))
            kind(tile, rng).save(_made(tmp_path / rows[-1][0]))
            planted[f'0/{number}.png', rows[-1][0]] = kind
    (tmp_path / '2' / 'broken.png').write_bytes(b'no image')
    rows.append(('2/broken.png', 2))
    images = ImageTable.from_columns(tmp_path, dict(path=[path for path, _ in rows]))
    whole = Side('tiles', np.array([path for path, _ in rows], object), np.array([moment for _, moment in rows]),
                 ['0', '1', '2'], np.full(len(rows), -1), images)
    found = find_leaks(whole, whole, Likeness(), 'later')
    pairs = {tuple(whole.paths[list(pair)]) for pair in found.pairs}
    right = pairs & set(planted)
    assert len(right) >= 0.95 * len(planted) and len(right) >= 0.95 * len(pairs)
    for kind in KINDS:
        own = {pair for pair, each in planted.items() if each is kind}
        assert len(own & right) >= 0.9 * len(own), kind
    assert found.unreadable == 2  # once as a training image, once as a test image


def _made(path):
    path.parent.mkdir(exist_ok=True)
    return path
