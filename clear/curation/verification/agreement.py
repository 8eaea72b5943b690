"""How far reviewers agree beyond chance, and how sure a share is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_Z = 1.959963984540054  # of 95 %


@dataclass(frozen=True)
class Agreement:
    """Of all images that two or more people answered for.

    Attributes:
        method: 'cohen' of two reviewers, 'fleiss' of more; '' of one.
        kappa: 1 if they always agree, 0 if as often as by chance; None if that is not defined, because all said one
            thing.
        images: how many there are.
        share: of pairs of answers for one image that are the same; None without images.
    """

    method: str
    kappa: float | None
    images: int
    share: float | None


def agreement(answers: Mapping[object, Mapping[str, str]]) -> Agreement:
    """Of image -> reviewer -> verdict."""
    reviewers = sorted({name for given in answers.values() for name in given})
    several = [given for given in answers.values() if len(given) > 1]
    if len(reviewers) < 2 or not several:
        return Agreement('', None, len(several), None)
    counts = [Counter(given.values()) for given in several]
    pairs = sum(_same(each) for each in counts) / sum(math.comb(sum(each.values()), 2) for each in counts)
    if len(reviewers) == 2:
        kappa = cohen_kappa(*([given[name] for given in several] for name in reviewers))
        return Agreement('cohen', kappa, len(several), pairs)
    return Agreement('fleiss', fleiss_kappa(counts), len(several), pairs)


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa (1960) of two reviewers' verdicts on the same images."""
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    shares = [Counter(verdicts) for verdicts in (one, other)]
    expected = sum(shares[0][verdict] * shares[1][verdict] for verdict in shares[0]) / len(one) ** 2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def fleiss_kappa(counts: Sequence[Mapping[str, int]]) -> float | None:
    """Fleiss' kappa (1971); images may have different numbers of answers, two at least.

    Each image's agreement is the share of its pairs of answers that are the same, and each counts alike; the shares of
    the verdicts are those of all answers. With equal numbers that is Fleiss' formula.

    Args:
        counts: of each image, verdict -> answers.
    """
    observed = sum(_same(each) / math.comb(sum(each.values()), 2) for each in counts) / len(counts)
    total = sum((Counter(each) for each in counts), Counter())
    answers = sum(total.values())
    expected = sum((count / answers) ** 2 for count in total.values())
    return None if expected == 1 else (observed - expected) / (1 - expected)


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Wilson's interval (1927) that holds a share with 95 % confidence; (0, 1) of nothing."""
    if not count:
        return 0.0, 1.0
    share, z2 = hits / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def _same(counts: Mapping[str, int]) -> int:
    """Pairs of answers that are the same."""
    return sum(math.comb(count, 2) for count in counts.values())
