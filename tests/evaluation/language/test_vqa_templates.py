"""Statements of questions, by rules."""

import itertools

import pytest

from clear.core.errors import ConfigError
from clear.evaluation.language.vqa.templates import MASK, RuleTemplates, Template, question_type


@pytest.mark.parametrize('question, rule, statement', [
    ('How many people are in the picture?', 'how many', 'there are [mask] people in the picture'),
    ('How many cats are there?', 'how many', 'there are [mask] cats'),
    ('How many wheels does the bike have?', 'how many', 'the bike has [mask] wheels'),
    ('How many dogs can you see?', 'how many', 'you can see [mask] dogs'),
    ('How many dogs?', 'how many', 'there are [mask] dogs'),
    ('What color is the bus?', 'color', 'the bus is [mask]'),
    ("What colour are the man's shoes?", 'color', "the man's shoes are [mask]"),
    ('What is the man holding?', 'what', 'the man is holding [mask]'),
    ('What is on the table?', 'what', '[mask] is on the table'),
    ('What is this?', 'what', 'this is [mask]'),
    ('What is the name of the hotel?', 'what', 'the name of the hotel is [mask]'),
    ('What animal is on the couch?', 'what', 'the animal on the couch is [mask]'),
    ('What game is the man playing?', 'what', 'the game that the man is playing is [mask]'),
    ('What room is this?', 'what', 'the room is [mask]'),
    ('What does the sign say?', 'what', 'the sign says [mask]'),
    ('Which dog is bigger?', 'what', 'the dog that is bigger is [mask]'),
    ('Where is the cat?', 'where', 'the cat is in the [mask]'),
    ('Where is the man sitting?', 'where', 'the man is sitting in the [mask]'),
    ('Who is driving the car?', 'who', '[mask] is driving the car'),
    ('Is the cat black or white?', 'yes/no', 'the cat is [mask]'),
    ('Why is the man running?', 'other', 'why is the man running [mask]'),
    ('What?', 'other', 'what [mask]'), ('?', 'other', '[mask]'), ('', 'other', '[mask]'),
    ('is [mask] a [mask]?', 'yes/no', 'mask is [mask] a mask')])
def test_questions_become_statements(question, rule, statement):
    made = RuleTemplates().generate(question)
    assert (made.rule, made.statement) == (rule, statement)
    assert made.fill('two  red') == ' '.join(statement.replace(MASK, 'two red').split())


@pytest.mark.parametrize('question, yes, no', [
    ('Is there a dog in the park?', 'there is a dog in the park', 'there is no dog in the park'),
    ('Are there any clouds?', 'there are clouds', 'there are no clouds'),
    ('Is the man wearing a hat?', 'the man is wearing a hat', 'the man is not wearing a hat'),
    ('Is the tennis player happy?', 'the tennis player is happy', 'the tennis player is not happy'),
    ('Is this a train?', 'this is a train', 'this is not a train'),
    ('Is this man happy?', 'this man is happy', 'this man is not happy'),
    ('Does the man have a hat?', 'the man does have a hat', 'the man does not have a hat'),
    ('Are they?', 'are they yes', 'are they no')])
def test_yes_and_no_are_said_by_the_statement(question, yes, no):
    made = RuleTemplates().generate(question)
    assert (made.fill('yes'), made.fill('no')) == (yes, no)


@pytest.mark.parametrize('question, expected', [
    ('How many?', 'number'), ('What number is on it?', 'number'), ('Is it red?', 'yes/no'), ("Isn't it?", 'yes/no'),
    ('Does it?', 'yes/no'), ('Is it red or blue?', 'other'), ('What is it?', 'other'), ('', 'other')])
def test_the_type_of_a_question_needs_no_answer(question, expected):
    assert question_type(question) == expected


@pytest.mark.parametrize('words', [1, 2, 3, 4])
def test_no_question_is_without_a_statement(words):
    some = ('is', 'the', 'or', 'what', 'which', 'how', 'many', 'color', 'there', 'running', 'does', 'on')
    for question in itertools.product(some, repeat=words):
        assert RuleTemplates().generate(' '.join(question)).statement.count(MASK) == 1


def test_a_statement_without_a_mask_is_refused():
    for statement in ('a dog', '[mask] and [mask]'):
        with pytest.raises(ConfigError, match='one \\[mask\\]'):
            Template(statement, 'mine')
