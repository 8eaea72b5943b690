"""The search over log-spaced weight decays that linear probes of image-text models share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clear.core.checks import check_flag, check_number, check_whole
from clear.core.errors import ConfigError

SEARCHES = ('grid', 'peak')


@dataclass(frozen=True)
class Peak:
    """Where a search ended.

    Attributes:
        index: the place in the grid that won.
        score: its score; 0 if no place scored above 0.
        visited: every place that was asked, in that order, again where it was asked again.
    """

    index: int
    score: float
    visited: tuple[int, ...]


def peak_search(score: Callable[[int], float], n: int = 97, start_step: int = 16, *, keep_centre: bool = False) -> Peak:
    """Look for the highest score of a grid, first coarsely, then around the best place with ever shorter spans.

    The places 0, `start_step`, 2 `start_step`, ... come first; then, for spans of half of `start_step`, a quarter, ...
    1, those one span left and right of the best so far, cut to the grid (Radford et al. 2021, arXiv:2103.00020, A.3;
    97 places and a first step of 16 as there). Only a strictly higher score wins, so that the first of equals stays. A
    score of NaN, that of a setting that failed, counts as 0, and where nothing scores above 0 place 0 is the best.

    Two searches of this shape are in use. CLIP_benchmark's asks left, centre and right anew in every span and begins
    with nothing, so that on a plateau it drifts to the left, which is weaker decay, by up to the sum of the spans; a
    clamped neighbour is the centre once more. ELEVATER's keeps the centre and its score, and asks only for left and
    right where these are others: it stays where it is on a plateau.

    Args:
        score: place -> score, higher is better. Asked again for a place it was asked for before: wrap it in
            `functools.cache` where an answer is costly and always the same.
        n: places in the grid.
        start_step: distance of the first places.
        keep_centre: ELEVATER's rule; otherwise CLIP_benchmark's.

    Raises:
        ConfigError: for fewer than 1 place or a step below 1.

    Example:
        >>> peak_search(lambda place: 97 - abs(place - 37)).index
        37
    """
    stages = peak_stages(n, start_step, keep_centre=keep_centre)
    _, places = next(stages)
    try:
        while True:
            _, places = stages.send([score(place) for place in places])
    except StopIteration as ended:
        return ended.value


def peak_stages(n: int = 97, start_step: int = 16, *, keep_centre: bool = False
                ) -> Generator[tuple[int, list[int]], Sequence[float], Peak]:
    """`peak_search` for those who score several places at once, or run several searches together.

    Yields the best place so far and the places of the next stage, which do not depend on each other; is sent their
    scores; returns the peak.

    Args:
        n, start_step, keep_centre: as there.

    Raises:
        ConfigError: as there.
    """
    check_whole('n', n, 1)
    check_whole('start_step', start_step, 1)
    check_flag('keep_centre', keep_centre)
    visited: list[int] = []
    best, highest = 0, 0.0
    places, span = list(range(0, n, start_step)), start_step
    while span:
        scores = yield best, places
        visited += places
        if not keep_centre:
            best, highest = 0, 0.0
        for place, found in zip(places, scores):
            if found > highest:  # never true of NaN
                best, highest = place, found
        span //= 2
        left, right = max(best - span, 0), min(best + span, n - 1)
        places = [place for place in (left, right) if place != best] if keep_centre else [left, best, right]
    return Peak(best, highest, tuple(visited))


def spaced_values(where: str, values: Sequence[float] | Mapping) -> Sequence[float]:
    """A list as it is; `dict(lowest=, highest=, count=)` as so many values, evenly spaced on a log scale.

    Raises:
        ConfigError: for other keys, or bounds that are not positive and ascending.
    """
    if not isinstance(values, Mapping):
        return values
    if set(values) != {'lowest', 'highest', 'count'}:
        raise ConfigError(f'{where} is {dict(values)}; expected a list, or dict(lowest=, highest=, count=).')
    lowest = check_number(f'{where}.lowest', values['lowest'], above=0)
    highest = check_number(f'{where}.highest', values['highest'], above=lowest)
    count = check_whole(f'{where}.count', values['count'], 2, 10_000)
    return np.logspace(np.log10(lowest), np.log10(highest), count).tolist()
