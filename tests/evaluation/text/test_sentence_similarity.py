"""STS: recorded values, scipy and sentence-transformers on the same pairs, the files' layouts, and odd ones."""

import gzip

import numpy as np
import pytest
import torch
from scipy import stats
from text_files import Peer, WordBag, sentences, write, write_pairs, write_year

from clear.core.errors import ConfigError, DataError
from clear.evaluation.metrics.correlation import mean_ranks, pearson, spearman
from clear.evaluation.task import TaskData
from clear.evaluation.text.sentence_similarity import SentenceSimilarity
from clear.evaluation.text.similarities import pair_similarities
from clear.evaluation.text.sts_files import YEARS

# What the reference recorded: sentences (digits are words), scores, and the correlations of each sub-set.
GOLDEN = {
    'FNWN': ('4633-7778 8764-0707 6358-8750 0286-4733 8301-0067 7307-7705', '0.42 2.74 - 1.41 4.60 2.17',
             0.5767523130423697, 0.49999999999999994),
    'headlines': ('5123-2257 3034-5304 8672-7386 6565-7154 4062-6824 1615-1686 5754-6815 5837-7475 6205-3057 1840-2076 '
                  '2510-0115', '4.55 4.81 - 0.82 1.96 4.72 1.72 3.53 2.31 1.93 2.64',
                  0.6450707938592763, 0.7212121212121211),
    'OnWN': ('7102-7008 2055-0084 5140-7203 8371-0146 1010-1841 6852-4741 2852-6257 7556-0646',
             '1.44 3.36 - 3.28 0.73 4.87 4.78 2.12', -0.44174193824765123, -0.6071428571428572)}
AGGREGATES = dict(all=(0.30025020517918266, 0.2625635234330887), mean=(0.26002705621799826, 0.2046897546897546),
                  wmean=(0.283739815275957, 0.2482782369146005))


@pytest.fixture
def golden(tmp_path):
    """The recorded sub-sets as SentEval's STS13, and their word vectors."""
    folder = tmp_path / 'STS' / 'STS13-en-test'
    for name, (pairs, scores, _, _) in GOLDEN.items():
        write(folder / f'STS.input.{name}.txt', ['\t'.join(' '.join(f'w{word}' for word in side)
                                                           for side in pair.split('-')) for pair in pairs.split()])
        write(folder / f'STS.gs.{name}.txt', [score.strip('-') for score in scores.split()])
    vectors = {f'w{word}': torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(6000 + word))
               for word in range(9)}
    return tmp_path, WordBag(vectors=vectors)


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_recorded_values(golden, aggregate):
    root, encoder = golden
    result = SentenceSimilarity(dataset='sts13', root=str(root), aggregate=aggregate).run(encoder, TaskData())
    expected = AGGREGATES[aggregate]
    assert result.metric == 'spearman_cosine' and result.value == pytest.approx(expected[1], abs=1e-12)
    assert result.extras['metrics']['pearson_cosine'] == pytest.approx(expected[0], abs=1e-6)
    assert (result.extras['n_test'], result.extras['skipped']) == (22, 3)
    assert {name: each['spearman_cosine'] for name, each in result.extras['subsets'].items()} == pytest.approx(
        {name: values[3] for name, values in GOLDEN.items()}, abs=1e-12)


def test_the_four_similarities_are_those_of_sentence_transformers():
    library = pytest.importorskip('sentence_transformers.evaluation', reason='the peer of extra [align]')
    first, second, scores = sentences(40, seed=1), sentences(40, seed=2), np.random.default_rng(0).random(40)
    encoder = WordBag()
    peer = library.EmbeddingSimilarityEvaluator(first, second, scores.tolist(), write_csv=False,
                                                similarity_fn_names=['cosine', 'manhattan', 'euclidean', 'dot'])
    expected = peer(Peer(encoder))
    found = SentenceSimilarity.measure(encoder.encode_text(first), encoder.encode_text(second), torch.tensor(scores))
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert len(expected) == 10 == len(found)


@pytest.mark.parametrize('values', [[1, 2, 2, 3, 5, 2], [0.5] * 2 + [0.1] * 3 + [9], [3, 1]])
def test_correlations_are_those_of_scipy_with_ties(values):
    first = torch.tensor(values, dtype=torch.float64)
    second = torch.tensor([0.3, 0.1, 0.3, 0.9, 0.2, 0.2][:len(values)], dtype=torch.float64)
    assert mean_ranks(first).tolist() == stats.rankdata(first).tolist()
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second)[0], abs=1e-12)
    assert pearson(first, second) == pytest.approx(stats.pearsonr(first, second)[0], abs=1e-12)


def test_a_constant_side_orders_nothing_where_scipy_has_no_number():
    with pytest.warns(stats.ConstantInputWarning):
        assert np.isnan(stats.spearmanr([0.1] * 3, [1, 2, 3])[0])
    constant = torch.full((3,), 0.1, dtype=torch.float64)
    assert spearman(constant, torch.arange(3.0)) == pearson(constant, torch.arange(3.0)) == 0
    # Near-equal numbers are not equal: their squares would underflow.
    assert pearson(torch.tensor([0.0, 1e-170, 2e-170], dtype=torch.float64), torch.arange(3.0)) == pytest.approx(1)


@pytest.mark.parametrize('first, second', [([1.0], [2.0]), ([1.0, 2.0], [1.0]), ([1.0, float('nan')], [1.0, 2.0])])
def test_correlations_refuse_what_has_none(first, second):
    with pytest.raises(ValueError, match='correlation is of'):
        spearman(torch.tensor(first), torch.tensor(second))


def test_zero_vectors_and_equal_vectors():
    first = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.1, 0.7], [0.3, 0.3]])
    second = torch.tensor([[0.0, 0.0], [1.0, 2.0], [0.1, 0.7], [0.3, 0.3]])
    assert pair_similarities(first, second)['cosine'].tolist() == [0, 0, 1, 1]


def test_a_zero_vector_is_counted(tmp_path):
    class SomeZeros(WordBag):
        def encode_text(self, texts):
            return torch.stack([super(SomeZeros, self).encode_text([text])[0] * (text != '.') for text in texts])

    write(tmp_path / 'pairs.tsv', [
        'score\tsentence1\tsentence2', '1.0\tw1 w2\t ', '2.0\tw1\tw1', '\tw1\tw2', '3\tw2\tw2'])
    result = SentenceSimilarity(path=str(tmp_path / 'pairs.tsv')).run(SomeZeros(), TaskData())
    assert (result.extras['zero_vectors'], result.extras['skipped'], result.extras['n_test']) == (1, 1, 3)
    assert result.value == pytest.approx(stats.spearmanr([1, 2, 3], [0, 1, 1])[0])


@pytest.mark.parametrize('name', ['packed', 'sts-b', 'sick-r'])
@pytest.mark.parametrize('split', ['dev', 'test'])
def test_layouts_with_splits(tmp_path, name, split):
    first, second, scores = write_pairs(tmp_path, name, split)
    encoder = WordBag()
    result = SentenceSimilarity(dataset='sts-b' if name == 'packed' else name, root=str(tmp_path), split=split).run(
        encoder, TaskData())
    cosine = torch.nn.functional.cosine_similarity(encoder.encode_text(first), encoder.encode_text(second))
    assert result.value == pytest.approx(stats.spearmanr(cosine, scores)[0], abs=1e-6)
    assert result.extras['n_test'] == 20 and result.extras['n_truncated'] == 0


def test_every_year_has_its_sub_sets_and_several_sets_their_average(tmp_path):
    written = {name: write_year(tmp_path, name[3:], parts, seed=10 * place)
               for place, (name, parts) in enumerate(YEARS.items())}
    write_pairs(tmp_path, 'packed')
    names = [*YEARS, 'sts-b']
    result = SentenceSimilarity(dataset=names, root=str(tmp_path)).run(WordBag(), TaskData())
    alone = [SentenceSimilarity(dataset=name, root=str(tmp_path)).run(WordBag(), TaskData()).value for name in names]
    assert [result.extras['metrics'][name] for name in names] == pytest.approx(alone, abs=1e-12)
    assert result.metric == 'average' and result.value == pytest.approx(np.mean(alone))
    rows = written['sts15'].values()
    assert alone[3] == pytest.approx(SentenceSimilarity.measure(
        *(WordBag().encode_text([text for row in rows for text in row[place]]) for place in (0, 1)),
        torch.tensor([score for row in rows for score in row[2]]))['spearman_cosine'], abs=1e-6)
    assert result.extras['n_test'] == 24 * 11 + 20


def test_the_best_similarity_as_earlier_versions_reported_it(golden):
    root, encoder = golden
    result = SentenceSimilarity(dataset='sts13', root=str(root), mode='max').run(encoder, TaskData())
    metrics = result.extras['metrics']
    assert result.metric == 'spearman_max'
    assert result.value == max(metrics[f'spearman_{kind}'] for kind in ('cosine', 'manhattan', 'euclidean', 'dot'))


def test_quotes_and_odd_ends_of_lines_are_text(tmp_path):
    """A quote does not join lines, and U+0085 or U+2028, at which str.splitlines() ends one, does not divide them."""
    path = write(tmp_path / 'pairs.tsv', ['1.0\t"w1 w2\tw1', '2.0\tw3\x85w4\u2028w5\tw3', '3.0\tw6"\tw6'])
    result = SentenceSimilarity(path=str(path)).run(WordBag(), TaskData())
    assert result.extras['n_test'] == 3


def test_long_texts_are_counted(tmp_path, caplog):
    path = write(tmp_path / 'pairs.tsv', [f'1.0\t{" ".join(["w1"] * 9)}\tw2', '2.0\tw3\tw3'])
    caplog.set_level('WARNING', 'clear')
    result = SentenceSimilarity(path=str(path)).run(WordBag(), TaskData())
    assert (result.extras['n_texts'], result.extras['n_truncated']) == (3, 1)
    assert '1 of 3 texts are longer than the tower reads' in caplog.text


def test_the_fingerprint_follows_content_alone(tmp_path):
    one = write(tmp_path / 'a' / 'pairs.tsv', ['1.0\tw1\tw2', '2\tw1\tw1'])
    two = write(tmp_path / 'b' / 'pairs.tsv', ['1.0\tw1\tw2', '2\tw1\tw1'])
    marks = [SentenceSimilarity(path=str(path)).files_fingerprint() for path in (one, two)]
    write(two, ['1.0\tw1\tw2', '2\tw1\tw3'])
    assert marks[0] == marks[1] != SentenceSimilarity(path=str(two)).files_fingerprint()


@pytest.mark.parametrize('options, message', [
    (dict(), 'give dataset='), (dict(dataset='sts-b'), 'give dataset='), (dict(root='x'), 'give dataset='),
    (dict(dataset='sts-b', root='x', path='y'), 'give dataset='), (dict(dataset='sts17', root='x'), 'sts17'),
    (dict(dataset=['sts12', 'sts12'], root='x'), 'none twice'), (dict(dataset=[], root='x'), 'at least one'),
    (dict(dataset='sts12', root='x', split='dev'), 'has no splits'), (dict(path='x', aggregate='sum'), 'aggregate'),
    (dict(path='x', mode='dot'), 'mode'), (dict(path='x', split='val'), 'split')])
def test_refused_arguments(options, message):
    with pytest.raises(ConfigError, match=message):
        SentenceSimilarity(**options)


@pytest.mark.parametrize('lines, message', [
    (['1.0\tw1\tw2'], 'scores 1 of 1'), (['1.0\tw1', '2\tw1\tw2'], 'expected 3 cells'),
    (['score\tsentence1\ttext', '1\tw1\tw2'], "no column 'sentence2'"), ([], 'no rows'),
    (['score\tsentence1\tsentence2'], 'no rows below'), (['high\tw1\tw2', '1\tw1\tw2'], 'expected a number'),
    (['nan\tw1\tw2', '1\tw1\tw2'], 'expected a number'), (['1\tw1\tw2', '1.0\tw1\tw3'], 'ranks nothing')])
def test_refused_tables(tmp_path, lines, message):
    path = write(tmp_path / 'pairs.tsv', lines)
    with pytest.raises(DataError, match=message):
        SentenceSimilarity(path=str(path)).run(WordBag(), TaskData())


def test_refused_folders_and_embeddings(tmp_path):
    write_year(tmp_path, '13', YEARS['sts13'])
    task = SentenceSimilarity(dataset='sts13', root=str(tmp_path))
    with pytest.raises(ConfigError, match='encode_text'):
        task.run(torch.nn.Identity(), TaskData())
    nan = WordBag()
    nan.vector = lambda word: torch.full((4,), float('nan'))
    with pytest.raises(DataError, match='is not finite'):
        task.run(nan, TaskData())
    (tmp_path / 'STS' / 'STS13-en-test' / 'STS.gs.OnWN.txt').write_text('1.0\n')
    with pytest.raises(DataError, match='has 1 lines'):
        task.run(WordBag(), TaskData())
    (tmp_path / 'STS' / 'STS13-en-test' / 'STS.gs.OnWN.txt').unlink()
    for act in (lambda: task.run(WordBag(), TaskData()), task.files_fingerprint):
        with pytest.raises(DataError, match=r'STS.gs.OnWN.txt does not exist'):
            act()


def test_refused_packed_files(tmp_path):
    path = write(tmp_path / 'stsbenchmark.tsv.gz', ['split\tscore\tsentence1\tsentence2', 'dev\t1\tw1\tw2'])
    task = SentenceSimilarity(dataset='sts-b', root=str(tmp_path))
    with pytest.raises(DataError, match="no rows of the split 'test'"):
        task.run(WordBag(), TaskData())
    path.write_bytes(gzip.compress(b'split\tscore\n' * 100)[:30])
    with pytest.raises(DataError, match='no whole gzip file'):
        task.run(WordBag(), TaskData())
