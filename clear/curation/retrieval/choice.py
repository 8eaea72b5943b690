"""Which candidates stay: one class for each image, k for each class, and a background that is like none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clear.core.errors import DataError
from clear.curation.retrieval.search import Hits

CONFLICTS = ('argmax', 'drop', 'allow')


@dataclass(frozen=True)
class Candidates:
    """Images, each as a candidate of a class.

    Attributes:
        classes: (M,) int64 positions of classes.
        scores: (M,) float32, the higher the better.
        ids, rows: (M,) int64; rows are counted through the banks of the bucket.
    """

    classes: np.ndarray
    scores: np.ndarray
    ids: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, chosen: np.ndarray) -> Candidates:
        return Candidates(self.classes[chosen], self.scores[chosen], self.ids[chosen], self.rows[chosen])

    def ordered(self) -> Candidates:
        """By class, score and id."""
        return self.take(np.lexsort((self.ids, -self.scores, self.classes)))

    def counts(self, num_classes: int) -> np.ndarray:
        """(C,) candidates of each class."""
        return np.bincount(self.classes, minlength=num_classes)

    def firsts(self, k: int) -> Candidates:
        """The best k of each class, in the order of `ordered`."""
        ordered = self.ordered()
        counts = ordered.counts(1)
        places = np.arange(len(ordered)) - np.repeat(np.cumsum(counts) - counts, counts)
        return ordered.take(places < k)


def candidates_of(hits: Hits, sign: int = 1) -> Candidates:
    """What was found for each class.

    Args:
        sign: -1 for the least similar, whose score is the negative cosine.

    Raises:
        DataError: for ids that are no whole numbers.
    """
    if hits.ids.dtype == object:
        raise DataError(f"the bank's id '{hits.ids.ravel()[0]}' is no whole number; ids of curation are.")
    num_classes, count = hits.ids.shape
    return Candidates(np.repeat(np.arange(num_classes), count), hits.scores.ravel() * np.float32(sign),
                      hits.ids.ravel(), hits.rows.ravel())


def settle(candidates: Candidates, conflict: str) -> Candidates:
    """Images that are candidates of several classes.

    Args:
        conflict: 'argmax' gives each to the class with the highest score, of equal ones the first; 'drop' to none;
            'allow' to all.
    """
    if conflict == 'allow':
        return candidates
    if conflict == 'drop':
        _, place, counts = np.unique(candidates.ids, return_inverse=True, return_counts=True)
        return candidates.take(counts[place] == 1)
    ordered = candidates.take(np.lexsort((candidates.classes, -candidates.scores, candidates.ids)))
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered.ids[1:] != ordered.ids[:-1]
    return ordered.take(is_first)


def background_of(candidates: Candidates, used: np.ndarray, k: int, ratio: float) -> Candidates:
    """The background: of each class, in order, the first share of its k least similar images that none has taken yet.

    Args:
        candidates: the least similar ones, each of one class; scores are negative cosines.
        used: ids of the images that classes have.
        ratio: the share, of the candidates that the class has, at most k.

    Returns:
        All of them by (negative cosine, id); `classes` says which class each is unlike.
    """
    firsts = candidates.firsts(k)
    parts = []
    for place in range(int(firsts.classes.max()) + 1 if len(firsts) else 0):
        own = firsts.take(firsts.classes == place)
        free = own.take(~np.isin(own.ids, used))
        parts.append(free.take(slice(0, int(len(own) * ratio))))
        used = np.concatenate([used, parts[-1].ids])
    if not parts:
        return firsts
    found = Candidates(*(np.concatenate([getattr(part, name) for part in parts])
                         for name in ('classes', 'scores', 'ids', 'rows')))
    return found.take(np.lexsort((found.ids, -found.scores)))


def shortfalls(candidates: Candidates, labels: Sequence[str], k: int) -> dict[str, int]:
    """Classes with fewer than k candidates, and how many they have."""
    return {label: int(count) for label, count in zip(labels, candidates.counts(len(labels))) if count < k}
