"""Answers of VQA: what is the same answer, against mmpretrain's table and by hand, and the accuracy by loops."""

import ast
import inspect
import itertools

import pytest
from mmpretrain.evaluation.metrics import vqa as peer

from clear.core.errors import ConfigError, DataError
from clear.evaluation.language.vqa.answers import _WRITTEN_OUT, answer_accuracy, normalise_answer


def tables():
    """The dicts that mmpretrain's function holds."""
    tree = ast.parse(inspect.getsource(peer._process_digit_article))
    return [ast.literal_eval(node) for node in ast.walk(tree) if isinstance(node, ast.Dict)]


def peers(text):
    text = text.replace('\n', ' ').replace('\t', ' ').strip()
    return peer._process_digit_article(peer._process_punctuation(text))


def by_loops(prediction, answers):
    """The official loop over who is left out."""
    if len({*answers}) > 1:
        prediction, answers = peers(prediction), [peers(answer) for answer in answers]
    found = []
    for left_out in range(len(answers)):
        others = [answer for place, answer in enumerate(answers) if place != left_out]
        found.append(min(1, sum(answer == prediction for answer in others) / 3))
    return sum(found) / len(found)


def test_every_word_of_the_table_becomes_what_it_becomes_there():
    words = {*itertools.chain.from_iterable((*table, *table.values()) for table in tables()), *_WRITTEN_OUT}
    assert len(words) > 200
    for word in words:
        assert normalise_answer(word) == peers(word), word
        assert normalise_answer(f'the {word} one') == peers(f'the {word} one')


@pytest.mark.parametrize('text, expected', [
    ('The two-door car.', '2 door car'), ('two - door', '2 door'), ('1,000', '1000'), ('a-b 1,000 c/d', 'ab 1000 cd'),
    ('3.5', '3.5'), ('3.', '3'), ('a.5', 'a.5'), ('U.S.A.', 'usa'), ('e.g. 4.', 'eg 4'), ('\tyes\n', 'yes'),
    ('dont', "don't"), ("couldnt've", "couldn't've"), ("somebody'd", 'somebodyd'), ('none', '0'), ('the', ''),
    ("it's", "it's"), ('Im', 'im'), ('yes:no', 'yes:no'), ('a' + '.' * 40, '........'), ('', ''),
    ('Hot dog, bun!', 'hot dog bun'), ('what?why', 'what why')])
def test_answers_by_hand(text, expected):
    assert normalise_answer(text) == peers(text) == (expected if '....' not in text else 'a........')


def test_marks_in_every_place_are_treated_as_there():
    for mark, text in itertools.product(';/[]"{}()=+\\_-><@`,?!.:&%$#', ('a{}b', 'a{} b', 'a {}b', '{}', '1{}2 a{}')):
        text = text.replace('{}', mark)
        assert normalise_answer(text) == peers(text), text


@pytest.mark.parametrize('matches, official, plain', [
    (0, 0, 0), (1, .3, 1 / 3), (2, .6, 2 / 3), (3, .9, 1), (4, 1, 1), (9, 1, 1), (10, 1, 1)])
def test_accuracy_of_ten_answers(matches, official, plain):
    answers = ['blue'] * matches + [f'other {place}' for place in range(10 - matches)]
    assert answer_accuracy('Blue.' if matches < 10 else 'blue', answers) == pytest.approx(official)
    assert answer_accuracy('blue', answers) == pytest.approx(by_loops('blue', answers))
    assert answer_accuracy('blue', answers, 'plain') == pytest.approx(plain)


@pytest.mark.parametrize('matches', [1, 2, 3, 4])
def test_plain_accuracy_is_that_of_mmpretrain(matches):
    answers = ['blue'] * matches + ['red'] * (10 - matches)
    metric = peer.VQAAcc()
    metric.process({}, [dict(pred_answer='blue', gt_answer=answers)])
    assert metric.compute_metrics(metric.results)['acc'] / 100 == pytest.approx(
        answer_accuracy('blue', answers, 'plain'))


@pytest.mark.parametrize('count', [2, 3, 5, 10])
def test_accuracy_of_any_number_of_people_is_that_of_a_loop(count):
    for matches in range(count + 1):
        answers = ['a dog'] * matches + ['cat'] * (count - matches)
        assert answer_accuracy('dog', answers) == pytest.approx(by_loops('dog', answers))


def test_nothing_is_normalised_where_all_agree():
    assert answer_accuracy('2', ['two'] * 10) == 0
    assert answer_accuracy('two', ['two'] * 10) == 1
    assert answer_accuracy('2', ['two'] * 9 + ['Two']) == 1
    assert answer_accuracy('two\n', ['two '] * 10) == 1


def test_what_has_no_accuracy_is_refused():
    with pytest.raises(ConfigError, match='definition'):
        answer_accuracy('a', ['a'] * 10, 'vqa')
    with pytest.raises(DataError, match='has 1 answers of people'):
        answer_accuracy('a', ['a'])
    assert answer_accuracy('a', ['a'], 'plain') == pytest.approx(1 / 3)
