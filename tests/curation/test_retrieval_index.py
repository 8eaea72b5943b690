"""An index in place of the exact search: what it finds is scored exactly, and counted."""

import numpy as np
import pytest
from retrieval_runs import DIM, PROMPTS, TEXT, features_stage, random_buckets, register_text_encoder, run

from clear.core.errors import ConfigError, DataError
from clear.curation.retrieval.index import ApproximateSearch
from clear.curation.retrieval.stage import Retrieval
from clear.features.writing import write_bank
from clear.registry import MODELS

pytest.importorskip('faiss')


@pytest.fixture(scope='module', autouse=True)
def text_encoder():
    register_text_encoder()
    yield
    MODELS.module_dict.pop('SignTextEncoder')


@pytest.mark.parametrize('factory', ['Flat', 'IVF4,Flat'])
def test_with_every_list_it_is_the_exact_search(tmp_path, factory):
    buckets = random_buckets(0, (300, 280))
    features = features_stage(tmp_path, buckets, 120)
    arguments = dict(prompts=dict(a=['laptop', 'camera'], b='bus'), k=6, q=300, negatives=['dress'])
    exact = run(tmp_path, features, 'exact', **arguments)
    made = run(tmp_path, features, 'index', index=dict(factory=factory, nprobe=4), **arguments)
    for name, table in exact.tables.items():
        assert made.tables[name].equals(table)
    for counts, bucket in zip(made.counts, buckets.values()):
        assert counts['recall_found'] == counts['recall_asked'] == 2 * len(bucket[0])


def test_recall_is_that_of_a_full_sort(tmp_path):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2000, DIM)).astype(np.float32)
    bank = write_bank(tmp_path / 'bank', vectors, np.full(2000, -1), class_names=[])
    queries = [rng.normal(size=(1, DIM)).astype(np.float32) for _ in range(3)]
    (found, lowest), counts = ApproximateSearch('IVF16,Flat', 2, 3).candidates([bank], queries, 50, (1, -1))
    hits = 0
    for place, query in enumerate(queries):
        cosines = vectors @ query[0] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
        own = found.take(found.classes == place)
        assert own.scores == pytest.approx(cosines[own.rows], abs=1e-6) and (np.diff(own.scores) <= 0).all()
        hits += len(set(np.argsort(-cosines)[:50]) & set(own.rows.tolist()))
        least = lowest.take(lowest.classes == place)
        assert least.scores == pytest.approx(-cosines[least.rows], abs=1e-6)
    assert counts['recall_asked'] == 150 and counts['recall_found'] == hits < 150


def test_rows_without_a_direction_are_left_out(tmp_path):
    vectors = np.ones((6, 4), np.float32)
    vectors[2] = 0
    bank = write_bank(tmp_path / 'bank', vectors, np.full(6, -1), class_names=[], valid=[True] * 5 + [False])
    (found,), counts = ApproximateSearch('Flat').candidates([bank], [np.ones((1, 4), np.float32)], 9, (1,))
    assert found.ids.tolist() == [0, 1, 3, 4] and counts['searched'] == 4 and counts['left_out'] == 2


def test_fewer_rows_than_lists(tmp_path):
    with pytest.raises(DataError, match='index IVF64,Flat needs 64 rows, the bucket has 20'):
        run(tmp_path, features_stage(tmp_path, random_buckets(0, (20,))), prompts=PROMPTS, k=1, q=9,
            index=dict(factory='IVF64,Flat'))


@pytest.mark.parametrize('index, message', [
    (dict(factory='IVF'), "index.factory is 'IVF', of which faiss makes no index"), ('Flat', 'expected a dict'),
    (dict(nprobes=3), "no key 'nprobes'"), (dict(nprobe=0), 'nprobe is 0')])
def test_refused(index, message):
    with pytest.raises(ConfigError, match=message):
        Retrieval(PROMPTS, TEXT, k=1, q=1, index=index)
