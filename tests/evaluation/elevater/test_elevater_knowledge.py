"""External knowledge: files, the four ways, and the words that are appended to prompts."""

import json
import sys

import pytest

from clear.core.errors import ConfigError, DataError
from clear.evaluation.elevater import knowledge
from clear.evaluation.elevater.knowledge import (
    gpt3_file,
    knowledge_file,
    knowledge_texts,
    read_gpt3,
    read_knowledge,
    write_gpt3,
    write_knowledge,
)

NAMES = ['tench', 'kite (bird of prey)', 'xylophone', 'Boeing 747']
ENTRIES = [dict(classname='tench', def_wiki='A fish.', path_wn=['tench', 'cyprinid', 'fish', 'animal'],
                def_wn='freshwater fish (of Europe), it isn\'t big'),
           dict(classname='kite (bird of prey)', def_wiki=None, path_wn='', def_wn=''),
           dict(classname='xylophone', def_wiki='An instrument; "struck".', path_wn=[], def_wn='a thing')]
TEXTS = {name: [f' {name} text {place}.' for place in range(5)] for name in NAMES}


@pytest.fixture
def folder(tmp_path):
    """Files as the toolkit has them."""
    (tmp_path / 'external').mkdir()
    (tmp_path / 'gpt3').mkdir()
    (tmp_path / 'external' / 'toy_knowledge.tsv').write_text(json.dumps(ENTRIES))
    (tmp_path / 'gpt3' / 'GPT3_toy.tsv').write_text(json.dumps([dict(classname=name, gpt3=texts)
                                                               for name, texts in TEXTS.items()]))
    return tmp_path


@pytest.mark.parametrize('ways, expected', [
    (dict(wiki=True), [[' ; tench , A fish .'], [''],
                       [" ; xylophone , An instrument ; `` struck '' ."], []]),
    (dict(wordnet_definition=True), [[" ; tench , freshwater fish ( of Europe ) , it is n't big"], [''],
                                     [' ; xylophone , a thing'], []]),
    (dict(wordnet_hierarchy=True), [[' ; tench , tench cyprinid fish'], [''], [''], []]),
    (dict(gpt3=1), [[' ; tench , tench text 0 .'], [' ; kite ( bird of prey ) , kite ( bird of prey ) text 0 .'],
                    [' ; xylophone , xylophone text 0 .'], [' ; Boeing 747 , Boeing 747 text 0 .']])])
def test_each_source(folder, ways, expected):
    pytest.importorskip('nltk', reason="words of knowledge: pip install 'clear-framework[zeroshot]'")
    assert knowledge_texts('toy', NAMES, folder, **ways) == expected


def test_a_later_source_of_definitions_replaces_an_earlier_one(folder):
    pytest.importorskip('nltk')
    assert knowledge_texts('toy', NAMES, folder, wiki=True, wordnet_definition=True, wordnet_hierarchy=True) == \
        knowledge_texts('toy', NAMES, folder, wordnet_hierarchy=True)
    assert knowledge_texts('toy', NAMES, folder, wiki=True, wordnet_definition=True) == \
        knowledge_texts('toy', NAMES, folder, wordnet_definition=True)


def test_words_are_nltks_own_of_one_line(folder):
    """`word_tokenize(preserve_line=True)` is the toolkit's call but for the division into sentences."""
    word_tokenize = pytest.importorskip('nltk.tokenize').word_tokenize
    for texts, own in zip(TEXTS.values(), knowledge_texts('toy', NAMES, folder, gpt3=5)):
        name = NAMES[list(TEXTS.values()).index(texts)]
        assert own == [' ' + ' '.join(word_tokenize(f' ; {name} , {text}', preserve_line=True)) for text in texts]


@pytest.mark.parametrize('aggregate, counts', [('WIKI_AND_GPT3', [4, 4, 4, 3]), ('WIKI_THEN_GPT3', [1, 1, 1, 3])])
def test_aggregation(folder, aggregate, counts):
    pytest.importorskip('nltk')
    found = knowledge_texts('toy', NAMES, folder, wiki=True, gpt3=3, aggregate=aggregate)
    assert [len(own) for own in found] == counts
    assert found[0][0] == ' ; tench , A fish .' and found[1][0] == ''
    assert found[3] == [f' ; Boeing 747 , Boeing 747 text {place} .' for place in range(3)]


def test_of_synonyms_the_first_is_looked_up(folder):
    pytest.importorskip('nltk')
    assert knowledge_texts('toy', [['tench', 'Tinca'], 'who?'], folder, wiki=True) == [[' ; tench , A fish .'], []]


def test_what_one_writes_is_read_again(tmp_path):
    pytest.importorskip('nltk')
    path = write_knowledge(tmp_path, 'mine', [dict(classname='ant', def_wiki='It works.'),
                                              dict(classname='bee', path_wn=['bee', 'insect'])])
    assert path == knowledge_file(tmp_path, 'mine')
    assert read_knowledge(tmp_path, 'mine') == [dict(classname='ant', def_wiki='It works.', path_wn=[], def_wn=None),
                                                dict(classname='bee', def_wiki=None, path_wn=['bee', 'insect'],
                                                     def_wn=None)]
    assert write_gpt3(tmp_path, 'mine', {'ant': ('a', 'b')}) == gpt3_file(tmp_path, 'mine')
    assert read_gpt3(tmp_path, 'mine') == {'ant': ['a', 'b']}
    assert knowledge_texts('mine', ['ant', 'bee'], tmp_path, wiki=True, gpt3=5) == \
        [[' ; ant , It works .', ' ; ant , a', ' ; ant , b'], ['']]


@pytest.mark.parametrize('entries, message', [
    ('text', 'should hold a list of entries'), ([dict(name='x')], 'entry 0 has no classname'),
    ([dict(classname='x', def_wiki=3)], "class 'x' has a def_wiki that is neither"),
    ([dict(classname='x', path_wn=[1])], "class 'x' has a path_wn that is no list of texts"),
    ([dict(classname='x', path_wn=7)], "class 'x'"),
    ([dict(classname='x')] * 2, "the class 'x' is there twice")])
def test_wrong_entries_are_neither_written_nor_read(tmp_path, entries, message):
    with pytest.raises(DataError, match=message):
        write_knowledge(tmp_path, 'toy', entries)
    assert not knowledge_file(tmp_path, 'toy').exists()
    knowledge_file(tmp_path, 'toy').parent.mkdir()
    knowledge_file(tmp_path, 'toy').write_text(json.dumps(entries))
    with pytest.raises(DataError, match=message):
        read_knowledge(tmp_path, 'toy')


@pytest.mark.parametrize('texts', [{'x': 'one'}, {'x': [1]}])
def test_texts_that_are_none(tmp_path, texts):
    with pytest.raises(DataError, match="class 'x' has a gpt3 that is no list of texts"):
        write_gpt3(tmp_path, 'toy', texts)


@pytest.mark.parametrize('options, error, message', [
    (dict(), ConfigError, 'no knowledge is asked for'), (dict(gpt3=6), ConfigError, 'gpt3 is 6'),
    (dict(gpt3=True), ConfigError, 'gpt3 is True'), (dict(wiki=1), ConfigError, 'wiki is 1'),
    (dict(wiki=True, aggregate='BOTH'), ConfigError, "aggregate is 'BOTH'"),
    (dict(wiki=True, set_name='other'), DataError, 'other_knowledge.tsv does not exist'),
    (dict(wiki=True, set_name='../../x'), DataError, 'lies outside'),
    (dict(wiki=True, class_names=['tenches']), DataError, "knows none of the 1 classes.*nearest: 'tench'")])
def test_wrong_questions(folder, options, error, message):
    with pytest.raises(error, match=message):
        knowledge_texts(**dict(set_name='toy', class_names=NAMES, folder=folder) | options)


def test_without_nltk_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'nltk.tokenize', None)
    with pytest.raises(ConfigError, match=r"pip install 'clear-framework\[zeroshot\]'"):
        knowledge.knowledge_texts('toy', NAMES, folder, wiki=True)
