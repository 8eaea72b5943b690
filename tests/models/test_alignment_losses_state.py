"""Losses with queues, centres, priors and prototypes, and distillation: against loops over some steps, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from test_losses_contrastive import agree, close, dot, leaf, log_softmax_of, unit

from clear.models.losses import (
    CompRessLoss,
    CrossModalDINOLoss,
    DINOLoss,
    FeatureDistillationLoss,
    LogitDistillationLoss,
    ProtoCPCLoss,
    ProtoLoss,
    SEEDLoss,
)


def towers(step, batch=3, dim=4, scale=2.0):
    return leaf(scale * unit(batch, dim, seed=2 * step)), leaf(unit(batch, dim, seed=2 * step + 1))


def units(tower):
    return [row / dot(row, row).sqrt() for row in tower]


def softmax(scores):
    return [log_softmax_of(scores, index).exp() for index in range(len(scores))]


def cross_entropy(target, scores):
    return -sum(p * log_softmax_of(scores, index) for index, p in enumerate(target))


def compress_by_loops(teacher, student, anchors, student_anchors, temperature):
    total = 0
    for t, s in zip(units(teacher), units(student)):
        of_teacher = [dot(t, anchor) / temperature for anchor in anchors]
        target = softmax(of_teacher)
        of_student = [dot(s, anchor) / temperature for anchor in student_anchors]
        total = total + cross_entropy(target, of_student) - cross_entropy(target, of_teacher)
    return total / len(teacher)


def written(anchors, place, rows):
    """The list after rows were written from `place` on, round its end, and the next place."""
    anchors = list(anchors)
    for row in rows:
        anchors[place] = row.detach()
        place = (place + 1) % len(anchors)
    return anchors, place


@pytest.mark.parametrize('num_queues', [1, 2])
def test_compress_matches_loops_while_its_queues_go_round(num_queues):
    loss = CompRessLoss(num_queues, 4, 7, temperature=0.3).double()
    anchors = [column.clone() for column in loss.queue.T]
    student_anchors = [column.clone() for column in (loss.queue if num_queues == 1 else loss.student_queue).T]
    place = 0
    for step in range(4):
        teacher, student = towers(step)
        expected = compress_by_loops(teacher, student, anchors, student_anchors, 0.3)
        agree(loss(teacher, student), expected, [teacher, student])
        next_place = written(anchors, place, units(teacher))[1]
        anchors = written(anchors, place, units(teacher))[0]
        student_anchors = anchors if num_queues == 1 else written(student_anchors, place, units(student))[0]
        place = next_place
        close(loss.queue.T, torch.stack(anchors))
        assert loss.queue_ptr.item() == place == 3 * (step + 1) % 7
    if num_queues == 2:
        close(loss.student_queue.T, torch.stack(student_anchors))


def test_compress_with_two_queues_takes_towers_of_unequal_width():
    loss = CompRessLoss(2, 4, 7, student_dim=6).double()
    teacher, student = leaf(unit(3, 4)), leaf(unit(3, 6, seed=1))
    expected = compress_by_loops(teacher, student, list(loss.queue.T.clone()), list(loss.student_queue.T.clone()), 0.04)
    agree(loss(teacher, student), expected, [teacher, student])
    assert loss.student_queue.shape == (6, 7)


def test_compress_begins_with_anchors_of_about_unit_norm():
    norms = CompRessLoss(2, 300, 50).queue.norm(dim=0)
    assert norms.min() > 0.9 and norms.max() < 1.1


@pytest.mark.parametrize('teacher_temp', [1e-4, 0.3])
def test_seed_matches_loops_while_its_queue_goes_round(teacher_temp):
    loss = SEEDLoss(4, 7, student_temp=0.2, teacher_temp=teacher_temp).double()
    anchors, place = [column.clone() for column in loss.queue.T], 0
    for step in range(4):
        teacher, student = towers(step)
        expected = 0
        for t, s in zip(units(teacher), units(student)):
            of_teacher = [dot(t, each) / teacher_temp for each in (t, *anchors)]
            target = list(torch.stack(of_teacher).softmax(0))  # The exponentials of the loops overflow at 1e-4.
            expected = expected + cross_entropy(target, [dot(s, each) / 0.2 for each in (t, *anchors)]) / len(teacher)
        found = loss(teacher, student)
        close(found, expected)
        for one, other in zip(*(torch.autograd.grad(value, [teacher, student], retain_graph=True)
                                for value in (found, expected))):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        anchors, place = written(anchors, place, units(teacher))
        close(loss.queue.T, torch.stack(anchors))
        assert loss.queue_ptr.item() == place


def test_seed_at_its_default_is_info_nce_against_the_queue():
    loss = SEEDLoss(4, 7).double()
    teacher, student = towers(0)
    queue = loss.queue.clone()
    t, s = F.normalize(teacher, dim=1), F.normalize(student, dim=1)
    logits = torch.cat([(s * t).sum(1, keepdim=True), s @ queue], 1) / 0.07
    close(loss(teacher, student), F.cross_entropy(logits, torch.zeros(3, dtype=torch.long)))


def test_dino_is_that_of_pretraining_with_one_view_each():
    """Views of pretraining are all compared but their own: with two of the student one pair is left."""
    ours, pretraining = CrossModalDINOLoss(5).double(), DINOLoss(5).double()
    for step in range(3):
        teacher, student = towers(step, dim=5)
        expected = pretraining([teacher.detach(), student], [teacher])
        agree(ours(teacher.detach(), student), expected, [student])
        assert torch.equal(ours.center, pretraining.center) and ours.center.any()


def test_dino_matches_loops_with_gradient_to_the_teacher():
    loss = CrossModalDINOLoss(5, 0.2, 0.3).double()
    loss.center.copy_(unit(5, seed=9))
    center = loss.center.clone()
    teacher, student = towers(0, dim=5)
    expected = sum(cross_entropy(softmax([(value - c) / 0.3 for value, c in zip(t, center)]), [x / 0.2 for x in s])
                   for t, s in zip(teacher, student)) / 3
    agree(loss(teacher, student), expected, [teacher, student])
    close(loss.center, 0.9 * center + 0.1 * teacher.detach().mean(0))


def sinkhorn_by_loops(teacher, temperature, iterations):
    """As ITRA has it: exponentials over their total, prototypes to 1 / K, rows to 1 / B, in turn; times B."""
    table = [[(value / temperature).exp() for value in row] for row in teacher.detach()]
    total = sum(map(sum, table))
    table = [[value / total for value in row] for row in table]
    for _ in range(iterations):
        columns = [sum(row[k] for row in table) for k in range(len(table[0]))]
        table = [[value / columns[k] / len(columns) for k, value in enumerate(row)] for row in table]
        table = [[value / sum(row) / len(table) for value in row] for row in table]
    return [[value * len(table) for value in row] for row in table]


@pytest.mark.parametrize('assignment', ['softmax', 'sinkhorn'])
def test_proto_cpc_matches_loops_over_three_steps(assignment):
    loss = ProtoCPCLoss(5, assignment).double()
    prior = [1.0] * 5
    for step in range(3):
        teacher, student = towers(step, dim=5, scale=0.3)
        targets = ([softmax([value / 0.04 for value in row]) for row in teacher] if assignment == 'softmax'
                   else sinkhorn_by_loops(teacher, 0.04, 3))
        expected = 0
        for target, row in zip(targets, student):
            scores = [value / 0.1 for value in row]
            weighted = sum(weight * score.exp() for weight, score in zip(prior, scores)).log()
            expected = expected + (weighted - dot(target, scores)) / 3
        agree(loss(teacher, student), expected, [teacher, student])
        used = [sum(float(target[k].detach()) for target in targets) / 3 for k in range(5)]
        prior = [0.9 * before + 0.1 * 5 * now for before, now in zip(prior, used)]
        close(loss.prior, torch.tensor(prior, dtype=torch.float64))
    assert sum(prior) == pytest.approx(5)


@pytest.mark.parametrize('temperature', [None, -1.0, 0.5])
@pytest.mark.parametrize('labels', [[0, 3, 1], [2, -1, 2], [-1, -1, -1]])
def test_proto_matches_loops(temperature, labels):
    features, student_centroids = leaf(unit(3, 4)), unit(5, 4, seed=1)
    teacher_centroids, scale = unit(5, 2, seed=2), torch.tensor(6.0, dtype=torch.float64, requires_grad=True)
    known = [row for row, label in enumerate(labels) if label >= 0]
    expected = 0 * scale + 0 * features.sum()
    for row in known:
        scores = [scale * dot(features[row], centroid) for centroid in student_centroids]
        target = [float(k == labels[row]) for k in range(5)]
        if temperature == 0.5:
            target = softmax([dot(teacher_centroids[labels[row]], other) / 0.5 for other in teacher_centroids])
        expected = expected + cross_entropy(target, scores) / len(known)
    found = ProtoLoss(temperature)(features, student_centroids, teacher_centroids, torch.tensor(labels),
                                   logit_scale=scale)
    agree(found, expected, [features, scale])


def test_proto_counts_hits_among_labelled_rows():
    features, labels = torch.eye(4), torch.tensor([0, 1, 0, -1])
    assert ProtoLoss().accuracy(features, torch.eye(4), labels).item() == pytest.approx(2 / 3)
    assert ProtoLoss().accuracy(features, torch.eye(4), torch.full((4,), -1)).item() == 0


def test_feature_distillation_matches_loops():
    before, now = [unit(3, 4), 2 * unit(3, 5, seed=1)], [leaf(unit(3, 4, seed=2)), leaf(unit(3, 5, seed=3))]
    expected = sum(2 - 2 * dot(a, b) for old, new in zip(before, now) for a, b in zip(units(old), units(new))) / 6
    agree(FeatureDistillationLoss()(before, now), expected, now)
    assert FeatureDistillationLoss()(before, [3 * tower for tower in before]).item() == pytest.approx(0, abs=1e-12)


def test_logit_distillation_is_open_clips():
    from open_clip.loss import DistillClipLoss

    before = [leaf(unit(5, 4)), leaf(2 * unit(5, 4, seed=1))]
    now = [leaf(3 * unit(5, 6, seed=2)), leaf(unit(5, 6, seed=3))]
    scale = torch.tensor(9.0, dtype=torch.float64, requires_grad=True)
    _, expected = DistillClipLoss()(*(F.normalize(tower, dim=1) for tower in now), scale,
                                    *(F.normalize(tower, dim=1).detach() for tower in before), 20.0)
    found = LogitDistillationLoss()(before, now, logit_scale=scale, teacher_logit_scale=20.0)
    agree(found, expected, [*now, scale])
    found.backward()
    assert before[0].grad is None and before[1].grad is None


@pytest.mark.parametrize('make, message', [
    (lambda: CompRessLoss(3), 'CompRessLoss: num_queues is 3; expected 1 or 2'),
    (lambda: CompRessLoss(1, 4, 8, student_dim=5), 'student_dim is 5 and embed_dim 4; with one queue'),
    (lambda: CompRessLoss(1, 4, 2)(*towers(0)), r'queue_size \(2\) is smaller than the global batch \(1 x 3 = 3\)'),
    (lambda: CompRessLoss(1, 5, 9)(*towers(0)), 'the teacher has 4 columns, but its queue is of width 5'),
    (lambda: CompRessLoss(2, 4, 9, student_dim=5)(*towers(0)), 'student has 4 columns, but its queue is of width 5'),
    (lambda: CompRessLoss(temperature=0), 'temperature is 0'),
    (lambda: SEEDLoss(4, 2)(*towers(0)), r'queue_size \(2\) is smaller than the global batch \(1 x 3 = 3\)'),
    (lambda: SEEDLoss(5, 9)(*towers(0)), 'features have 4 columns, but embed_dim is 5'),
    (lambda: SEEDLoss(queue_size=0), 'SEEDLoss: queue_size is 0'),
    (lambda: SEEDLoss(teacher_temp=0), 'teacher_temp is 0'),
    (lambda: CrossModalDINOLoss(5)(*towers(0)), 'scores have 4 columns, but out_dim is 5. Both towers need a head'),
    (lambda: ProtoCPCLoss(5)(*towers(0)), 'ProtoCPCLoss: scores have 4 columns, but out_dim is 5'),
    (lambda: ProtoCPCLoss(5, 'sk'), "assignment is 'sk'; expected 'softmax' or 'sinkhorn'"),
    (lambda: CrossModalDINOLoss(5, center_momentum=1.5), 'center_momentum is 1.5'),
    (lambda: ProtoLoss(math.nan), 'ProtoLoss: temperature is nan'),
    (lambda: ProtoLoss()(unit(2, 3), unit(4, 3), unit(5, 3), torch.tensor([0, 1])), r'features \(2, 3\), student'),
    (lambda: ProtoLoss()(unit(2, 3), unit(4, 3), unit(4, 3), torch.tensor([0])), r'labels \(1,\)'),
    (lambda: FeatureDistillationLoss()(unit(2, 3), [unit(2, 3)] * 2), 'teacher must be the features of two towers'),
    (lambda: FeatureDistillationLoss()([unit(2, 3)] * 2, [unit(2, 3), unit(2, 4)]), r'student text \(2, 4\)'),
    (lambda: LogitDistillationLoss()([unit(2, 3)] * 2, [unit(3, 3)] * 2), r'the pairs have \[2, 3\] rows'),
])
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
