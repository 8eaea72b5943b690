"""InfoNCE, UniCL and SigLIP against loops over single numbers and against open_clip's classes."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from test_losses_contrastive import agree, close, dot, leaf, log_softmax_of, unit

from clear.models.losses import InfoNCELoss, SigLIPLoss, SimCSELoss, UniCLLoss
from clear.models.losses.alignment import streaming
from clear.models.losses.alignment.unicl_loss import group_equal

SIZES = [(1, 3), (2, 2), (5, 4)]


def towers(batch, dim, seed=0):
    return leaf(3 * unit(batch, dim, seed=seed) + 0.1), leaf(unit(batch, dim, seed=seed + 1))


def number(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def scores_by_loops(rows, columns, scale):
    unit_rows, unit_columns = ([each / dot(each, each).sqrt() for each in tower] for tower in (rows, columns))
    return [[scale * dot(row, column) for column in unit_columns] for row in unit_rows]


def unicl_by_loops(teacher, student, scale, labels):
    total = 0
    for rows, columns in ((student, teacher), (teacher, student)):
        for i, scores in enumerate(scores_by_loops(rows, columns, scale)):
            right = [j for j in range(len(labels)) if j == i or labels[j] == labels[i] != -1]
            total = total - sum(log_softmax_of(scores, j) for j in right) / len(right) / len(labels) / 2
    return total


def siglip_by_loops(teacher, student, scale, bias):
    total = 0
    for i, scores in enumerate(scores_by_loops(student, teacher, scale)):
        for j, score in enumerate(scores):
            total = total + (1 + (-(score + bias) * (1 if i == j else -1)).exp()).log() / len(student)
    return total


@pytest.fixture(params=[None, 1, 2, 3])
def tiles(request, monkeypatch):
    """Tiles of every awkward size, and those of a CPU."""
    if request.param is not None:
        monkeypatch.setitem(streaming.TILE, 'cpu', (request.param, request.param % 3 + 1))


@pytest.mark.parametrize('batch, dim', SIZES)
@pytest.mark.parametrize('scale', [1.0, 50.0])
def test_info_nce_matches_loops(tiles, batch, dim, scale):
    teacher, student = towers(batch, dim)
    scale = number(scale)
    expected = unicl_by_loops(teacher, student, scale, range(batch))
    agree(InfoNCELoss()(teacher, student, logit_scale=scale), expected, [teacher, student, scale])
    # A bias is the same for all candidates.
    close(InfoNCELoss()(teacher, student, logit_scale=scale, logit_bias=-3.0), expected)


@pytest.mark.parametrize('labels', [[0, 1, 2, 3, 4], [2, 2, 2, 2, 2], [-1, -1, -1, -1, -1], [7, -1, 7, 0, -1]])
def test_unicl_matches_loops(tiles, labels):
    teacher, student = towers(5, 3)
    scale = number(8.0)
    found = UniCLLoss()(teacher, student, logit_scale=scale, labels=torch.tensor(labels))
    agree(found, unicl_by_loops(teacher, student, scale, labels), [teacher, student, scale])


@pytest.mark.parametrize('batch, dim', SIZES)
@pytest.mark.parametrize('scale, bias', [(10.0, -10.0), (1.0, 0.0), (60.0, 2.0)])
def test_siglip_matches_loops(tiles, batch, dim, scale, bias):
    teacher, student = towers(batch, dim)
    scale, bias = number(scale), number(bias)
    found = SigLIPLoss()(teacher, student, logit_scale=scale, logit_bias=bias)
    expected = siglip_by_loops(teacher, student, scale, bias)
    # The loops add 1 to the exponential, and lose what is below its last digit.
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    for one, other in zip(*(torch.autograd.grad(value, [teacher, student, scale, bias], retain_graph=True)
                            for value in (found, expected))):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_unicl_without_repeated_labels_is_info_nce():
    teacher, student = towers(6, 4)
    expected = InfoNCELoss()(teacher, student)
    for labels in (None, torch.arange(6), torch.full((6,), -1)):
        agree(UniCLLoss()(teacher, student, labels=labels), expected, [teacher, student])


def test_a_probability_that_underflows_is_no_nan():
    """Scale 100, all antipodal, all of one class: the logarithm of a softmax is minus infinity times 0 there."""
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]).requires_grad_()
    loss = UniCLLoss()(rows, rows.detach(), logit_scale=100.0, labels=torch.tensor([0, 0, 0]))
    assert loss.item() == pytest.approx((2 * 200 / 3 + 2 * math.log(2)  # two rows: 0, 0, -200
                                         + 400 / 3) / 3, rel=1e-6)      # one row: -200, -200, 0
    assert torch.autograd.grad(loss, rows)[0].isfinite().all()
    exact = UniCLLoss()(rows, rows.detach(), logit_scale=100.0, labels=torch.tensor([0, 0, 1]))
    assert exact.item() == pytest.approx(2 * math.log(2) / 3, rel=1e-6)


def test_groups_are_those_of_equal_labels():
    groups = group_equal(torch.tensor([5, -1, 0, 5, -1, 0, 0])).tolist()
    assert groups[0] == groups[3] and groups[2] == groups[5] == groups[6] and len(set(groups)) == 4
    assert group_equal(torch.tensor([3])).tolist() == [0]


def test_simcse_is_info_nce_at_its_temperature():
    first, second = towers(5, 4)
    agree(SimCSELoss()(first, second), unicl_by_loops(first, second, math.exp(2.996), range(5)), [first, second])
    assert math.exp(2.996) == pytest.approx(1 / 0.05, rel=3e-4)
    with pytest.raises(ValueError, match='SimCSELoss: logit_scale is 0'):
        SimCSELoss(0)


@pytest.mark.parametrize('dtype, rtol', [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize('scale', [1.0, 1 / 0.07, 100.0])
def test_equal_to_open_clip(dtype, rtol, scale):
    from open_clip.loss import ClipLoss, SigLipLoss

    cases = [(InfoNCELoss(), lambda image, text, *numbers: ClipLoss()(image, text, numbers[0])),
             (SigLIPLoss(), SigLipLoss())]
    for ours, theirs in cases:
        text, image = (tower.detach().to(dtype).requires_grad_() for tower in towers(33, 16))
        numbers = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in (scale, -10.0)]
        found = ours(text, image, logit_scale=numbers[0], logit_bias=numbers[1])
        expected = theirs(F.normalize(image, dim=1), F.normalize(text, dim=1), *numbers)
        torch.testing.assert_close(found, expected, rtol=rtol, atol=0)
        leaves = [text, image, *numbers]
        for one, other in zip(torch.autograd.grad(found, leaves, materialize_grads=True, allow_unused=True),
                              torch.autograd.grad(expected, leaves, materialize_grads=True, allow_unused=True)):
            torch.testing.assert_close(one, other, rtol=100 * rtol, atol=rtol * max(1e-3, other.abs().max().item()))


@pytest.mark.parametrize('make', [InfoNCELoss, UniCLLoss, SigLIPLoss])
def test_the_scores_of_all_pairs_are_never_held(monkeypatch, make):
    """Every product of a tile goes into one small buffer, forward and backward."""
    sizes = []
    product = torch.mm
    monkeypatch.setattr(torch, 'mm', lambda a, b, out: sizes.append(out.untyped_storage().nbytes()) or
                        product(a, b, out=out))
    teacher, student = (unit(3000, 4, seed=seed).float().requires_grad_() for seed in (0, 1))
    make()(teacher, student).backward()
    height, width = streaming.TILE['cpu']
    assert set(sizes) == {2 * 4 * height * width} and max(sizes) < 4 * 3000 ** 2 / 10


@pytest.mark.parametrize('make', [InfoNCELoss, partial(UniCLLoss), SigLIPLoss])
def test_gradients_only_where_they_are_asked_for(make):
    teacher, student = towers(4, 3)
    expected = torch.autograd.grad(make()(teacher, student), [teacher, student])
    for index in (0, 1):
        alone = [tower.detach() for tower in (teacher, student)]
        alone[index].requires_grad_()
        torch.testing.assert_close(torch.autograd.grad(make()(*alone), alone[index])[0], expected[index])


@pytest.mark.parametrize('make', [InfoNCELoss, UniCLLoss])
def test_scores_that_are_kept_are_those_computed_again(monkeypatch, make):
    """To the same bits, and as often as a graph is gone through."""
    def gradients():
        teacher, student, scale = leaf(unit(9, 5)), leaf(unit(9, 5)), leaf(torch.tensor(3.0))
        options = dict(labels=torch.arange(9) % 4) if make is not InfoNCELoss else {}
        loss = make()(teacher, student, logit_scale=scale, **options)
        return [torch.autograd.grad(loss, (teacher, student, scale), retain_graph=True) for _ in range(2)]

    torch.manual_seed(0)
    kept = gradients()
    monkeypatch.setattr(streaming, 'KEPT_SCORES', 9 * 9 - 1)
    torch.manual_seed(0)
    again = gradients()
    assert all(torch.equal(a, b) for one, other in zip([*kept, kept[0]], [*again, kept[1]]) for a, b in zip(one, other))


def test_rows_of_no_length_are_divided_by_a_constant():
    teacher, student = towers(3, 4)
    with torch.no_grad():
        student[1] = 0
        teacher[0] *= 1e-14
    ours = InfoNCELoss()(teacher, student, logit_scale=5.0)
    units = [F.normalize(tower, dim=1) for tower in (teacher, student)]
    scores = 5.0 * units[1] @ units[0].T
    expected = (F.cross_entropy(scores, torch.arange(3)) + F.cross_entropy(scores.T, torch.arange(3))) / 2
    agree(ours, expected, [teacher, student])


@pytest.mark.parametrize('make', [InfoNCELoss, UniCLLoss])
def test_a_small_loss_next_to_scores_of_a_hundred_keeps_its_digits(make):
    teacher = unit(64, 32)
    student = F.normalize(teacher + 0.02 * unit(64, 32, seed=1), dim=1)
    found, grads = [], []
    for dtype in (torch.float64, torch.float32):
        pair = [tower.to(dtype).requires_grad_() for tower in (teacher, student)]
        value = make()(*pair, logit_scale=100.0)
        found.append(value.item())
        grads.append(torch.autograd.grad(value, pair))
    assert found[1] == pytest.approx(found[0], rel=1e-3) and found[0] < 1e-3
    for exact, grad in zip(*grads):
        assert (grad - exact).abs().max() < 1e-3 * exact.abs().max()
