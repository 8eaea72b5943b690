"""When two answers to a question are the same, and how right an answer is that some of ten people gave.

The rules are those of the evaluation code of VQA v2 (Goyal et al. 2017, arXiv:1612.00837): GT-Vision-Lab/VQA on GitHub.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from clear.core.checks import check_choice
from clear.core.errors import DataError

DEFINITIONS = ('leave_one_out', 'plain')
ANSWER_TYPES = ('yes/no', 'number', 'other')

_NUMBERS = dict(none='0', zero='0', one='1', two='2', three='3', four='4', five='5', six='6', seven='7', eight='8',
                nine='9', ten='10')
_ARTICLES = {'a', 'an', 'the'}
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r'\d,\d')
# The pattern there begins with `(?!<=\d)`, meant to look behind: as it stands it looks ahead, at the period itself, and
# always holds. So a period goes unless a digit follows. A flag in the place of a count makes it the first 32 of them.
_PERIOD = re.compile(r'\.(?!\d)')
_MOST_PERIODS = 32
# Each is also understood with one of its apostrophes left out.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_WRITTEN_OUT = {word[:place] + word[place + 1:]: word for word in _CONTRACTIONS.split()
                for place, sign in enumerate(word) if sign == "'"} | {"somebody'd": 'somebodyd'}


# People give few different answers, many times each.
@lru_cache(maxsize=2**16)
def normalise_answer(text: str) -> str:
    """An answer in lower case, without articles and marks, with digits for number words and apostrophes put back.

    A mark goes without a trace where that mark stands beside a blank somewhere in the text, or a comma stands between
    digits; else a blank takes its place.

    Example:
        >>> normalise_answer('The two-door car.'), normalise_answer('dont know, 1,000')
        ('2 door car', "don't know 1000")
    """
    text = _stripped(text)
    is_number = _DIGIT_COMMA_DIGIT.search(text) is not None
    kept = text
    for mark in _MARKS:
        kept = kept.replace(mark, '' if is_number or f'{mark} ' in text or f' {mark}' in text else ' ')
    kept = _PERIOD.sub('', kept, count=_MOST_PERIODS)
    words = [_NUMBERS.get(word, word) for word in kept.lower().split()]
    return ' '.join(_WRITTEN_OUT.get(word, word) for word in words if word not in _ARTICLES)


def answer_accuracy(prediction: str, answers: Sequence[str], definition: str = 'leave_one_out') -> float:
    """How right an answer is, 0 ... 1, by the answers of several people (ten in VQA).

    If these are all the same text, they and the prediction are compared as they are, else after `normalise_answer`.

    Args:
        definition: 'leave_one_out' is the mean of min(matches / 3, 1) over all ways of leaving one person out, the
            official one: of ten people 1, 2, 3, 4 matches give .3, .6, .9 and 1. 'plain' is min(matches / 3, 1) of all,
            as the formula is often quoted: .33, .67, 1 and 1 (mmpretrain's `VQAAcc` gives these).

    Raises:
        ConfigError: for another definition.
        DataError: for no answers, or a single one, of which none is left.
    """
    check_choice('definition', definition, DEFINITIONS)
    check_answers(answers, definition)
    prediction, answers = _stripped(prediction), [_stripped(answer) for answer in answers]
    if len(set(answers)) > 1:
        prediction, answers = normalise_answer(prediction), [normalise_answer(answer) for answer in answers]
    count, matches = len(answers), answers.count(prediction)
    if definition == 'plain':
        return min(matches / 3, 1.0)
    # Leaving out one of those who agree with the prediction, or one of the others.
    return (matches * min((matches - 1) / 3, 1.0) + (count - matches) * min(matches / 3, 1.0)) / count


def check_answers(answers: Sequence[str], definition: str) -> None:
    """Refuse too few answers to measure by.

    Raises:
        DataError: saying how many there are.
    """
    if len(answers) < (2 if definition == 'leave_one_out' else 1):
        raise DataError(f'A question has {len(answers)} answers of people; its accuracy needs several (VQA has ten).')


def _stripped(text: str) -> str:
    return text.replace('\n', ' ').replace('\t', ' ').strip()
