"""The exact search of retrieval against sorting everything, and against faiss."""

import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError, DataError
from clear.curation.retrieval import search
from clear.curation.retrieval.search import row_scores, top_scores
from clear.features.bank import FeatureBank
from clear.features.writing import write_bank


def stored(path, features, ids, dtype='float32', valid=None):
    """A bank; rows that `write_bank` refuses (NaN, infinity) are put into its file."""
    features = np.asarray(features, np.float32)
    bank = write_bank(path, np.nan_to_num(features, posinf=0, neginf=0), np.full(len(features), -1), ids=map(str, ids),
                      class_names=[], dtype=dtype, valid=valid)
    if not np.isfinite(features).all():
        np.save(path / 'features.npy', features.astype(dtype))
        bank = FeatureBank.open(path)
    return bank


def sorted_all(features, ids, queries, q, sign=1):
    """Ids and scores by sorting everything, in float64."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = []
    for query in queries:
        scores = unit @ (query / np.linalg.norm(query))
        order = sorted(range(len(ids)), key=lambda row: (-sign * scores[row].round(12), ids[row]))[:q]
        found.append(([ids[row] for row in order], scores[order]))
    return found


@pytest.fixture(params=[True, False], ids=['products are exact', 'products are near'])
def products(request, monkeypatch):
    """Both paths, whichever this machine takes."""
    made = search._Cosines.__init__

    def init(self, *args):
        made(self, *args)
        self.exact = self.exact and request.param

    monkeypatch.setattr(search._Cosines, '__init__', init)


def exact_vectors(rng, count, dim=16):
    """Of +-1, so that cosines are multiples of 1/8, exact, and mostly tied."""
    return rng.choice([-1.0, 1.0], size=(count, dim))


@pytest.mark.usefixtures('products')
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('count, q', [(1, 1), (5, 9), (3000, 7), (5000, 2000)])
def test_both_ends_equal_a_full_sort_with_ties_by_id(tmp_path, dtype, count, q):
    rng = np.random.default_rng(count)
    features, queries = exact_vectors(rng, count), exact_vectors(rng, 3)
    ids = rng.permutation(10 * count)[:count] - 5 * count  # also negative
    cut = count // 3
    banks = [stored(tmp_path / str(place), features[rows], ids[rows], dtype)
             for place, rows in enumerate((slice(0, cut), slice(cut, None))) if len(features[rows])]
    found = top_scores(banks, queries, q, both=True)
    for hits, sign in ((found.highest, 1), (found.lowest, -1)):
        for place, (expected, scores) in enumerate(sorted_all(features, ids, queries, q, sign)):
            assert hits.ids[place].tolist() == expected
            assert hits.scores[place] == pytest.approx(scores, abs=1e-6)
            assert (ids[hits.rows[place]] == hits.ids[place]).all()
    assert found.counts == dict(searched=count, unreadable=0, zero=0, not_finite=0)


@pytest.mark.usefixtures('products')
def test_close_scores_come_in_the_order_of_their_exact_values(tmp_path):
    rng = np.random.default_rng(0)
    features, queries = rng.normal(size=(4000, 48)).astype(np.float32), rng.normal(size=(5, 48))
    hits = top_scores([stored(tmp_path / 'b', features, range(4000))], queries, 100).highest
    for place, (_, scores) in enumerate(sorted_all(features.astype(float), list(range(4000)), queries, 100)):
        assert hits.scores[place] == pytest.approx(scores, abs=3e-7)
        assert (np.diff(hits.scores[place]) <= 0).all()


@pytest.mark.usefixtures('products')
def test_copies_of_a_vector_tie_wherever_they_lie(tmp_path):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2500, 37)).astype(np.float32)
    copies = rng.permutation(2500)[:700]
    features[copies] = features[copies[0]]
    ids = rng.permutation(2500)
    query = features[copies[0]] + 0.1 * rng.normal(size=37)
    for cut in (1, 1000, 2047):
        banks = [stored(tmp_path / f'{cut}-{place}', features[rows], ids[rows])
                 for place, rows in enumerate((slice(0, cut), slice(cut, None)))]
        hits = top_scores(banks, query[None], 300).highest
        assert hits.ids[0].tolist() == sorted(ids[copies].tolist())[:300]
        assert len(set(hits.scores[0].tolist())) == 1


@pytest.mark.usefixtures('products')
def test_memory_is_bounded_when_every_row_ties(tmp_path, monkeypatch):
    bank = stored(tmp_path / 'b', np.ones((20_000, 4)), np.arange(20_000)[::-1])
    longest = []
    settle = search._Best.settle
    monkeypatch.setattr(search._Best, 'settle', lambda self: (settle(self), longest.append(len(self.rows[0]))))
    hits = top_scores([bank], np.ones((1, 4)), 5).highest
    assert hits.ids[0].tolist() == [0, 1, 2, 3, 4]
    assert max(longest) <= 2 * 5 + search.BLOCK


@pytest.mark.usefixtures('products')
@pytest.mark.parametrize('case', ['random', 'the sample is best', 'the sample is worst', 'masked'])
def test_guessed_floors_lose_nothing(tmp_path, monkeypatch, case):
    """A guess that is too high, because the rows of its sample are the best, is taken back."""
    monkeypatch.setattr(search, '_SAMPLE', 64)
    rng = np.random.default_rng(5)
    features, query = exact_vectors(rng, 6400), np.ones(16)
    if case.startswith('the sample'):
        features[::100] = 1 if case.endswith('best') else -1
    ids = rng.permutation(6400)
    mask = rng.random(6400) < 0.5 if case == 'masked' else np.ones(6400, bool)
    banks = [stored(tmp_path / str(place), features[rows], ids[rows])
             for place, rows in enumerate((slice(0, 3000), slice(3000, None)))]
    found = top_scores(banks, query[None], 90, both=True, masks=[mask[:3000], mask[3000:]])
    for hits, sign in ((found.highest, 1), (found.lowest, -1)):
        (expected, _), = sorted_all(features[mask], ids[mask].tolist(), query[None], 90, sign)
        assert hits.ids[0].tolist() == expected
    assert found.counts['searched'] == mask.sum()


def test_growing_scores_keep_the_last_rows(tmp_path):
    angles = np.linspace(1.5, 0.1, 9000)  # every row beats all before it
    bank = stored(tmp_path / 'b', np.stack([np.cos(angles), np.sin(angles)], 1), range(9000))
    found = top_scores([bank], np.array([[1.0, 0.0]]), 50, both=True)
    assert found.highest.ids[0].tolist() == list(range(8999, 8949, -1))
    assert found.lowest.ids[0].tolist() == list(range(50))


@pytest.mark.usefixtures('products')
@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_rows_without_a_direction_are_left_out_and_counted(tmp_path, dtype):
    features = np.ones((8, 4))
    features[1] = 0
    features[2, 1] = np.nan
    features[3, 2] = np.inf
    features[4, 0], features[4, 1] = np.inf, -np.inf
    features[5] = -1
    valid = [True] * 7 + [False]
    found = top_scores([stored(tmp_path / 'b', features, range(8), dtype, valid)], np.ones((1, 4)), 8, both=True)
    assert found.highest.ids[0].tolist() == [0, 6, 5]
    assert found.lowest.ids[0].tolist() == [5, 0, 6]
    assert found.highest.scores[0].tolist() == [1, 1, -1]
    assert found.counts == dict(searched=3, unreadable=1, zero=1, not_finite=3)


def test_a_mask_leaves_rows_out(tmp_path):
    bank = stored(tmp_path / 'b', np.eye(4), [7, 8, 9, 10])
    mask = np.array([False, True, True, False])
    found = top_scores([bank], np.array([[1.0, 0, 0, 0]]), 9, masks=[mask])
    assert found.highest.ids[0].tolist() == [8, 9]
    assert found.counts['searched'] == 2


def test_ids_that_are_text_are_ordered_as_text(tmp_path):
    bank = stored(tmp_path / 'b', np.ones((3, 2)), ['b/10', 'b/9', 'a'])
    numbers = stored(tmp_path / 'n', np.ones((2, 2)), [9, 10])
    assert top_scores([bank], np.ones((1, 2)), 3).highest.ids[0].tolist() == ['a', 'b/10', 'b/9']
    assert top_scores([numbers, bank], np.ones((1, 2)), 5).highest.ids[0].tolist() == ['10', '9', 'a', 'b/10', 'b/9']


@pytest.mark.usefixtures('products')
def test_scores_of_single_rows_are_those_of_the_search(tmp_path):
    rng = np.random.default_rng(2)
    banks = [stored(tmp_path / str(place), rng.normal(size=(50, 6)), range(50 * place, 50 * place + 50))
             for place in range(2)]
    query = rng.normal(size=6)
    hits = top_scores(banks, query[None], 100).highest
    assert row_scores(banks, hits.rows[0], query[None])[0].tolist() == hits.scores[0].tolist()


@pytest.mark.usefixtures('products')
def test_the_score_of_a_group_is_its_highest_at_both_ends(tmp_path):
    rng = np.random.default_rng(4)
    features, queries = exact_vectors(rng, 3000), exact_vectors(rng, 6)
    ids = rng.permutation(3000)
    cosines = features @ queries.T / 16
    by_group = np.stack([cosines[:, :3].max(1), cosines[:, 3], cosines[:, 4:].max(1)])
    found = top_scores([stored(tmp_path / 'b', features, ids)], queries, 40, both=True, groups=[3, 1, 2])
    for hits, sign in ((found.highest, 1), (found.lowest, -1)):
        for place, scores in enumerate(by_group):
            order = sorted(range(3000), key=lambda row: (-sign * scores[row], ids[row]))[:40]
            assert hits.ids[place].tolist() == ids[order].tolist()
            assert hits.scores[place].tolist() == scores[order].tolist()


@pytest.mark.parametrize('queries, message', [
    (np.ones((1, 3)), 'holds 4 dimensions, the queries have 3'), (np.zeros((2, 4)), 'query 0 is zero'),
    (np.array([[1, 1, 1, 1], [1, np.nan, 0, 0]]), 'query 1 is zero or not finite'),
    (np.ones(4), 'expected \\(P, D\\)')])
def test_queries_that_cannot_be_are_refused(tmp_path, queries, message):
    with pytest.raises(DataError, match=message):
        top_scores([stored(tmp_path / 'b', np.eye(4), range(4))], queries, 1)


def test_q_below_1_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='q is 0'):
        top_scores([stored(tmp_path / 'b', np.eye(4), range(4))], np.ones((1, 4)), 0)


class TestAgainstFaiss:
    """Rows C10, C20 and C21 of what libraries do with valid vectors."""

    def test_the_same_rows_as_a_flat_index(self, tmp_path):
        faiss = pytest.importorskip('faiss')
        rng = np.random.default_rng(3)
        features = rng.normal(size=(6000, 32)).astype(np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        queries = rng.normal(size=(4, 32)).astype(np.float32)
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        index = faiss.IndexFlatIP(32)
        index.add(features)
        scores, rows = index.search(queries, 500)
        hits = top_scores([stored(tmp_path / 'b', features, range(6000))], queries, 500).highest
        assert hits.scores == pytest.approx(scores, abs=1e-6)
        assert all(len(set(a) ^ set(b)) <= 2 for a, b in zip(hits.ids.tolist(), rows.tolist()))

    def test_equal_vectors_come_by_id_where_faiss_turns_them_round(self, tmp_path):
        faiss = pytest.importorskip('faiss')
        index = faiss.IndexFlatIP(2)
        index.add(np.ones((20, 2), np.float32))
        assert index.search(np.ones((1, 2), np.float32), 5)[1][0].tolist() != [0, 1, 2, 3, 4]
        hits = top_scores([stored(tmp_path / 'b', np.ones((20, 2)), range(20))], np.ones((1, 2)), 5).highest
        assert hits.ids[0].tolist() == [0, 1, 2, 3, 4]

    def test_many_queries_are_as_exact_as_one(self, tmp_path):
        """faiss takes another path from queries * D >= 128,000 on, where a copy and its original swap."""
        rng = np.random.default_rng(0)
        features = rng.standard_normal((1000, 512)).astype(np.float32)
        features[500:510] = features[:10]
        hits = top_scores([stored(tmp_path / 'b', features, range(1000))], features[:300], 2).highest
        assert hits.ids[:10].tolist() == [[row, row + 500] for row in range(10)]
        assert (hits.scores[:10, 0] == hits.scores[:10, 1]).all()
        assert hits.scores[:, 0] == pytest.approx(1, abs=5e-7)

    def test_longer_vectors_are_not_nearer(self, tmp_path):
        """By inner product 10 * e0 beats e0, in 8 bits usearch says otherwise; cosines have no length."""
        bank = stored(tmp_path / 'b', [[1, 0, 0, 0], [10, 0, 0, 0], [5, 5, 0, 0]], range(3))
        hits = top_scores([bank], np.array([[1.0, 0, 0, 0]]), 3).highest
        assert hits.ids[0].tolist() == [0, 1, 2]
        assert hits.scores[0] == pytest.approx([1, 1, 0.5 ** 0.5])

    def test_a_zero_vector_is_no_neighbour_of_anything(self, tmp_path):
        """DuckDB 2 says NaN and sorts it to the top, usearch a distance of 0."""
        bank = stored(tmp_path / 'b', [[0, 0, 0], [1, 0, 0], [0.6, 0.8, 0]], range(3))
        assert top_scores([bank], torch.tensor([[1.0, 0, 0]]), 3).highest.ids[0].tolist() == [1, 2]
