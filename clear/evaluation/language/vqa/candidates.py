"""Which answers are tried for a question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from clear.core.checks import check_whole
from clear.core.errors import DataError
from clear.evaluation.language.vqa.answers import normalise_answer
from clear.evaluation.language.vqa.templates import Template

YES_NO = ('yes', 'no')


class CandidateFilter(Protocol):
    """Chooses the answers that are filled into a statement."""

    def candidates(self, template: Template, kind: str) -> list[str]:
        """Different answers, normalised, the best guess first; `kind` is the answer type or the question's beginning,
        and 'yes/no' for a question that asks for one of the two.
        """


class FrequencyFilter:
    """The k answers that are most frequent in other questions of a kind; 'yes' and 'no' to a yes/no question.

    Args:
        counts: kind of question, 'number' or 'what color is the' -> answer -> how often it was given. Answers that are
            the same after `normalise_answer` count together; of equally frequent ones the first by spelling is before
            the other.
        k: how many for each question.

    Raises:
        ConfigError: for a k below 1.
    """

    def __init__(self, counts: Mapping[str, Mapping[str, int]], k: int = 100):
        check_whole('k', k, 1)
        self.ranked = {'yes/no': list(YES_NO)}
        for kind, answers in counts.items():
            merged: Counter[str] = Counter()
            for answer, count in answers.items():
                merged[normalise_answer(answer)] += count
            merged.pop('', None)
            self.ranked.setdefault(kind, sorted(merged, key=lambda answer: (-merged[answer], answer))[:k])

    def candidates(self, template: Template, kind: str) -> list[str]:
        """Those of the kind.

        Raises:
            DataError: if no answer of that kind was counted.
        """
        if not self.ranked.get(kind):
            raise DataError(f"No answers to questions of the kind '{kind}' were counted, so it has no candidates; "
                            f'there are answers of the kinds {", ".join(map(repr, [*self.ranked][:5]))}.')
        return self.ranked[kind]
