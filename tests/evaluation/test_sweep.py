"""The search for the peak of a grid: the places that it visits, written out by hand."""

import math

import numpy as np
import pytest
import torch

from clear.core.errors import ConfigError
from clear.evaluation.image.sweep import peak_search

FIRST = (0, 16, 32, 48, 64, 80, 96)


def tent(peak: int):
    return lambda place: 97 - abs(place - peak)


def test_left_centre_and_right_are_asked_anew_around_a_peak_at_37():
    found = peak_search(tent(37))
    assert found.visited == (*FIRST, 24, 32, 40, 36, 40, 44, 34, 36, 38, 35, 36, 37)
    assert (found.index, found.score) == (37, 97)


def test_a_kept_centre_is_not_asked_again():
    found = peak_search(tent(37), keep_centre=True)
    assert found.visited == (*FIRST, 24, 40, 36, 44, 34, 38, 35, 37)
    assert (found.index, found.score) == (37, 97)


@pytest.mark.parametrize('keep_centre', [False, True])
def test_every_single_peak_is_found(keep_centre):
    found = [peak_search(tent(peak), keep_centre=keep_centre).index for peak in range(97)]
    assert found == list(range(97))


def test_a_plateau_drifts_to_weaker_decay_unless_the_centre_is_kept():
    def flat(place):
        return 0.5 if 33 <= place <= 60 else 0.1

    # 48 is the only coarse place on it, then come 40, 36, 34 and 33: 8 + 4 + 2 + 1 places to the left.
    assert peak_search(flat).visited == (*FIRST, 40, 48, 56, 36, 40, 44, 34, 36, 38, 33, 34, 35)
    assert peak_search(flat).index == 33
    assert peak_search(flat, keep_centre=True).index == 48
    assert peak_search(lambda place: 0.5).index == 0


def test_the_edges_cut_the_spans():
    assert peak_search(tent(0)).visited == (*FIRST, 0, 0, 8, 0, 0, 4, 0, 0, 2, 0, 0, 1)
    assert peak_search(tent(96)).visited == (*FIRST, 88, 96, 96, 92, 96, 96, 94, 96, 96, 95, 96, 96)
    assert peak_search(tent(0), keep_centre=True).visited == (*FIRST, 8, 4, 2, 1)


def test_failures_count_as_zero():
    assert peak_search(lambda place: math.nan if place % 32 else 0.2 + place / 1000).index == 96
    assert peak_search(lambda place: 0.3 if place == 96 else math.nan).index == 96
    nothing = peak_search(lambda place: math.nan)
    assert (nothing.index, nothing.score) == (0, 0.0)


def test_a_search_is_as_small_as_it_is_asked_to_be():
    assert peak_search(tent(0), n=1).index == 0
    assert peak_search(lambda place: float(place), n=5, start_step=1).visited == (0, 1, 2, 3, 4)
    with pytest.raises(ConfigError, match='n is 0'):
        peak_search(tent(0), n=0)
    with pytest.raises(ConfigError, match='start_step'):
        peak_search(tent(0), start_step=0)


def test_it_equals_clip_benchmark(monkeypatch):
    """Its own search, with training and inference replaced: they need CUDA."""
    probe = pytest.importorskip('clip_benchmark.metrics.linear_probe')
    decays = np.logspace(-6, 2, num=97).tolist()
    scores = torch.rand(97, generator=torch.Generator().manual_seed(0)).mul(20).round().div(20).tolist()
    monkeypatch.setattr(probe, 'train', lambda loader, dim, classes, decay, *rest: decays.index(decay))
    monkeypatch.setattr(probe, 'infer', lambda model, *rest: (torch.tensor(scores[model]), torch.tensor(0.)))
    monkeypatch.setattr(probe, 'accuracy', lambda logits, target, topk: [logits.item()])
    asked = []

    def find(places):
        asked.extend(places)
        return probe.find_peak(decays, places, None, None, 1, 1, 0.1, 1, False, 'cpu', False, 0)

    best, span = find([place for place, value in enumerate(decays) if value in np.logspace(-6, 2, num=7).tolist()]), 8
    while span > 0:
        best = find([max(best - span, 0), best, min(best + span, 96)])
        span //= 2
    found = peak_search(scores.__getitem__)
    assert (found.index, list(found.visited)) == (best, asked)
