import sys

import numpy as np
import pytest
import torch
from banks import MemoryBank, blob_data, digit_banks, digits

from clear.core.errors import ConfigError, DataError
from clear.evaluation import KNN, nearest_neighbours, weighted_votes
from clear.evaluation.image import knn
from clear.evaluation.task import TaskData


def neighbours_by_loops(queries, base, k):
    """Stable sort of all cosines, one query at a time."""
    found = []
    for query in queries.double():
        cosines = [float(query @ row / (query.norm() * row.norm())) if row.norm() else 0.0 for row in base.double()]
        found.append(sorted(range(len(base)), key=lambda row: (-round(cosines[row], 6), row))[:k])
    return found


@pytest.mark.parametrize('rows_per_block', [3, 7, 4096])
@pytest.mark.parametrize('k', [1, 4, 25])
def test_neighbours_match_a_full_sort_with_duplicates(monkeypatch, rows_per_block, k):
    monkeypatch.setattr(knn, '_ROWS_PER_BLOCK', rows_per_block)
    monkeypatch.setattr(knn, '_QUERIES_PER_BLOCK', 4)
    # Norms are powers of two, so that every cosine is exact: ties are ties, whatever a processor's order of summation.
    kinds = torch.tensor([[1., 0, 0, 0], [0, 2, 0, 0], [1, 1, 1, 1], [2, -2, 2, 2], [-1, 1, 1, 1], [0, 0, 0, 0]])
    base = kinds[torch.randint(len(kinds), (25,), generator=torch.manual_seed(0))]
    queries = kinds[torch.randint(len(kinds) - 1, (9,), generator=torch.manual_seed(1))] * 4
    similarity, rows = nearest_neighbours(queries, base, k, backend='torch')
    assert rows.tolist() == neighbours_by_loops(queries, base, k)
    assert (similarity[:, :-1] >= similarity[:, 1:]).all()


def test_accuracy_equals_scikit_learn_with_the_same_weights():
    from sklearn.neighbors import KNeighborsClassifier

    features, labels = digits()
    train, test = slice(0, 1200), slice(1200, None)
    for k, temperature in ((20, 0.07), (5, 1.0), (7, None)):
        weights = 'uniform' if temperature is None else lambda d, t=temperature: np.exp((1 - d) / t)
        peer = KNeighborsClassifier(k, metric='cosine', algorithm='brute', weights=weights)
        peer.fit(features[train].numpy(), labels[train].numpy())
        result = KNN(k=k, temperature=temperature, backend='torch').run(None, TaskData(bank=digit_banks()))
        shares, own = peer.predict_proba(features[test].numpy()), labels[test].numpy()
        # Of equal votes the peer takes the lower class, as `score` counts it; here the true class has lost.
        is_best = (shares >= shares[np.arange(len(own)), own][:, None] - 1e-9).sum(1) == 1
        assert result.value == pytest.approx(is_best.mean(), abs=1e-12)
        assert temperature is None or result.value == pytest.approx(peer.score(features[test].numpy(), own), abs=1e-12)
        votes = weighted_votes(*votes_of(features, labels, k), 10, temperature)
        np.testing.assert_allclose((votes / votes.sum(1, keepdim=True)).numpy(),
                                   peer.predict_proba(features[test].numpy()), atol=1e-4)


def votes_of(features, labels, k):
    similarity, rows = nearest_neighbours(features[1200:], features[:1200], k, backend='torch')
    return similarity, labels[:1200][rows]


def test_votes_survive_a_tiny_temperature():
    similarity = torch.tensor([[0.9, 0.8, 0.8]])
    votes = weighted_votes(similarity, torch.tensor([[1, 0, 0]]), 2, 1e-4)
    assert votes.tolist() == [[0, 1]]
    assert weighted_votes(similarity, torch.tensor([[1, 0, 0]]), 2, None).tolist() == [[2, 1]]


@pytest.mark.parametrize('label', [0, 1])
def test_a_class_loses_against_another_of_as_many_votes(label):
    data = blob_data(4, 1, num_classes=2, dim=3)
    data.train.features[:] = torch.ones(3)
    data.test.features[:], data.test.labels[:] = torch.ones(3), label
    assert KNN(k=4).fit(data).value == 0.0
    assert KNN(k=3).fit(data).value == (1.0 if label == 0 else 0.0)  # rows 0, 1 and 2 are 0, 0 and 1


def test_several_k_are_selected_on_validation():
    data = blob_data(60, 30, spread=5.0)
    result = KNN(k=[1, 5, 15], temperature=[0.07, None]).fit(data)
    table = result.extras['candidates']
    assert len(table) == 6
    best = max(entry['val_top1'] for entry in table)
    first = next(entry for entry in table if entry['val_top1'] == best)
    assert result.extras['selected'] == dict(k=first['k'], temperature=first['temperature'])
    assert result.value == KNN(**result.extras['selected']).fit(data).value
    assert result.extras['n_train'] == 60


def test_faiss_and_torch_agree():
    pytest.importorskip('faiss', reason="faiss is not installed (extra 'curate')")
    features, _ = digits()
    for k in (1, 20):
        by_torch = nearest_neighbours(features[1200:], features[:1200], k, backend='torch')
        by_faiss = nearest_neighbours(features[1200:], features[:1200], k, backend='faiss')
        torch.testing.assert_close(by_torch[0], by_faiss[0], rtol=0, atol=1e-5)
        assert (by_torch[1] == by_faiss[1]).double().mean() > 0.999


def test_missing_faiss_is_said_or_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faiss', None)
    features, _ = digits()
    with pytest.raises(ConfigError, match='pip install'):
        nearest_neighbours(features[:2], features, 3, backend='faiss')
    found = nearest_neighbours(features[:2], features, 3, backend='auto')
    assert found[1][:, 0].tolist() == [0, 1]


def test_wrong_arguments():
    for wrong, message in ((dict(k=0), 'k is 0'), (dict(k=[]), 'k is'), (dict(temperature=0.0), 'temperature'),
                           (dict(temperature=[0.1, -1.0]), 'temperature'), (dict(backend='annoy'), "'annoy'")):
        with pytest.raises(ConfigError, match=message):
            KNN(**wrong)
    with pytest.raises(DataError, match='61 neighbours were asked for, but there are 60'):
        KNN(k=61).fit(blob_data())


# What is no answer


def shuffled_classes(labels, num_classes, seed):
    order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    return order[labels]


@pytest.mark.parametrize('k', [1, 3, 20])
def test_top5_counts_classes_with_a_vote_and_knows_no_order_of_classes(k):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(240, 8, generator=generator), torch.arange(240) % 10
    train, test = slice(0, 200), slice(200, None)

    def metrics(numbers):
        return KNN(k=k, backend='torch').run(None, TaskData(bank=dict(
            train=MemoryBank(features[train], numbers[train]),
            test=MemoryBank(features[test], numbers[test])))).extras['metrics']

    found = metrics(labels)
    _, rows = nearest_neighbours(features[test], features[train], k, backend='torch')
    has_vote = [label in votes for label, votes in zip(labels[test].tolist(), labels[train][rows].tolist())]
    assert found['top1'] <= found['top5'] <= np.mean(has_vote) + 1e-12
    if k <= 5:  # no more than five classes have a vote: the first five are all of them
        assert found['top5'] == pytest.approx(np.mean(has_vote))
    if k == 1:
        assert found['top5'] == found['top1']
    for seed in (1, 2):
        assert metrics(shuffled_classes(labels, 10, seed))['top5'] == pytest.approx(found['top5'])


def test_features_that_are_whole_numbers_are_refused():
    whole = torch.arange(12).reshape(4, 3)
    with pytest.raises(DataError, match='queries are torch.int64'):
        nearest_neighbours(whole, whole.float(), 1)
    with pytest.raises(DataError, match='training rows are torch.int64'):
        nearest_neighbours(whole.float(), whole, 1)


def test_one_class_is_said(caplog):
    rows = torch.randn(8, 3)
    bank = MemoryBank(rows, torch.zeros(8, dtype=torch.int64), ['cat'])
    assert KNN(k=1).run(None, TaskData(bank=dict(train=bank, test=bank))).value == 1.0
    assert "of one class, 'cat'" in caplog.text


def test_the_defaults_are_the_usual_protocol():
    """k=20, T=0.07: exp(s / T) of each neighbour, added up per class, row by row; fewer than 100 test rows are fine."""
    for num_test in (150, 7):
        data = blob_data(200, num_test, num_classes=5, dim=16, spread=6.0)
        hits = 0
        for query, label in zip(data.test.features, data.test.labels):
            cosines = torch.cosine_similarity(data.train.features, query[None])
            nearest = cosines.argsort(descending=True)[:20]
            votes = [sum(float(torch.exp(cosines[row] / 0.07)) for row in nearest if data.train.labels[row] == c)
                     for c in range(5)]
            hits += votes.index(max(votes)) == label
        assert KNN(backend='torch').fit(data).value == pytest.approx(hits / num_test)
    with pytest.raises(DataError, match='20 neighbours were asked for, but there are 12'):
        KNN().fit(blob_data(12, 5))
