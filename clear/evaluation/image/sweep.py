"""The search over log-spaced weight decays that linear probes of image-text models share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from clear.core.checks import check_flag, check_whole


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
    check_whole('n', n, 1)
    check_whole('start_step', start_step, 1)
    check_flag('keep_centre', keep_centre)
    visited: list[int] = []

    def best_of(places: list[int], best: int, highest: float) -> tuple[int, float]:
        for place in places:
            visited.append(place)
            found = score(place)
            if found > highest:  # never true of NaN
                best, highest = place, found
        return best, highest

    best, highest = best_of(list(range(0, n, start_step)), 0, 0.0)
    span = start_step // 2
    while span:
        left, right = max(best - span, 0), min(best + span, n - 1)
        if keep_centre:
            best, highest = best_of([place for place in (left, right) if place != best], best, highest)
        else:
            best, highest = best_of([left, best, right], 0, 0.0)
        span //= 2
    return Peak(best, highest, tuple(visited))
