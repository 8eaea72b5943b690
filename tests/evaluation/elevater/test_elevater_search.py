"""ELEVATER's search, on scores that are known."""

import math

import pytest

from clear.core.errors import ConfigError, TrainingError
from clear.evaluation.elevater.heads.search import L2S, LRS, Candidate, check_search, search_grid, search_peaks
from clear.evaluation.image.sweep import peak_search

FIRST = [0, 16, 32, 48, 64, 80, 96]


def scorer(function, calls=None):
    """Scores of candidates by their places (number of the rate, place of the weight decay)."""
    def score(candidates):
        if calls is not None:
            calls.append(candidates)
        return [function(LRS.index(lr), L2S.index(l2)) for lr, l2 in candidates]
    return score


def tent(peak):
    return lambda rate, place: (rate + 1) / 10 - abs(place - peak) / 1000


def test_grid_of_weight_decays_is_log_spaced():
    assert len(L2S) == 97 and (L2S[0], L2S[48], L2S[-1]) == pytest.approx((1e-6, 1.0, 1e6))
    assert all(b / a == pytest.approx(10 ** 0.125) for a, b in zip(L2S, L2S[1:]))


def test_a_peak_at_37_is_found_by_the_places_of_the_toolkit():
    found = search_peaks(scorer(tent(37)))
    assert found.best == Candidate(LRS[5], L2S[37])
    assert found.score == pytest.approx(0.6)
    # 32 is the best of the first; 40 beats it; 36; 38 does not, then 35 and 37.
    places = [*FIRST, 24, 40, 36, 44, 34, 38, 35, 37]
    assert [(LRS.index(entry.lr), L2S.index(entry.l2)) for entry, _ in found.visited] == \
        [(rate, place) for rate in range(6) for place in places]


def toolkit(score, left_only=False):
    """The toolkit's loop for one rate, in the words of the protocol: (place that wins, its score, places trained)."""
    best, highest, trained = 0, 0.0, []

    def attempt(place, train):
        nonlocal best, highest
        trained.append(train)
        if score(train) > highest:
            best, highest = place, score(train)

    for place in FIRST:
        attempt(place, place)
    span = 8
    while span > 0:
        left, right = max(best - span, 0), min(best + span, 96)
        for place in [place for place in (left, right) if place != best]:
            attempt(place, left if left_only else place)
        span //= 2
    return best, highest, trained


@pytest.mark.parametrize('left_only', [False, True])
@pytest.mark.parametrize('peak', [0, 1, 5, 37, 50, 91, 95, 96])
def test_search_is_that_of_the_toolkit(peak, left_only):
    shape = [math.cos(place * 0.9) / 5 - abs(place - peak) / 50 + 2 for place in range(97)]
    found = search_peaks(scorer(lambda rate, place: shape[place]), wd_search_left=left_only)
    best, highest, trained = toolkit(lambda place: shape[place], left_only)
    assert found.best == Candidate(LRS[0], L2S[best])  # all rates alike: the first stays
    assert found.score == highest
    assert [L2S.index(entry.l2) for entry, _ in found.visited[:len(trained)]] == trained
    assert len(found.visited) == 6 * len(trained)


def test_wd_search_left_never_goes_right():
    assert search_peaks(scorer(tent(37)), wd_search_left=True).best.l2 == L2S[32]


def test_stages_of_all_rates_are_scored_together():
    calls = []
    search_peaks(scorer(tent(37), calls))
    assert [len(call) for call in calls] == [42, 12, 12, 12, 12]


def test_a_rate_whose_search_is_at_the_edge_asks_for_less():
    calls = []
    search_peaks(scorer(lambda rate, place: 1 - place / 100 if rate else 1 - abs(place - 37) / 100, calls))
    assert [len(call) for call in calls] == [42, 7, 7, 7, 7]


@pytest.mark.parametrize('search', [search_peaks, search_grid])
def test_failures_score_0_and_never_win(search):
    assert search(scorer(lambda rate, place: 0.5 if (rate, place) == (3, 48) else math.nan)).best == \
        Candidate(LRS[3], L2S[48])
    with pytest.raises(TrainingError, match='None of the [0-9]+ candidates'):
        search(scorer(lambda rate, place: 0.0))


def test_the_grid_never_ends_below_the_search():
    for seed in range(5):
        def bumpy(rate, place, seed=seed):
            return 1 + math.sin(place * (seed + 1) / 7) + math.sin(rate * 3 + seed)
        grid, peaks = search_grid(scorer(bumpy)), search_peaks(scorer(bumpy))
        best = max(bumpy(rate, place) for rate in range(6) for place in range(97))
        assert grid.score == best >= peaks.score
        assert len(grid.visited) == 582


def test_each_rate_is_searched_as_alone():
    found = search_peaks(scorer(lambda rate, place: 1 / (1 + abs(place - 13 * rate))))
    for rate in range(6):
        alone = peak_search(lambda place, rate=rate: 1 / (1 + abs(place - 13 * rate)), keep_centre=True)
        visited = [L2S.index(entry.l2) for entry, _ in found.visited if entry.lr == LRS[rate]]
        assert tuple(visited) == alone.visited


def test_no_search_takes_both_values():
    assert check_search('none', 0.1, 1e-6, False) == Candidate(0.1, 1e-6)
    assert check_search('exact', None, None, True) is None
    for arguments in [('none', 0.1, None, False), ('exact', 0.1, 1e-6, False), ('grid', None, None, True),
                      ('best', None, None, False)]:
        with pytest.raises(ConfigError):
            check_search(*arguments)
