"""Word similarity: scipy by loops, gensim on the same vectors, the lists that gensim ships, and odd files."""

import pytest
import torch
from scipy import stats
from text_files import WordBag, write
from torch.nn.functional import cosine_similarity, normalize

from clear.core.errors import ConfigError, DataError
from clear.evaluation.task import TaskData
from clear.evaluation.text.word_similarity import WordSimilarity, read_word_pairs

PAIRS = [('old', 'new', 1.6), ('smart', 'clever', 9.2), ('cat', 'dog', 5.0), ('car', 'ship', 4.2), ('cat', 'car', 0.5),
         ('new', 'clever', 1.6)]
TEMPLATES = ['a photo of a {}.', 'the {}', '{} and {}']


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / 'rg65.csv', [';'.join(map(str, pair)) for pair in PAIRS])


def cosine(encoder, first, second):
    return cosine_similarity(*encoder.encode_text([first, second]).double(), dim=0).item()


def test_words_by_a_loop(path):
    encoder = WordBag()
    result = WordSimilarity(dataset='rg65', root=str(path.parent), prompting='none').run(encoder, TaskData())
    scores, cosines = [pair[2] for pair in PAIRS], [cosine(encoder, *pair[:2]) for pair in PAIRS]
    assert result.extras['metrics'] == pytest.approx(dict(spearman=stats.spearmanr(scores, cosines)[0],
                                                          pearson=stats.pearsonr(scores, cosines)[0]), abs=1e-6)
    assert (result.metric, result.extras['n_test'], result.extras['n_texts']) == ('spearman', 6, 8)


def test_each_template_as_its_rows_by_a_loop(path):
    encoder = WordBag()
    result = WordSimilarity(path=str(path), prompting='rows', templates=TEMPLATES).run(encoder, TaskData())
    rows = [(cosine(encoder, template.replace('{}', pair[0]), template.replace('{}', pair[1])), pair[2])
            for template in TEMPLATES for pair in PAIRS]
    assert result.value == pytest.approx(stats.spearmanr(*zip(*rows))[0], abs=1e-6)
    assert result.extras['templates'] == TEMPLATES and result.extras['n_texts'] == 3 * 8


def test_the_mean_over_templates_by_a_loop(path):
    encoder = WordBag()

    def vector(word):
        return sum(normalize(encoder.encode_text([template.replace('{}', word)]), dim=1)[0] for template in TEMPLATES)

    result = WordSimilarity(path=str(path), prompting='average', templates=TEMPLATES).run(encoder, TaskData())
    cosines = [cosine_similarity(vector(pair[0]), vector(pair[1]), dim=0).item() for pair in PAIRS]
    assert result.value == pytest.approx(stats.spearmanr(cosines, [pair[2] for pair in PAIRS])[0], abs=1e-6)


def test_equal_to_gensim(tmp_path):
    models = pytest.importorskip('gensim.models', reason='the peer of extra [align]')
    path = write(tmp_path / 'pairs.tsv', ['# a comment', *('\t'.join(map(str, pair)) for pair in PAIRS)])
    encoder, words = WordBag(), sorted({word for pair in PAIRS for word in pair[:2]})
    vectors = models.KeyedVectors(16)
    vectors.add_vectors(words, encoder.encode_text(words).numpy())
    expected = vectors.evaluate_word_pairs(str(path))
    found = WordSimilarity(path=str(path), prompting='none').run(encoder, TaskData()).extras['metrics']
    assert found == pytest.approx(dict(pearson=expected[0][0], spearman=expected[1][0]), abs=1e-6)


@pytest.mark.parametrize('dataset, count', [('simlex999', 999), ('wordsim353', 353)])
def test_the_lists_of_gensim_are_read_as_data(dataset, count):
    pytest.importorskip('gensim', reason='the lists of extra [align]')
    task = WordSimilarity(dataset=dataset, root='package:gensim')
    pairs = read_word_pairs(task.path, task.separator)
    assert len(pairs) == count and all(0 <= score <= 10 for _, _, score in pairs)
    assert len(task.files_fingerprint()) == 64


def test_templates_that_changed_in_their_file_are_another_task(path, tmp_path):
    def fingerprint(*templates):
        (tmp_path / 'templates.txt').write_text('\n'.join(templates))
        return WordSimilarity(path=str(path), prompting='rows', templates=dict(file=str(tmp_path / 'templates.txt'))
                              ).files_fingerprint()

    assert fingerprint('a {}', 'the {}') == fingerprint('a {}', 'the {}') != fingerprint('a {}', 'one {}')


def test_the_templates_of_imagenet():
    assert len(WordSimilarity(path='x.csv', prompting='rows')._listed) == 80
    assert len(WordSimilarity(path='x.csv')._listed) == 80
    assert WordSimilarity(path='x.csv', prompting='none')._listed == []


@pytest.mark.parametrize('options, message', [
    (dict(), 'give dataset='), (dict(dataset='rg65'), 'give dataset='), (dict(dataset='men', root='x'), "'men'"),
    (dict(dataset='rg65', root='x', path='y'), 'give dataset='), (dict(path='x', prompting='mean'), 'prompting'),
    (dict(dataset='rg65', root='package:gensim'), 'has simlex999 and wordsim353'),
    (dict(dataset='rg65', root='package:nltk'), 'no other package'), (dict(path='x', separator=', '), 'separator'),
    (dict(path='x', prompting='rows', templates=['no place']), 'no place')])
def test_refused_arguments(options, message):
    with pytest.raises(ConfigError, match=message):
        WordSimilarity(**options)


@pytest.mark.parametrize('lines, message', [
    (['cat,dog,3', 'a,b,2'], "with ';' between them"), (['cat;dog;3'], '1 pairs'),
    (['cat;dog;3', 'a;b;3.0'], 'different'),
    (['cat;dog;x', 'a;b;3.0'], 'expected a number'), (['cat; ;1', 'a;b;3.0'], 'expected word'), ([], '0 pairs')])
def test_refused_files(tmp_path, lines, message):
    path = write(tmp_path / 'rg65.csv', lines)
    with pytest.raises(DataError, match=message):
        WordSimilarity(path=str(path), prompting='none').run(WordBag(), TaskData())


def test_refused_embeddings(path):
    encoder = WordBag()
    encoder.vector = lambda word: torch.full((4,), float('inf'))
    with pytest.raises(DataError, match='is not finite'):
        WordSimilarity(path=str(path), prompting='none').run(encoder, TaskData())
