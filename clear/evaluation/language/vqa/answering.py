"""Answer questions about images by the statement that fits best, without training (TAP-C)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.errors import ConfigError, DataError
from clear.datasets.readers.pairs.vqa_v2 import (
    KINDS,
    SPLITS,
    Question,
    count_answers,
    question_files,
    read_questions,
)
from clear.evaluation.image.rows import check_splits, features_by_id, shuffled
from clear.evaluation.language.prompts import check_width
from clear.evaluation.language.vqa.answers import (
    ANSWER_TYPES,
    DEFINITIONS,
    answer_accuracy,
    check_answers,
    normalise_answer,
)
from clear.evaluation.language.vqa.candidates import CandidateFilter, FrequencyFilter
from clear.evaluation.language.vqa.t5 import LocalT5, T5Filter, T5Templates, check_demonstrations, check_t5_folder
from clear.evaluation.language.vqa.templates import RuleTemplates, Template, TemplateGenerator, question_type
from clear.evaluation.metrics.similarity import unit_rows
from clear.evaluation.task import TaskData, TaskResult
from clear.evaluation.text.encoding import TextReader
from clear.evaluation.text.files import files_fingerprint
from clear.registry import TASKS

_TEXTS_PER_BLOCK = 8192


@dataclass(frozen=True)
class Asked:
    """A question as the towers see it: one row of images, and statements to choose from.

    Attributes:
        image: row of the image.
        template: where answers go.
        candidates: different answers.
    """

    image: int
    template: Template
    candidates: Sequence[str]


@TASKS.register_module(name=['VQA', 'VisualQuestionAnswering'])
class VisualQuestionAnswering:
    """Zero-shot answers to the questions of VQA v2 (Goyal et al. 2017, arXiv:1612.00837) by two towers.

    TAP-C (Song et al. 2022, arXiv:2203.07190): a question becomes a statement with a mask, some answers are filled in,
    and the statement that is most similar to the image gives the answer. The value is `accuracy`, the mean over all
    questions of `answer_accuracy`; `yes_no`, `number` and `other` are those over questions of that answer type. Where
    statements are equally similar, the worst answer counts. What of the paper could not be confirmed is in docs/vqa.md.

    Questions about images that could not be read are left out and counted. Images are found by their id in the bank of
    'test', a source of type `VQAv2` for one.

    Args:
        root: folder of the files of questions and answers, see `vqa_v2`.
        split: whose questions are asked.
        counts_split: whose answers are counted for the candidates. Never those of the questions asked.
        templates: 'rules', 't5', or a `TemplateGenerator`.
        candidates: 'frequency', 't5', or a `CandidateFilter`.
        k: candidates of a question; a yes/no question has two.
        by: whether they are those of the 'answer_type', or of the question's 'first_words'.
        vocabulary: how many answers of each kind a T5 chooses from.
        t5: local folder of a T5, for the two above.
        demonstrations: see `T5Templates`.
        answer_types: 'question' tells the type from the first words of the question; 'given' takes that of people's
            answers, which says more than a question does.
        prompt: what is around a statement, with `{}` for it.
        definition: see `answer_accuracy`.
        max_questions: ask a share of them, drawn by the seed; None asks all.
        device: where similarities and the T5 are computed.

    Raises:
        ConfigError: for unknown choices, numbers out of range, a prompt without `{}`, a T5 without a folder, or counted
            answers that are those to be found.
    """

    needs: ClassVar = ('bank', 'text_encoder')
    splits: ClassVar = ('test',)

    def __init__(self, root: str, *, split: str = 'val', counts_split: str = 'train',
                 templates: str | TemplateGenerator = 'rules', candidates: str | CandidateFilter = 'frequency',
                 k: int = 100, by: str = 'answer_type', vocabulary: int = 3000, t5: str | None = None,
                 demonstrations: Mapping[str, Sequence[Sequence[str]]] | None = None, answer_types: str = 'question',
                 prompt: str = '{}', definition: str = 'leave_one_out', max_questions: int | None = None, seed: int = 0,
                 device: str = 'cpu'):
        self.root = Path(check_text('root', root))
        self.split = check_choice('split', split, SPLITS)
        self.counts_split = check_choice('counts_split', counts_split, SPLITS)
        if split == counts_split:
            raise ConfigError(f"The answers of '{split}' are to be found and cannot be counted for the candidates: "
                              'give another counts_split.')
        if isinstance(templates, str):
            check_choice('templates', templates, ('rules', 't5'))
        if isinstance(candidates, str):
            check_choice('candidates', candidates, ('frequency', 't5'))
        self.templates, self.candidates, self.t5 = templates, candidates, t5
        if self._uses_t5:
            check_t5_folder(t5)
        if demonstrations is not None:
            check_demonstrations(demonstrations)
        self.demonstrations = demonstrations
        self.by = check_choice('by', by, KINDS)
        self.k, self.vocabulary = check_whole('k', k, 1), check_whole('vocabulary', vocabulary, 1)
        self.answer_types = check_choice('answer_types', answer_types, ('question', 'given'))
        if '{}' not in check_text('prompt', prompt):
            raise ConfigError(f"prompt is {prompt!r}; expected a text with {{}} where the statement goes.")
        self.prompt, self.definition = prompt, check_choice('definition', definition, DEFINITIONS)
        self.max_questions = max_questions if max_questions is None else check_whole('max_questions', max_questions, 1)
        self.seed, self.device = seed, device

    @property
    def _uses_t5(self) -> bool:
        return 't5' in [each for each in (self.templates, self.candidates) if isinstance(each, str)]

    def files_fingerprint(self) -> str:
        """Of questions, answers and the T5's files.

        Raises:
            DataError: if one cannot be read.
        """
        folder = sorted(path for path in Path(self.t5).iterdir() if path.is_file()) if self._uses_t5 else []
        return files_fingerprint([*question_files(self.root, self.split),
                                  question_files(self.root, self.counts_split)[1], *folder])

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Answer the questions about the images of 'test'.

        Raises:
            ConfigError: for an encoder without text, or a bank that does not know its images by id.
            DataError: for files that are not what they should be, images that the bank does not have, or embeddings of
                two widths.
        """
        check_splits(data.bank, required=('test',))
        encode = TextReader(encoder, type(self).__name__)
        questions = read_questions(self.root, self.split)
        if self.max_questions is not None:
            chosen = shuffled(len(questions), self.seed, 'questions')[:self.max_questions].sort().values
            questions = [questions[place] for place in chosen.tolist()]
        for question in questions:  # before hours of encoding
            check_answers(question.answers, self.definition)
        rows = {image: row for row, image in enumerate(dict.fromkeys(each.image for each in questions))}
        features, is_there = features_by_id(data.bank['test'], list(rows))
        places = (is_there.cumsum(0) - 1).tolist()
        kept = [each for each in questions if is_there[rows[each.image]]]
        if not kept:
            raise DataError(f'{self.root}: no image that a question is about could be read.')
        asked = self._asked(kept, [places[rows[each.image]] for each in kept])
        found = best_candidates(features.to(self.device), asked, encode, self.prompt)
        metrics, extras = self._scored(kept, asked, found)
        extras |= dict(n_test=len(kept), unreadable=len(questions) - len(kept), **encode.extras())
        return TaskResult('accuracy', metrics['accuracy'], True, dict(metrics=metrics, **extras))

    def _asked(self, questions: Sequence[Question], images: Sequence[int]) -> list[Asked]:
        """Each question with its statement and its candidates; a question that is asked often is turned once."""
        texts = list(dict.fromkeys(question.text for question in questions))
        templates = dict(zip(texts, self._generator.generate_all(texts)))
        candidates: dict[tuple[str, str], Sequence[str]] = {}
        asked = []
        for question, image in zip(questions, images):
            template = templates[question.text]
            kind = question.answer_type if self.answer_types == 'given' else question_type(question.text)
            if kind != 'yes/no' and self.by == 'first_words':
                kind = question.first_words
            key = template.statement, kind
            if key not in candidates:
                candidates[key] = self._filter.candidates(template, kind)
            asked.append(Asked(image, template, candidates[key]))
        return asked

    @cached_property
    def _model(self) -> LocalT5:
        return LocalT5(check_t5_folder(self.t5), device=self.device)

    @cached_property
    def _generator(self) -> TemplateGenerator:
        if self.templates == 't5':
            return T5Templates(self._model, self.demonstrations)
        return RuleTemplates() if self.templates == 'rules' else self.templates

    @cached_property
    def _filter(self) -> CandidateFilter:
        if not isinstance(self.candidates, str):
            return self.candidates
        is_t5 = self.candidates == 't5'
        frequent = FrequencyFilter(count_answers(self.root, self.counts_split, self.by),
                                   self.vocabulary if is_t5 else self.k)
        return T5Filter(self._model, frequent, self.k) if is_t5 else frequent

    def _scored(self, questions: Sequence[Question], asked: Sequence[Asked], found: Sequence[Sequence[int]]
                ) -> tuple[dict[str, float], dict[str, object]]:
        """The metrics, and what is said beside them."""
        by_type: dict[str, list[float]] = {}
        ceilings, rules = [], {}
        for question, each, best in zip(questions, asked, found):
            accuracy = min(answer_accuracy(each.candidates[place], question.answers, self.definition) for place in best)
            by_type.setdefault(question.answer_type, []).append(accuracy)
            ceilings.append(best_possible(each.candidates, question.answers, self.definition))
            rules[each.template.rule] = rules.get(each.template.rule, 0) + 1
        every = [accuracy for some in by_type.values() for accuracy in some]
        metrics = dict(accuracy=sum(every) / len(every)) | {
            kind.replace('/', '_'): sum(by_type[kind]) / len(by_type[kind])
            for kind in (*ANSWER_TYPES, *sorted({*by_type} - {*ANSWER_TYPES})) if kind in by_type}
        agree = sum(question_type(question.text) == question.answer_type for question in questions)
        return metrics, dict(n_of_type={kind: len(some) for kind, some in by_type.items()}, rules=rules,
                             ceiling=sum(ceilings) / len(ceilings), type_agreement=agree / len(questions),
                             definition=self.definition)


def best_candidates(images: Tensor, asked: Sequence[Asked], encode: Callable[[list[str]], Tensor], prompt: str = '{}'
                    ) -> list[list[int]]:
    """For each question the places of its best candidates: one, or several whose statements are equally similar.

    Questions with the same statement and candidates are answered together, and memory does not grow with their number.

    Args:
        images: (N, D) of any norm.
        encode: list of T texts -> (T, D).

    Raises:
        DataError: for texts of another width than images.
    """
    found: list[list[int]] = [[]] * len(asked)
    for block in _blocks(asked):
        texts = [[prompt.replace('{}', asked[group[0]].template.fill(answer))
                  for answer in asked[group[0]].candidates] for group in block]
        places = {text: place for place, text in enumerate(dict.fromkeys(text for some in texts for text in some))}
        vectors = encode(list(places)).to(images.device)
        check_width(vectors, images)
        for group, some in zip(block, texts):
            own = vectors[torch.tensor([places[text] for text in some], device=images.device)]  # (K, D)
            shown = images[torch.tensor([asked[place].image for place in group], device=images.device)]
            # In whole tiles, so that statements of one vector are equally similar, to the bit.
            scores = (unit_rows(shown) @ unit_rows(own.to(images.dtype)).T)[:len(shown), :len(own)]
            is_best = (scores == scores.amax(1, keepdim=True)).cpu()
            for place, row in zip(group, is_best):
                found[place] = row.nonzero().squeeze(1).tolist()
    return found


def best_possible(candidates: Sequence[str], answers: Sequence[str], definition: str = 'leave_one_out') -> float:
    """The accuracy of the best candidate: what filtering leaves to be reached."""
    # Whatever else is among the candidates matches nobody.
    given = {answer.strip() for answer in answers} | {normalise_answer(answer) for answer in answers}
    return max((answer_accuracy(answer, answers, definition) for answer in given & {*candidates}), default=0.0)


def _blocks(asked: Sequence[Asked]) -> Iterator[list[list[int]]]:
    """Groups of questions with one statement and the same candidates, as many at once as have some thousand texts."""
    groups: dict[tuple[str, tuple[tuple[str, str], ...], int], list[int]] = {}
    for place, each in enumerate(asked):
        words = tuple(sorted(each.template.words.items()))
        groups.setdefault((each.template.statement, words, id(each.candidates)), []).append(place)
    block, texts = [], 0
    for group in groups.values():
        if block and texts + len(asked[group[0]].candidates) > _TEXTS_PER_BLOCK:
            yield block
            block, texts = [], 0
        block.append(group)
        texts += len(asked[group[0]].candidates)
    if block:
        yield block
