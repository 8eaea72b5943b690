"""Cosine head: against loops, at zero vectors, in half precision, as an mmpretrain head."""

import math

import pytest
import torch
from mmpretrain.structures import DataSample

from clear.models import CosineDistanceHead
from clear.registry import MODELS


def cosine_logits_by_loops(features, weight, temperature):
    rows = []
    for x in features.tolist():
        row = []
        for w in weight.tolist():
            dot = sum(a * b for a, b in zip(x, w))
            norms = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in w))
            row.append(temperature * dot / norms)
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize(('batch', 'channels', 'classes'), [(1, 1, 1), (3, 5, 2), (7, 4, 11)])
@pytest.mark.parametrize('temperature', [0.5, 2.0])
def test_logits_match_loops(batch, channels, classes, temperature):
    torch.manual_seed(batch)
    head = MODELS.build(dict(type='CosineDistanceHead', num_classes=classes, in_channels=channels,
                             temperature=temperature))
    features = torch.randn(batch, channels)
    expected = cosine_logits_by_loops(features, head.fc.weight, temperature)
    torch.testing.assert_close(head((torch.randn(2, 9), features)), expected)
    torch.testing.assert_close(head(features), expected)


def test_perfect_match_among_eleven_classes_is_flat_at_the_default_temperature():
    head = CosineDistanceHead(11, 16)
    head.fc.weight.data = 3 * torch.eye(11, 16)
    assert head((torch.eye(1, 16),)).softmax(1)[0, 0].item() == pytest.approx(math.e ** 2 / (math.e ** 2 + 10))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_zero_vectors_give_zero_logits(dtype):
    # In float16 the eps would be 0, and 0 / 0 is NaN.
    head = CosineDistanceHead(3, 4)
    logits = head((torch.zeros(2, 4, dtype=dtype),))
    assert not logits.any()
    logits.sum().backward()
    assert not head.fc.weight.grad.any()


def test_gradients_at_a_zero_vector_are_finite():
    features = torch.zeros(2, 4, requires_grad=True)
    CosineDistanceHead(3, 4)((features,)).sum().backward()
    assert features.grad.isfinite().all()


def test_eps_bounds_the_norm():
    head = CosineDistanceHead(1, 2, temperature=1.0, eps=0.5)
    head.fc.weight.data = torch.tensor([[1.0, 0.0]])
    # The norm .1 is below eps: .1 / .5 instead of .1 / .1.
    assert head(torch.tensor([[0.1, 0.0]])).item() == pytest.approx(0.2)


def test_only_one_weight_is_saved():
    assert {name: tuple(value.shape) for name, value in CosineDistanceHead(3, 4).state_dict().items()} == {
        'fc.weight': (3, 4)}


def test_init_weights_draws_the_weight_anew():
    torch.manual_seed(0)
    head = CosineDistanceHead(100, 400)
    head.init_weights()
    assert head.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_loss_and_prediction_of_mmpretrain_work():
    torch.manual_seed(0)
    head, features = CosineDistanceHead(3, 4), torch.randn(2, 4)
    samples = [DataSample().set_gt_label(label) for label in (0, 2)]
    expected = torch.nn.functional.cross_entropy(head(features), torch.tensor([0, 2]))
    torch.testing.assert_close(head.loss((features,), samples)['loss'], expected)
    scores = torch.stack([sample.pred_score for sample in head.predict((features,))])
    torch.testing.assert_close(scores, head(features).softmax(1))


@pytest.mark.parametrize('wrong', [dict(num_classes=0), dict(in_channels=0), dict(temperature=0.0), dict(eps=0.0),
                                   dict(temperature=float('nan'))])
def test_values_that_are_not_positive_are_refused(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match=f'{name} is'):
        CosineDistanceHead(**dict(num_classes=3, in_channels=4) | wrong)
