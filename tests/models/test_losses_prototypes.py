"""DINO and SwAV against loops over single numbers, and Sinkhorn's codes against their definition, in float64."""

import pytest
import torch
from test_losses_contrastive import agree, close, leaf, log_softmax_of, unit

from clear.models.losses import DINOLoss, SwAVLoss
from clear.models.losses.selfsup.swav_loss import sinkhorn


def outputs(num_views, batch, dim, seed=0):
    return [leaf(2 * unit(batch, dim, seed=seed + index)) for index in range(num_views)]


def cross_entropy(target, scores):
    return -sum(p * log_softmax_of(scores, index) for index, p in enumerate(target))


def dino_by_loops(student, teacher, center, student_temp, teacher_temp):
    terms = []
    for t, targets in enumerate(teacher):
        for s, predictions in enumerate(student):
            if s == t:
                continue
            for target, prediction in zip(targets.detach(), predictions):
                sharpened = [(value - c) / teacher_temp for value, c in zip(target, center)]
                softmax = [log_softmax_of(sharpened, index).exp() for index in range(len(center))]
                terms.append(cross_entropy(softmax, [value / student_temp for value in prediction]))
    return sum(terms) / len(terms)


def codes_by_loops(scores, epsilon, iterations):
    """Sinkhorn as the paper's listing has it: exponentials, prototypes to 1/K, samples to 1/B, in turn."""
    table = [[(value / epsilon).exp() for value in row] for row in scores.detach()]
    total = sum(value for row in table for value in row)
    table = [[value / total for value in row] for row in table]
    for _ in range(iterations):
        columns = [sum(row[k] for row in table) for k in range(len(table[0]))]
        table = [[value / columns[k] / len(columns) for k, value in enumerate(row)] for row in table]
        table = [[value / sum(row) / len(table) for value in row] for row in table]
    return [[value * len(table) for value in row] for row in table]


def swav_by_loops(assigning, others, temperature, epsilon, iterations, queued=None):
    views, terms = [*assigning, *others], []
    for i, scores in enumerate(assigning):
        everything = scores if queued is None else torch.cat([scores, queued[i]])
        codes = codes_by_loops(everything, epsilon, iterations)
        for v, view in enumerate(views):
            if v != i:
                terms += [cross_entropy(code, [value / temperature for value in row])
                          for code, row in zip(codes, view)]
    return sum(terms) / len(terms)


@pytest.mark.parametrize('num_student, num_teacher, batch', [(2, 2, 1), (4, 2, 3), (2, 1, 2)])
def test_dino_matches_loops(num_student, num_teacher, batch):
    student, teacher = outputs(num_student, batch, 5), outputs(num_teacher, batch, 5, seed=20)
    loss = DINOLoss(5, student_temp=0.3, teacher_temp=0.2).double()
    loss.center.copy_(unit(5, seed=30))
    expected = dino_by_loops(student, teacher, loss.center.clone(), 0.3, 0.2)
    agree(loss(student, teacher), expected, student)
    assert all(view.grad is None for view in teacher)


def test_dino_center_follows_the_teacher_after_the_loss():
    student, teacher = outputs(2, 3, 4), outputs(2, 3, 4, seed=20)
    loss = DINOLoss(4, center_momentum=0.7).double()
    loss.center.fill_(0.5)
    rows = [row for view in teacher for row in view.detach()]
    expected = [0.7 * 0.5 + 0.3 * sum(row[i].item() for row in rows) / len(rows) for i in range(4)]
    before = dino_by_loops(student, teacher, torch.full((4,), 0.5), 0.1, 0.04)
    close(loss(student, teacher), before)
    close(loss.center, torch.tensor(expected, dtype=torch.float64))
    loss.eval()(student, teacher)
    close(loss.center, torch.tensor(expected, dtype=torch.float64))


def test_dino_temperature_of_one_call():
    student, teacher = outputs(2, 3, 4), outputs(2, 3, 4, seed=20)
    loss = DINOLoss(4, teacher_temp=0.04).double().eval()
    close(loss(student, teacher, teacher_temp=0.07), DINOLoss(4, teacher_temp=0.07).double().eval()(student, teacher))
    assert loss.teacher_temp == 0.04


@pytest.mark.parametrize('num_assigning, num_others, batch', [(2, 0, 1), (2, 3, 4), (1, 1, 3)])
@pytest.mark.parametrize('iterations', [1, 3])
def test_swav_matches_loops(num_assigning, num_others, batch, iterations):
    assigning, others = outputs(num_assigning, batch, 4), outputs(num_others, batch, 4, seed=20)
    loss = SwAVLoss(0.3, 0.2, iterations)
    agree(loss(assigning, others), swav_by_loops(assigning, others, 0.3, 0.2, iterations), [*assigning, *others])


def test_a_queue_takes_part_in_the_codes():
    assigning, queued = outputs(2, 3, 4), outputs(2, 5, 4, seed=20)
    found = SwAVLoss(0.3, 0.2)(assigning, (), queued)
    agree(found, swav_by_loops(assigning, (), 0.3, 0.2, 3, queued), assigning)
    assert abs(found - SwAVLoss(0.3, 0.2)(assigning)) > 1e-3


def test_codes_are_balanced_in_the_limit():
    codes = sinkhorn(unit(8, 4) / 0.5, 500)
    close(codes.sum(1), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(0), torch.full((4,), 2.0, dtype=torch.float64), rtol=0, atol=1e-9)


def test_codes_of_huge_scores_are_finite():
    """Exponentials of these overflow float32, and of some prototypes underflow."""
    scores = torch.tensor([[900.0, 0.0, -900.0], [800.0, 10.0, -900.0]])
    codes = sinkhorn(scores, 3)
    assert codes.isfinite().all() and torch.allclose(codes.sum(1), torch.ones(2))


@pytest.mark.parametrize('make, message', [
    (lambda: DINOLoss(0), 'out_dim is 0'), (lambda: DINOLoss(4, center_momentum=2), 'of at least 0, at most 1'),
    (lambda: DINOLoss(4)([unit(2, 4)], [unit(2, 4)]), '1 student and 1 teacher views'),
    (lambda: DINOLoss(4)([unit(2, 4)], [unit(2, 4)] * 2), '1 student and 2 teacher views'),
    (lambda: DINOLoss(5)([unit(2, 4)] * 2, [unit(2, 4)]), 'outputs have 4 columns, but out_dim is 5'),
    (lambda: DINOLoss(4)([unit(2, 4)] * 2, [unit(2, 4)], teacher_temp=0), 'teacher_temp is 0'),
    (lambda: SwAVLoss(sinkhorn_iterations=0), 'sinkhorn_iterations is 0'),
    (lambda: SwAVLoss()([unit(2, 4)]), 'one view alone'), (lambda: SwAVLoss()([]), 'assigning must be a list'),
    (lambda: SwAVLoss()([unit(2, 4)] * 2, [unit(2, 5)]), r'others\[0\] \(2, 5\)'),
    (lambda: SwAVLoss()([unit(2, 4)] * 2, (), [unit(2, 4)]), r'expected one \(Q, 4\) for each of the 2'),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
