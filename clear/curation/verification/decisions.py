"""What many answers come to: accepted, rejected, a tie, or not answered by enough people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from clear.curation.verification.answers import ACCEPT, REJECT, Answer

RULES = ('majority', 'unanimous')
TIE, FEW = 'tie', 'few'

Shown = tuple[str, str, int]  # bucket, label, id: one image may be shown in several classes


@dataclass
class Answers:
    """The answers that count.

    Attributes:
        given: image -> reviewer -> verdict.
        repeated: answers that the same reviewer took back by a later one.
        unknown: answers for images that were not selected there.
    """

    given: dict[Shown, dict[str, str]] = field(default_factory=dict)
    repeated: int = 0
    unknown: list[Answer] = field(default_factory=list)


def collect(answers: Iterable[Answer], known: Container[Shown]) -> Answers:
    """The last answer of every reviewer for every image that is known."""
    found = Answers()
    for answer in answers:
        shown = answer.bucket, answer.label, answer.id
        if shown not in known:
            found.unknown.append(answer)
            continue
        by_reviewer = found.given.setdefault(shown, {})
        found.repeated += answer.reviewer in by_reviewer
        by_reviewer[answer.reviewer] = answer.verdict
    return found


def decide(verdicts: Mapping[str, str], rule: str, min_reviewers: int) -> str:
    """'accept', 'reject', 'tie' or 'few', of reviewer -> verdict.

    'majority' takes what more people said; 'unanimous' accepts what nobody rejected, and knows no tie.
    """
    if len(verdicts) < min_reviewers:
        return FEW
    counts = Counter(verdicts.values())
    if rule == 'unanimous':
        return REJECT if counts[REJECT] else ACCEPT
    if counts[ACCEPT] == counts[REJECT]:
        return TIE
    return max((ACCEPT, REJECT), key=counts.__getitem__)


def kept(ranked: Sequence[str], most: int | None) -> list[int]:
    """Places of the first `most` accepted of decisions in order of rank."""
    return [place for place, decision in enumerate(ranked) if decision == ACCEPT][:most]
