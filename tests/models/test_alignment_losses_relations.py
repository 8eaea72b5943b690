"""Regression, relations, classes, and what pretraining's losses become in legacy: against loops, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_losses_contrastive import agree, close, dot, leaf, log_softmax_of, unit

from clear.models.losses import (
    BarlowTwinsLoss,
    PromptedCrossEntropyLoss,
    RKDLoss,
    SimRegLoss,
    VICRegLoss,
)
from clear.models.losses.alignment import rkd_loss


def towers(batch, dim=4, student_dim=None, seed=0):
    return leaf(2 * unit(batch, dim, seed=seed) + 0.2), leaf(unit(batch, student_dim or dim, seed=seed + 1) - 0.1)


def units(tower):
    return [row / dot(row, row).sqrt() for row in tower]


def smooth(a, b):
    gap = (a - b).abs()
    return gap ** 2 / 2 if gap < 1 else gap - 0.5


NORMS = {'l2': lambda a, b: (a - b) ** 2, 'l1': lambda a, b: (a - b).abs(), 'smooth_l1': smooth}


@pytest.mark.parametrize('batch, dim', [(1, 3), (4, 2), (5, 7)])
@pytest.mark.parametrize('norm', NORMS)
def test_simreg_matches_loops(norm, batch, dim):
    teacher, student = towers(batch, dim)
    expected = sum(NORMS[norm](a, b) for one, other in zip(units(teacher), units(student)) for a, b in zip(one, other))
    agree(SimRegLoss(norm)(teacher, student), expected / (batch * dim), [teacher, student])


def test_simreg_reaches_the_far_side_of_smooth_l1():
    value = SimRegLoss('smooth_l1')(torch.tensor([[1.0, 0.0]]), torch.tensor([[-1.0, 0.0]]))
    assert value.item() == pytest.approx((2 - 0.5) / 2)


def rkd_by_loops(teacher, student, distance_weight, angle_weight):
    tables, cosines = [], []
    for tower in (teacher, student):
        rows = units(tower)
        table = [[dot(a - b, a - b).clamp_min(1e-12).sqrt() if i != j else 0 for j, b in enumerate(rows)]
                 for i, a in enumerate(rows)]
        mean = sum(map(sum, table)) / (len(rows) * (len(rows) - 1))
        tables.append([value / mean for line in table for value in line])
        directions = [[(b - a) / dot(b - a, b - a).sqrt() if i != j else 0 * a for j, b in enumerate(rows)]
                      for i, a in enumerate(rows)]
        cosines.append([dot(one, other) for at in directions for one in at for other in at])
    total = 0
    for weight, pair in ((distance_weight, tables), (angle_weight, cosines)):
        gaps = [smooth(torch.as_tensor(b), torch.as_tensor(a)) for a, b in zip(*pair)]
        total = total + weight * sum(gaps) / len(gaps)
    return total


@pytest.mark.parametrize('batch, dims', [(2, (3, 3)), (3, (2, 5)), (5, (4, 4))])
@pytest.mark.parametrize('weights', [(0.5, 1.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize('numbers', [1, 60, 10 ** 6])
def test_rkd_matches_loops_whatever_the_parts(monkeypatch, batch, dims, weights, numbers):
    monkeypatch.setitem(rkd_loss.PART_NUMBERS, 'cpu', numbers)
    teacher, student = towers(batch, *dims)
    agree(RKDLoss(*weights)(teacher, student), rkd_by_loops(teacher, student, *weights), [teacher, student])


def test_rkd_makes_no_tensor_of_all_triples(monkeypatch):
    monkeypatch.setitem(rkd_loss.PART_NUMBERS, 'cpu', 5000)
    sizes, plain = [], rkd_loss._angles_at

    def counted(rows, anchors):
        sizes.append(plain(rows, anchors))
        return sizes[-1]

    monkeypatch.setattr(rkd_loss, '_angles_at', counted)
    teacher, student = towers(40)
    RKDLoss()(teacher, student).backward()
    assert max(value.numel() for value in sizes) <= 5000 < 40 ** 3
    assert sum(len(value) for value in sizes) == 2 * 40


def test_rkd_survives_rows_that_coincide():
    teacher, student = towers(4)
    with torch.no_grad():
        student[1], teacher[3] = student[0], teacher[2]
    loss = RKDLoss()(teacher, student)
    grads = torch.autograd.grad(loss, [teacher, student])
    assert loss.isfinite() and all(grad.abs().max() < 10 for grad in grads)


def test_rkd_knows_no_axes():
    """A rotated, scaled copy in a wider space is no different; another arrangement is."""
    teacher = unit(6, 3)
    turn, _ = torch.linalg.qr(unit(5, 5, seed=3))
    close(RKDLoss()(teacher, 7 * F.pad(teacher, (0, 2)) @ turn), torch.zeros((), dtype=torch.float64))
    assert RKDLoss()(teacher, unit(6, 3, seed=1)) > 0.01


@pytest.mark.parametrize('batch, classes', [(1, 2), (5, 3)])
def test_prompted_cross_entropy_matches_loops(batch, classes):
    teacher, student = towers(batch, classes)
    labels = torch.arange(batch) * 7 % classes
    expected = -sum(log_softmax_of(row, label) for tower in (teacher, student)
                    for row, label in zip(tower, labels)) / (2 * batch)
    agree(PromptedCrossEntropyLoss()(teacher, student, labels=labels), expected, [teacher, student])


def vicreg_legacy_by_loops(teacher, student):
    sides = [torch.stack(units(tower)) for tower in (teacher, student)]
    num_rows, dim = teacher.shape
    total = 25 * sum((a - b) ** 2 for a, b in zip(*(side.flatten() for side in sides))) / (num_rows * dim)
    for side in sides:
        centred = [column - sum(column) / num_rows for column in side.T]
        for i, one in enumerate(centred):
            spread = (dot(one, one) / (num_rows - 1) + 1e-4).sqrt()
            total = total + 25 * (1 - spread).clamp_min(0) / dim / 2
            mixed = [dot(one, other) / (num_rows - 1) for j, other in enumerate(centred) if j != i]
            total = total + sum(value ** 2 for value in mixed) / dim
    return total


@pytest.mark.parametrize('batch, dim', [(2, 3), (7, 4)])
def test_vicreg_in_legacy_matches_loops_over_normalised_rows(batch, dim):
    teacher, student = towers(batch, dim)
    agree(VICRegLoss(legacy=True)(teacher, student), vicreg_legacy_by_loops(teacher, student), [teacher, student])
    assert not torch.allclose(VICRegLoss()(teacher, student), VICRegLoss(legacy=True)(teacher, student))


@pytest.mark.parametrize('batch, dim', [(2, 3), (7, 4)])
def test_barlow_twins_in_legacy_matches_loops(batch, dim):
    teacher, student = towers(batch, dim)
    sides = []
    for tower in (teacher, student):
        columns = torch.stack(units(tower)).T
        sides.append([column / dot(column, column).sqrt() for column in columns])
    expected = 0
    for i, one in enumerate(sides[0]):
        for j, other in enumerate(sides[1]):
            value = dot(one, other) / batch
            expected = expected + ((value - 1) ** 2 if i == j else 0.0051 * value ** 2)
    agree(BarlowTwinsLoss(legacy=True)(teacher, student), expected, [teacher, student])
    # Out of reach: each diagonal element is within 1 / N.
    diagonal = [BarlowTwinsLoss(legacy=True, lambd=1e-12)(*pair).item() for pair in
                ((teacher, teacher), (teacher, -teacher))]
    assert diagonal == pytest.approx([dim * (1 - 1 / batch) ** 2, dim * (1 + 1 / batch) ** 2])


@pytest.mark.parametrize('make, message', [
    (lambda: SimRegLoss('l3'), "SimRegLoss: norm is 'l3'; expected 'l2', 'l1' or 'smooth_l1'"),
    (lambda: RKDLoss(0, 0), 'both 0'), (lambda: RKDLoss(-1), 'distance_weight is -1'),
    (lambda: RKDLoss(angle_weight=math.nan), 'angle_weight is nan'),
    (lambda: RKDLoss()(unit(1, 3), unit(1, 3)), 'a single row has no relation'),
    (lambda: PromptedCrossEntropyLoss()(unit(2, 3), unit(2, 3)), 'PromptedCrossEntropyLoss needs labels'),
    (lambda: PromptedCrossEntropyLoss()(unit(2, 3), unit(2, 3), labels=torch.tensor([0, -1])),
     'labels go from -1 to 0, expected classes 0 to 2, .* -1 means that a row has no class'),
    (lambda: PromptedCrossEntropyLoss()(unit(2, 3), unit(2, 3), labels=torch.tensor([0, 3])), 'from 0 to 3, expected'),
    (lambda: PromptedCrossEntropyLoss()(unit(2, 3), unit(2, 3), labels=torch.ones(2)), 'expected .* integers'),
    (lambda: BarlowTwinsLoss()(unit(1, 3), unit(1, 3)), 'at least 2 rows'),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
