"""The rows that ELEVATER draws and holds out, against its rule word by word and cases worked out by hand."""

import random

import numpy as np
import pytest

from clear.core.errors import ConfigError, DataError
from clear.evaluation.elevater.sampler import few_shot_rows, label_vectors, protocol_shots, validation_rows


def random_labels(count, classes, seed, most=3, least=0):
    rng = random.Random(seed)
    return [rng.sample(range(classes), rng.randint(least, most)) for _ in range(count)]


def drawn_by_the_rule(labels, n, seed, classes):
    """The rule as it is written, counting anew each time."""
    rows = list(range(len(labels)))
    random.Random(seed).shuffle(rows)
    taken = []

    def count(label):
        return sum(label in labels[row] for row in taken)

    for row in rows:
        own = labels[row]
        if not own:
            if sum(not labels[other] for other in taken) < n:
                taken.append(row)
            continue
        counts = [count(label) for label in own]
        if all(number >= n for number in counts):
            continue
        if min(counts) <= n / 2 or max(counts) <= 1.5 * n:
            taken.append(row)
        if all(count(label) >= n for label in range(classes)):
            break
    return taken


@pytest.mark.parametrize('n', [1, 2, 5])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_multi_label_rows_follow_the_rule(n, seed):
    labels = random_labels(80, 4, seed)
    assert few_shot_rows(labels, n, seed, 4) == drawn_by_the_rule(labels, n, seed, 4)


def test_rows_of_one_label_are_the_first_of_each_class_in_shuffled_order():
    labels = [[row % 3] for row in range(31)] + [[3]]
    order = list(range(32))
    random.Random(7).shuffle(order)
    expected = [[row for row in order if labels[row] == [label]][:5] for label in range(4)]
    drawn = few_shot_rows(labels, 5, 7)
    assert sorted(drawn) == sorted(sum(expected, [])) and drawn == [row for row in order if row in drawn]
    assert few_shot_rows(labels, 5, 7) == drawn and few_shot_rows(labels, 5, 8) != drawn
    assert np.bincount([labels[row][0] for row in drawn]).tolist() == [5, 5, 5, 1]  # all of a class that has fewer


def test_it_ends_when_all_classes_are_full_but_not_for_a_class_without_rows():
    labels = [[0]] * 20 + [[]] * 20
    drawn = few_shot_rows(labels, 2, 0)
    order = list(range(40))
    random.Random(0).shuffle(order)
    place = order.index([row for row in order if row < 20][1])
    assert drawn == [row for row in order[:place + 1] if row in drawn] and len(drawn) <= 4
    assert sum(row >= 20 for row in few_shot_rows(labels, 2, 0, num_classes=2)) == 2


def validation_by_the_rule(labels, fraction, classes):
    """The greedy rule with a matrix from which what was chosen is wiped."""
    left = label_vectors(labels, classes).astype(float)
    wanted = np.ceil(left.sum(0) * fraction)
    chosen = []
    while (wanted > 0).any():
        first = int(np.flatnonzero(wanted > 0)[0])
        row = int(np.flatnonzero(left[:, first] > 0)[0])
        chosen.append(row)
        wanted -= left[row]
        left[row] = 0
    return sorted(chosen)


@pytest.mark.parametrize('fraction', [0.2, 0.5])
@pytest.mark.parametrize('seed', range(4))
def test_what_is_held_out_of_rows_with_several_labels(fraction, seed):
    labels = random_labels(61, 5, seed)
    train, val = validation_rows(labels, fraction, 5)
    assert val == validation_by_the_rule(labels, fraction, 5)
    assert sorted(train + val) == list(range(61)) and train == sorted(train)


def test_of_one_label_the_first_fifth_rounded_up_is_held_out():
    labels = [[1], [0], [0], [1], [0], [0], [0], [0], [2]]  # 6 of class 0 -> 2, 2 of class 1 -> 1, 1 of class 2 -> 1
    assert validation_rows(labels) == ([3, 4, 5, 6, 7], [0, 1, 2, 8])


def test_one_shot_is_two_without_merging():
    assert protocol_shots(1) == (2, False) and protocol_shots(5) == (5, True)


def test_label_vectors():
    assert label_vectors([[2, 0], [], [1]], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize('call, error, message', [
    (lambda: few_shot_rows([[0]], 0, 0), ConfigError, 'n_shot is 0'),
    (lambda: few_shot_rows([[0], [-1]], 1, 0), DataError, 'the label -1'),
    (lambda: few_shot_rows([[4]], 1, 0, 4), DataError, 'the label 4, but there are only 4'),
    (lambda: validation_rows([[0]], 1.0), ConfigError, 'val_fraction is 1.0'),
    (lambda: protocol_shots(-1), ConfigError, 'n_shot is -1')])
def test_wrong_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
