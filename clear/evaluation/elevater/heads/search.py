"""ELEVATER's search for a learning rate and a weight decay, one candidate after another or many at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clear.core.checks import check_choice, check_number
from clear.core.errors import ConfigError, TrainingError
from clear.evaluation.image.sweep import peak_stages

LRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
L2S = tuple(10 ** (-6 + place / 8) for place in range(97))  # 1e-6 ... 1e6
SEARCHES = ('exact', 'grid', 'none')
_FIRST_STEP = 16


class Candidate(NamedTuple):
    """A learning rate and a weight decay."""

    lr: float
    l2: float


@dataclass(frozen=True)
class Found:
    """What a search chose.

    Args:
        score: of the best candidate on validation.
        visited: every candidate that was trained, with its score, rate by rate in the order of the search.
    """

    best: Candidate
    score: float
    visited: list[tuple[Candidate, float]]

    def table(self) -> list[dict[str, float]]:
        """The candidates as plain values."""
        return [dict(lr=candidate.lr, l2=candidate.l2, score=score) for candidate, score in self.visited]


def search_peaks(score: Callable[[list[Candidate]], Sequence[float]], lrs: Sequence[float] = LRS,
                 l2s: Sequence[float] = L2S, *, wd_search_left: bool = False) -> Found:
    """The search of ELEVATER (Li et al. 2022, arXiv:2204.08790, their code).

    For each rate, weight decays 16 places apart, then those 8, 4, 2 and 1 places left and right of the best so far,
    which keeps its score; over rates, ascending, the best of each is compared. Only a strictly better score wins
    anywhere. A candidate that failed, or whose score is NaN, scores 0.

    The rates do not depend on each other, so their searches go on in step: a call of `score` gets a stage of all of
    them, 42 candidates at first, then up to 12 at a time, and no candidate twice: training is repeatable.

    Args:
        score: candidates -> the score of each on validation, higher is better.
        wd_search_left: legacy, the flag WD_SEARCH_LEFT of the toolkit: behind the first stage the weight decay on the
            left is trained in place of the right one too, whose place it then has. Where training is repeatable the
            right one never wins.

    Raises:
        TrainingError: if no candidate scores above 0.
    """
    searches = [peak_stages(len(l2s), _FIRST_STEP, keep_centre=True) for _ in lrs]
    asked: list[tuple] = [next(search) for search in searches]
    peaks: list = [None] * len(lrs)
    known: dict[Candidate, float] = {}
    visited: list[list[tuple[Candidate, float]]] = [[] for _ in lrs]
    is_first = True
    while any(asked):
        stage = [[Candidate(lr, l2s[place]) for place in _trained(each, wd_search_left and not is_first)]
                 for lr, each in zip(lrs, asked)]
        new = [candidate for candidate in dict.fromkeys(itertools.chain(*stage)) if candidate not in known]
        known.update(zip(new, map(float, score(new) if new else ())))
        for number, candidates in enumerate(stage):
            visited[number] += [(candidate, known[candidate]) for candidate in candidates]
            try:
                asked[number] = searches[number].send([known[candidate] for candidate in candidates]) \
                    if candidates else ()
            except StopIteration as ended:
                peaks[number], asked[number] = ended.value, ()
        is_first = False
    return _best([(Candidate(lr, l2s[peak.index]), peak.score) for lr, peak in zip(lrs, peaks)],
                 [entry for entries in visited for entry in entries])


def search_grid(score: Callable[[list[Candidate]], Sequence[float]], lrs: Sequence[float] = LRS,
                l2s: Sequence[float] = L2S) -> Found:
    """Every rate with every weight decay; of equal scores the lower rate wins, then the lower weight decay.

    On the same scores it never ends below `search_peaks`, whose candidates are among these.

    Args:
        score: as there; called once.

    Raises:
        TrainingError: if no candidate scores above 0.
    """
    candidates = [Candidate(lr, l2) for lr in lrs for l2 in l2s]
    visited = list(zip(candidates, map(float, score(candidates))))
    return _best(visited, visited)


def _trained(stage: tuple[int, list[int]] | tuple[()], left_only: bool) -> list[int]:
    """The places whose weight decays are trained for a stage."""
    if not stage:
        return []
    best, places = stage
    return [min(best, *places)] * len(places) if left_only else places


def _best(winners: list[tuple[Candidate, float]], visited: list[tuple[Candidate, float]]) -> Found:
    best, highest = None, 0.0
    for candidate, score in winners:
        if score > highest:  # never true of NaN
            best, highest = candidate, score
    if best is None:
        raise TrainingError(f'None of the {len(visited)} candidates scores above 0 on validation: every one diverged, '
                            'or the features hold nothing about these classes.')
    return Found(best, highest, visited)


def check_search(search: str, lr: float | None, l2: float | None, wd_search_left: bool) -> Candidate | None:
    """The candidate that takes the place of a search; None where there is one.

    Raises:
        ConfigError: for an unknown search, or values that do not go with it.
    """
    check_choice('search', search, SEARCHES)
    if wd_search_left and search != 'exact':
        raise ConfigError(f"wd_search_left is of search='exact'; search is {search!r}.")
    if search != 'none':
        if lr is not None or l2 is not None:
            raise ConfigError(f"lr and l2 are given in place of a search: search='none'; search is {search!r}.")
        return None
    if lr is None or l2 is None:
        raise ConfigError("search='none' needs lr and l2, as in lr=0.1, l2=1e-6.")
    return Candidate(float(check_number('lr', lr, above=0)), float(check_number('l2', l2, 0)))
