"""Triplets: by hand, sentence-transformers on the same texts, ties, and odd tables."""

import pyarrow
import pytest
import torch
from pyarrow import parquet
from text_files import Peer, WordBag, sentences, write

from clear.core.errors import ConfigError, DataError
from clear.evaluation.task import TaskData
from clear.evaluation.text.triplets import Triplets

COLUMNS = ('Sentence1', 'Sentence2', 'Sentence3')


def table(path, rows, names=COLUMNS):
    return str(write(path, [','.join(names), *(','.join(f'"{cell}"' for cell in row) for row in rows)]))


def test_two_of_three_by_hand(tmp_path):
    rows = [('w1 w2, "" w3', 'w1 w2 w3', 'w4'), ('w5 w6', 'w5', 'w7 w8'), ('w1', 'w9 w8', 'w1 w1')]
    result = Triplets(path=table(tmp_path / 'test.csv', rows)).run(WordBag(), TaskData())
    assert result.metric == 'accuracy_cosine' and result.value == pytest.approx(2 / 3)
    assert (result.extras['n_test'], result.extras['n_texts'], result.extras['n_truncated']) == (3, 9, 0)


def test_equal_to_sentence_transformers():
    library = pytest.importorskip('sentence_transformers.evaluation', reason='the peer of extra [align]')
    texts = [sentences(60, seed=seed) for seed in range(3)]
    encoder = WordBag()
    peer = library.TripletEvaluator(*texts, write_csv=False,
                                    similarity_fn_names=['cosine', 'dot', 'manhattan', 'euclidean'])
    expected = peer(Peer(encoder))
    found = Triplets.measure(*map(encoder.encode_text, texts))
    kinds = ('cosine', 'dot', 'manhattan', 'euclidean')
    assert {f'accuracy_{kind}': expected[f'{kind}_accuracy'] for kind in kinds} == pytest.approx(
        {f'accuracy_{kind}': found[f'accuracy_{kind}'] for kind in kinds})
    assert found['accuracy_max'] == max(found[f'accuracy_{kind}'] for kind in kinds if kind != 'dot')


def test_equal_is_wrong():
    same = torch.ones(5, 3)
    assert set(Triplets.measure(same, same, same).values()) == {0.0}
    assert set(Triplets.measure(torch.zeros(5, 3), same, same).values()) == {0.0}


def test_parts_and_file_kinds_make_no_difference(tmp_path, monkeypatch):
    rows = list(zip(*(sentences(30, seed=seed) for seed in range(3))))
    whole = Triplets(path=table(tmp_path / 'test.csv', rows)).run(WordBag(), TaskData())
    monkeypatch.setattr('clear.evaluation.text.triplets._ROWS', 7)
    parquet.write_table(pyarrow.table(dict(zip('apn', zip(*rows)))), tmp_path / 'test.parquet')
    task = Triplets(path=str(tmp_path / 'test.parquet'), columns=['a', 'p', 'n'], mode='max')
    parts = task.run(WordBag(), TaskData())
    assert parts.extras['metrics'] == whole.extras['metrics']
    assert parts.metric == 'accuracy_max' and parts.value == whole.extras['metrics']['accuracy_max']


@pytest.mark.parametrize('options', [dict(columns=['a', 'b']), dict(columns=['a', 'a', 'b']), dict(columns='abc'),
                                     dict(mode='dot'), dict(path='')])
def test_refused_arguments(options):
    with pytest.raises(ConfigError):
        Triplets(**{'path': 'x.csv', **options})


def test_refused_tables(tmp_path):
    for path, message in ((table(tmp_path / 'a.csv', [('a', 'b', 'c')], ('Sentence1', 'Sentence2', 'Negative')),
                           "no column 'Sentence3'"), (table(tmp_path / 'b.csv', []), 'has no rows'),
                          (str(tmp_path / 'c.csv'), 'does not exist')):
        with pytest.raises(DataError, match=message):
            Triplets(path=path).run(WordBag(), TaskData())
