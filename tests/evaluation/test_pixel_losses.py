"""Losses for pixels: against loops, what torch has, and values recorded from ViRB's code."""

import doctest
import math
import pickle

import pytest
import torch
from torch.nn import functional

from clear.core.errors import ConfigError
from clear.datasets.dense import geometry
from clear.evaluation.dense import scores, sliding
from clear.evaluation.metrics import pixel_losses
from clear.evaluation.metrics.pixel_losses import LOSSES, pixel_loss

CLASSES = ('cross_entropy', 'focal', 'sparse_label')
SMALL = (2, 1, 6, 6)


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(name, channels=None, seed=0, size=(5, 7)):
    """Outputs, values and valid of the kind that a loss is for."""
    channels = channels or (4 if name in CLASSES else 1 if name == 'bce_logits' else 2)
    outputs = normal((3, channels, *size), seed)
    generator = torch.Generator().manual_seed(seed + 100)
    if name in CLASSES:
        values = torch.randint(channels, (3, *size), generator=generator, dtype=torch.uint8)
    elif name == 'bce_logits':
        values = torch.randint(2, (3, *size), generator=generator, dtype=torch.uint8)
    else:
        values = normal(outputs.shape, seed + 1).clamp(min=0)  # about half of them 0
    return outputs, values, torch.rand(3, *size, generator=generator) < 0.7


# Loops


def pixels(outputs, values, valid):
    """(outputs, value or values) of each valid pixel."""
    for image in range(len(valid)):
        for y in range(valid.shape[1]):
            for x in range(valid.shape[2]):
                if valid[image, y, x]:
                    truth = values[image, ..., y, x]
                    yield outputs[image, :, y, x].tolist(), truth.tolist() if truth.ndim else truth.item()


def log_softmax(scores):
    most = max(scores)
    return [each - most - math.log(sum(math.exp(other - most) for other in scores)) for each in scores]


def mean_by(term, weight=lambda out, truth: 1.0):
    def loss(outputs, values, valid):
        pairs = list(pixels(outputs, values, valid))
        whole = sum(weight(*pair) for pair in pairs)
        return sum(weight(*pair) * term(*pair) for pair in pairs) / whole if whole else 0.0
    return loss


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def by_channels(each):
    return lambda out, truth: sum(each(o, y) for o, y in zip(out, truth)) / len(out)


def is_nonzero(out, truth):
    return float(any(value != 0 for value in truth))


def sparse(outputs, values, valid):
    there = mean_by(lambda out, truth: -math.log(sigmoid(out[0] if truth else -out[0])))
    which = mean_by(lambda out, truth: -log_softmax([value * (out[0] > 0) for value in out])[truth],
                    lambda out, truth: float(truth != 0))
    return there(outputs, values, valid) + which(outputs, values, valid)


WEIGHTS = [0.1, 1.0, 2.0, 0.5]
CASES = {
    'cross_entropy': ({}, mean_by(lambda out, truth: -log_softmax(out)[truth])),
    'cross_entropy weight': (dict(weight=WEIGHTS), mean_by(lambda out, truth: -log_softmax(out)[truth],
                                                           lambda out, truth: WEIGHTS[truth])),
    'cross_entropy ignore': (dict(ignore=2), mean_by(lambda out, truth: -log_softmax(out)[truth],
                                                     lambda out, truth: float(truth != 2))),
    'focal': ({}, mean_by(lambda out, truth: -(1 - math.exp(log_softmax(out)[truth]))**2 * log_softmax(out)[truth])),
    'focal gamma weight': (dict(gamma=0.5, weight=WEIGHTS), mean_by(
        lambda out, truth: -(1 - math.exp(log_softmax(out)[truth]))**0.5 * log_softmax(out)[truth],
        lambda out, truth: WEIGHTS[truth])),
    'sparse_label': ({}, sparse),
    'bce_logits': ({}, mean_by(lambda out, truth: -math.log(sigmoid(out[0] if truth else -out[0])))),
    'l1': ({}, mean_by(by_channels(lambda o, y: abs(o - y)))),
    'l2': ({}, mean_by(by_channels(lambda o, y: (o - y)**2))),
    'weighted_l1': ({}, mean_by(by_channels(lambda o, y: abs(o - y) * y))),
    'nonzero_l1': ({}, mean_by(by_channels(lambda o, y: abs(o - y)), is_nonzero)),
    'nonzero_l2': ({}, mean_by(by_channels(lambda o, y: (o - y)**2), is_nonzero)),
    'epe': ({}, mean_by(lambda out, truth: math.hypot(*(o - y for o, y in zip(out, truth))))),
}


def test_every_loss_has_a_loop():
    assert {case.split()[0] for case in CASES} == set(LOSSES)


@pytest.mark.parametrize('size', [(5, 7), (1, 1)])
@pytest.mark.parametrize('case', CASES)
def test_loss_is_that_of_loops(case, size):
    name = case.split()[0]
    options, by_loops = CASES[case]
    outputs, values, valid = drawn(name, size=size)
    outputs.requires_grad_()
    loss = pixel_loss(dict(type=name, **options))
    found = loss(outputs, values, valid)
    assert found.ndim == 0 and found.item() == pytest.approx(by_loops(outputs.detach(), values, valid), abs=1e-12)
    found.backward()
    assert outputs.grad.isfinite().all()
    outside = outputs.grad.masked_select(~valid[:, None])
    assert not outside.any(), 'a pixel that is not valid has no gradient'
    assert pickle.loads(pickle.dumps(loss))(outputs, values, valid) == found


@pytest.mark.parametrize('name', LOSSES)
def test_what_stands_at_invalid_pixels_is_of_no_consequence(name):
    outputs, values, valid = drawn(name)
    other = torch.where(valid if values.ndim == 3 else valid[:, None], values, torch.full_like(values, 255))
    assert pixel_loss(dict(type=name))(outputs, other, valid) == pixel_loss(dict(type=name))(outputs, values, valid)


@pytest.mark.parametrize('name', LOSSES)
def test_no_valid_pixel_is_no_loss(name):
    outputs, values, valid = drawn(name)
    outputs.requires_grad_()
    options = dict(weight=WEIGHTS) if name in ('cross_entropy', 'focal') else {}
    found = pixel_loss(dict(type=name, **options))(outputs, values, torch.zeros_like(valid))
    found.backward()
    assert found == 0 and not outputs.grad.any()


def test_those_of_torch():
    outputs, values, valid = drawn('cross_entropy')
    targets = values.long().masked_fill(~valid, 255)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    for given in (None, weight):
        expected = functional.cross_entropy(outputs, targets, given, ignore_index=255)
        loss = pixel_loss(dict(type='cross_entropy', weight=None if given is None else given.tolist()))
        assert loss(outputs, values, valid).item() == pytest.approx(expected.item(), abs=1e-12)
    outputs, values, valid = drawn('bce_logits')
    expected = functional.binary_cross_entropy_with_logits(outputs[:, 0][valid], values[valid].double())
    assert pixel_loss(dict(type='bce_logits'))(outputs, values, valid).item() == pytest.approx(expected.item())


def test_flow_that_is_right_has_a_finite_gradient():
    outputs = torch.zeros(1, 2, 2, 2, requires_grad=True)
    pixel_loss(dict(type='epe'))(outputs, torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, dtype=torch.bool)).backward()
    assert not outputs.grad.any()


# Recorded from ViRB's code (float64): the loss, the sum of squares of its gradient, and three elements of that.


RECORDED = {
    'l1': ({}, lambda: (normal(SMALL, 1), normal(SMALL, 2).abs()),
           1.1739378234515547, 1 / 72, [-1 / 72, -1 / 72, 1 / 72]),
    'bce_logits': ({}, lambda: (normal(SMALL, 1), (normal(SMALL, 3) > 0)[:, 0]),
                   0.8155373268289996, 0.004153544076408666,
                   [0.005872222285650975, -0.005660809166328964, 0.010628396442963269]),
    'cross_entropy': (dict(weight=[0.1, 1.0, 1.0, 1.0, 1.0]),
                      lambda: (normal((2, 5, 6, 6), 5),
                               torch.randint(5, (2, 6, 6), generator=torch.Generator().manual_seed(6))),
                      1.9165465634176382, 0.014984281662084754,
                      [-0.001159891348027791, 0.001521732239623774, 0.0006260064806283651])}


@pytest.mark.parametrize('name', RECORDED)
def test_recorded_values(name):
    options, inputs, expected, squares, elements = RECORDED[name]
    outputs, values = inputs()
    outputs.requires_grad_()
    loss = pixel_loss(dict(type=name, **options))(outputs, values, torch.ones(2, 6, 6, dtype=torch.bool))
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    assert outputs.grad.square().sum().item() == pytest.approx(squares, abs=1e-9)
    assert outputs.grad.flatten()[[0, 17, 50]].tolist() == pytest.approx(elements, abs=1e-9)


# What cannot be


@pytest.mark.parametrize('cfg, said', [
    (None, 'expected dict'), (dict(weight=[1]), 'expected dict'), (dict(type='l3'), "loss.type is 'l3'"),
    (dict(type='l1', weight=[1]), "l1 has no key 'weight'"), (dict(type='l1', valid=1), "no key 'valid'"),
    (dict(type='cross_entropy', weights=[1]), "Did you mean 'weight'"), (dict(type='focal', gamma=-1), 'loss.gamma'),
    (dict(type='cross_entropy', weight=[-1.0]), 'loss.weight'), (dict(type='cross_entropy', weight=1.0), 'loss.weight'),
    (dict(type='cross_entropy', ignore=0.5), 'loss.ignore')])
def test_options_that_are_none(cfg, said):
    with pytest.raises(ConfigError, match=said):
        pixel_loss(cfg)


@pytest.mark.parametrize('name', LOSSES)
def test_shapes_that_do_not_fit(name):
    outputs, values, valid = drawn(name)
    with pytest.raises(ValueError, match='do not fit'):
        pixel_loss(dict(type=name))(outputs[..., :-1], values, valid)
    with pytest.raises(ValueError, match='do not fit'):
        pixel_loss(dict(type=name))(outputs, values, valid[:1])


def test_weights_of_another_number_of_classes():
    with pytest.raises(ValueError, match='3 values for 4 classes'):
        pixel_loss(dict(type='cross_entropy', weight=[1, 1, 1]))(*drawn('cross_entropy'))


@pytest.mark.parametrize('module', [geometry, pixel_losses, scores, sliding], ids=lambda module: module.__name__)
def test_examples_of_docstrings(module):
    done = doctest.testmod(module, extraglobs=dict(torch=torch))
    assert done.attempted and not done.failed
