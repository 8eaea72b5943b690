"""From a question to a statement with a mask where the answer goes, by rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from clear.core.errors import ConfigError

MASK = '[mask]'
_BE = ('is', 'are', 'was', 'were')
_DO = ('do', 'does', 'did', 'can', 'could', 'has', 'have', 'had', 'will', 'would', 'should')
_PRONOUNS = {'it', 'he', 'she', 'they', 'you', 'we', 'there', 'anyone', 'anything', 'everyone', 'someone'}
_POINTERS = {'this', 'that', 'these', 'those'}
_DETERMINERS = {'the', 'a', 'an', 'any', 'some', 'his', 'her', 'its', 'their', 'your', 'both', 'all', 'two',
                'three', 'no'}
_PREPOSITIONS = {'in', 'on', 'at', 'of', 'with', 'by', 'for', 'from', 'to', 'near', 'under', 'behind', 'above',
                 'inside', 'over', 'between', 'next', 'facing', 'about', 'like', 'out', 'up', 'down'}
_VERBS = {'have', 'look', 'need', 'want', 'seem', 'see', 'use', 'appear', 'own', 'wear', 'eat', 'know', 'play', 'come',
          'go', 'fit', 'match', 'work', 'belong', 'contain', 'say', 'show', 'run', 'sit', 'stand', 'hold', 'make'}


@dataclass(frozen=True)
class Template:
    """A statement with one `MASK`.

    Attributes:
        statement: 'the color of the bus is [mask]'.
        rule: which rule made it.
        words: what stands in the statement for some answers, other than themselves: {'yes': '', 'no': 'not'}.
    """

    statement: str
    rule: str
    words: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self):
        if self.statement.count(MASK) != 1:
            raise ConfigError(f'The statement {self.statement!r} should have one {MASK}.')

    def fill(self, answer: str) -> str:
        """The statement with an answer in place of the mask.

        Example:
            >>> Template('there is [mask] dog', 'there', {'yes': 'a', 'no': 'no'}).fill('yes')
            'there is a dog'
        """
        return ' '.join(self.statement.replace(MASK, self.words.get(answer, answer)).split())


class TemplateGenerator(Protocol):
    """Makes statements of questions."""

    def generate_all(self, questions: Sequence[str]) -> list[Template]:
        """The statement of each question."""


class RuleTemplates:
    """English questions by their first words, without a parser; the offline stand-in for a language model.

    | question | statement |
    |---|---|
    | how many dogs are in the park | there are [mask] dogs in the park |
    | what color is the bus | the bus is [mask] |
    | is there a dog | there is [mask] dog (yes: a, no: no) |
    | is the man wearing a hat | the man is [mask] wearing a hat (yes: nothing, no: not) |
    | what is the man holding | the man is holding [mask] |
    | what animal is on the couch | the animal on the couch is [mask] |
    | which dog is bigger | the dog that is bigger is [mask] |
    | where is the cat | the cat is in the [mask] |

    Where a subject ends is guessed: at the first -ing or -ed form, preposition or article behind its noun, else before
    the last word. What no rule fits becomes the question with the mask behind it, under the rule 'other'.
    """

    def generate_all(self, questions: Sequence[str]) -> list[Template]:
        return [self.generate(question) for question in questions]

    def generate(self, question: str) -> Template:
        """The statement of one question."""
        words = re.sub(r"[^\w\s'/&.-]", ' ', question.lower()).strip(' .').split()
        for rule, make in (('how many', _how_many), ('color', _color), ('there', _is_there), ('yes/no', _yes_no),
                           ('where', _where), ('who', _who), ('what', _what)):
            made = make(words)
            if made is not None:
                statement, fills = made
                return Template(' '.join(statement.split()), rule, fills)
        return Template(f'{" ".join(words)} {MASK}'.strip(), 'other')


def question_type(question: str) -> str:
    """'yes/no', 'number' or 'other', by the first words alone: what can be known of a question without its answer."""
    words = question.lower().strip(' ?.').split()
    if words[:2] in (['how', 'many'], ['what', 'number']):
        return 'number'
    is_asked = bool(words) and (words[0] in (*_BE, *_DO) or words[0] in ("isn't", "aren't", "doesn't", "don't"))
    return 'yes/no' if is_asked and 'or' not in words else 'other'


def _how_many(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if words[:2] != ['how', 'many']:
        return None
    verb = next((place for place, word in enumerate(words) if place > 2 and word in (*_BE, *_DO)), None)
    if verb is None:
        return f'there are {MASK} {" ".join(words[2:])}', {}
    things, rest = ' '.join(words[2:verb]), words[verb + 1:]
    if words[verb] in _BE:
        rest = rest[1:] if rest[:1] == ['there'] else rest
        return f'there are {MASK} {things} {" ".join(rest)}', {}
    return f'{_said(words[verb], rest)} {MASK} {things}', {}


def _color(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 4 or words[0] != 'what' or words[1] not in ('color', 'colour') or words[2] not in _BE:
        return None
    return f'{" ".join(words[3:])} {words[2]} {MASK}', {}


def _is_there(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 3 or words[0] not in _BE or words[1] != 'there':
        return None
    if 'or' in words:
        return f'there {words[0]} {MASK}', {}
    article = words[2] if words[2] in _DETERMINERS else ''
    things = ' '.join(words[3:] if article else words[2:])
    return f'there {words[0]} {MASK} {things}', {'yes': '' if article == 'any' else article, 'no': 'no'}


def _yes_no(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 3 or words[0] not in (*_BE, *_DO):
        return None
    if 'or' in words:  # a choice, of the word before it and what follows
        subject = words[1:words.index('or') - 1]
        return (f'{" ".join(subject)} {words[0]} {MASK}', {}) if words[0] in _BE and subject else None
    subject, predicate = _divided(words[1:], bare_verb=words[0] in _DO)
    return f'{subject} {words[0]} {MASK} {predicate}', {'yes': '', 'no': 'not'}


def _where(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 3 or words[0] != 'where' or words[1] not in _BE:
        return None
    rest = words[2:]
    if not any(word.endswith(('ing', 'ed')) for word in rest[1:]):
        return f'{" ".join(rest)} {words[1]} in the {MASK}', {}
    subject, predicate = _divided(rest)
    return f'{subject} {words[1]} {predicate} in the {MASK}', {}


def _who(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 3 or words[0] != 'who':
        return None
    return f'{MASK} {" ".join(words[1:])}', {}


def _what(words: list[str]) -> tuple[str, dict[str, str]] | None:
    if len(words) < 3 or words[0] not in ('what', 'which'):
        return None
    verb = next((place for place, word in enumerate(words) if place and word in (*_BE, *_DO)), None)
    if verb is None:
        return None
    things, rest = ' '.join(words[1:verb]), words[verb + 1:]
    if words[verb] in _DO:
        return f'{_said(words[verb], rest)} {MASK} {things}', {}
    if things and len(rest) > 1 and rest[0] in _DETERMINERS:
        subject, predicate = _divided(rest)
        return f'the {things} that {subject} {words[verb]} {predicate} is {MASK}', {}
    if things:
        if words[0] == 'which':
            return f'the {things} that {words[verb]} {" ".join(rest)} {words[verb]} {MASK}', {}
        if len(rest) <= 1:  # what room is this
            return f'the {things} {words[verb]} {MASK}', {}
        return f'the {things} {" ".join(rest)} {words[verb]} {MASK}', {}
    if rest[0] in _PREPOSITIONS or rest[0].endswith('ing'):
        return f'{MASK} {words[verb]} {" ".join(rest)}', {}
    if any(word.endswith('ing') for word in rest[1:]):
        subject, predicate = _divided(rest)
        return f'{subject} {words[verb]} {predicate} {MASK}', {}
    return f'{" ".join(rest)} {words[verb]} {MASK}', {}


def _said(auxiliary: str, words: list[str]) -> str:
    """'does', 'the bike have' -> 'the bike has'."""
    subject, predicate = _divided(words, bare_verb=True)
    verb, _, rest = predicate.partition(' ')
    if auxiliary == 'does' and verb:
        verb = 'has' if verb == 'have' else f'{verb}es' if verb.endswith(('s', 'sh', 'ch', 'x', 'o')) else f'{verb}s'
    elif auxiliary not in ('do', 'does'):
        verb = f'{auxiliary} {verb}'
    return f'{subject} {verb} {rest}'


def _divided(words: list[str], bare_verb: bool = False) -> tuple[str, str]:
    """(subject, predicate) of the words behind an auxiliary; the predicate may be empty."""
    first = 2 if len(words) > 2 and words[0] in _DETERMINERS else 1
    if words and (words[0] in _PRONOUNS or words[0] in _POINTERS and (len(words) < 3 or _begins_predicate(words[1]))):
        return words[0], ' '.join(words[1:])
    cut = next((place for place in range(first, len(words)) if bare_verb and words[place] in _VERBS), None)
    if cut is None:
        cut = next((place for place in range(first, len(words)) if _begins_predicate(words[place])), len(words))
        if cut == len(words) or bare_verb:  # the verb or adjective is the word before
            cut = max(min(first, len(words)), cut - 1)
    return ' '.join(words[:cut]), ' '.join(words[cut:])


def _begins_predicate(word: str) -> bool:
    return word in _PREPOSITIONS or word in _DETERMINERS or word == 'not' or \
        len(word) > 4 and word.endswith(('ing', 'ed'))
