"""Visual Question Answering, version 2: photographs of COCO, questions about them, and ten people's answers to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clear.core.checks import check_choice
from clear.core.errors import DataError
from clear.core.files import read_json
from clear.datasets.readers.image_files import check_there, existing_folder
from clear.datasets.table import ImageTable
from clear.registry import READERS

SPLITS = ('train', 'val')
KINDS = ('answer_type', 'first_words')


@dataclass(frozen=True)
class Question:
    """One question about an image.

    Attributes:
        number: `question_id`.
        image: id of the image in its table, `val2014/COCO_val2014_000000262148.jpg`.
        first_words: `question_type`, one of 65 beginnings of questions: 'what color is the'.
        answer_type: 'yes/no', 'number' or 'other', as people's answers were.
        answers: what each of ten people said.
    """

    number: int
    image: str
    text: str
    first_words: str
    answer_type: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class _Note:
    """What an entry of the file of answers says."""

    number: int
    first_words: str
    answer_type: str
    most_given: str
    answers: tuple[str, ...]


def question_files(data_root: str | Path, split: str) -> tuple[Path, Path]:
    """The files of questions and of answers of a split, as they are called in the archives of visualqa.org."""
    check_choice('split', split, SPLITS)
    base = existing_folder(data_root)
    return (base / f'v2_OpenEnded_mscoco_{split}2014_questions.json', base / f'v2_mscoco_{split}2014_annotations.json')


@READERS.register_module(name='VQAv2')
def vqa_v2(data_root: str, split: str = 'val') -> ImageTable:
    """The images of `<split>2014/` that questions are asked about, each once, in the order of their numbers.

    Args:
        data_root: the folder of the files of questions and of `<split>2014/`.
        split: 'train' or 'val'.

    Raises:
        ConfigError: for another split.
        DataError: if the file is missing or not what it should be, or an image is not there.
    """
    file = question_files(data_root, split)[0]
    paths = sorted({path for _, path, _ in _asked(file)})
    images = ImageTable.from_columns(file.parent, dict(path=paths), name=f'vqa_v2_{split}')
    check_there(paths, file.parent, file)
    return images


def read_questions(data_root: str | Path, split: str = 'val') -> list[Question]:
    """The questions of a split in the order of their file, with their answers.

    Raises:
        ConfigError: for another split.
        DataError: if a file is missing or not what it should be, or a question has no answers.
    """
    file, answer_file = question_files(data_root, split)
    notes = {note.number: note for note in _answered(answer_file)}
    questions = []
    for number, image, text in _asked(file):
        if number not in notes:
            raise DataError(f'{answer_file} has no answers to question {number} of {file.name}.')
        note = notes[number]
        questions.append(Question(number, image, text, note.first_words, note.answer_type, note.answers))
    if not questions:
        raise DataError(f'{file} has no questions.')
    return questions


def count_answers(data_root: str | Path, split: str = 'train', by: str = 'answer_type') -> dict[str, Counter[str]]:
    """Kind of question -> how many questions have an answer as the one that most people gave.

    Args:
        by: 'answer_type' or 'first_words', see `Question`.

    Raises:
        ConfigError: for another split or kind.
        DataError: if the file is missing or not what it should be.
    """
    check_choice('by', by, KINDS)
    found: dict[str, Counter[str]] = {}
    for note in _answered(question_files(data_root, split)[1]):
        found.setdefault(note.answer_type if by == 'answer_type' else note.first_words, Counter())[note.most_given] += 1
    return found


def _asked(file: Path) -> Iterator[tuple[int, str, str]]:
    """(number, path of the image, text) of the questions in a file."""
    content, seen = read_json(file), set()
    try:
        subset = _text(content['data_subtype'])
        for entry in content['questions']:
            number, text = _number(entry['question_id']), _text(entry['question'])
            if number in seen:
                raise ValueError(f'question {number} is there twice')
            seen.add(number)
            yield number, f'{subset}/COCO_{subset}_{_number(entry["image_id"]):012}.jpg', text
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f'{file} is no list of questions: expected {{"data_subtype": "val2014", "questions": '
                        f'[{{"question_id", "image_id", "question"}}]}}; {type(error).__name__}: {error}.') from error


def _answered(file: Path) -> Iterator[_Note]:
    """What is said of the questions in a file."""
    content, seen = read_json(file), set()
    try:
        for entry in content['annotations']:
            number = _number(entry['question_id'])
            if number in seen:
                raise ValueError(f'question {number} is there twice')
            seen.add(number)
            yield _Note(number, _text(entry['question_type']), _text(entry['answer_type']),
                        _text(entry['multiple_choice_answer']),
                        tuple(_text(_mapping(answer)['answer']) for answer in entry['answers']))
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f'{file} is no list of answers: expected {{"annotations": [{{"question_id", "question_type", '
                        f'"answer_type", "multiple_choice_answer", "answers": [{{"answer"}}]}}]}}; '
                        f'{type(error).__name__}: {error}.') from error


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f'{value!r} is no number of a question or an image')
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f'{value!r} is no text')
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise TypeError(f'{value!r} is no answer')
    return value
