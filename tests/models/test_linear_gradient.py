"""The written-out gradients equal autograd's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clear.models.heads.linear_gradient import cross_entropy_slopes, head_step, softmax_errors, squared_norm_slopes


@pytest.mark.parametrize(('dtype', 'large'), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(('batch', 'dim', 'classes'), [(1, 1, 2), (7, 16, 3), (9, 9, 11), (31, 512, 11), (60, 99, 100)])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('weighted', [True, False])
def test_a_head_step_is_autograds(dtype, large, batch, dim, classes, bias, weighted):
    torch.manual_seed(0)
    layer = nn.Linear(dim, classes, bias=bias, dtype=dtype)
    inputs, targets = torch.randn(batch, dim, dtype=dtype), torch.randint(classes, (batch,))
    if batch > 1:
        targets[-1] = -100  # left out of the mean
    class_weights = torch.rand(classes, dtype=dtype) + 0.1 if weighted else None
    logits = layer(inputs)
    loss = F.cross_entropy(logits, targets, class_weights)
    loss.backward()
    step = head_step(layer, inputs, targets, class_weights)
    assert (step.bias is None) == (not bias)
    tolerance = large if inputs.numel() >= 4096 else 0  # small batches: to the last bit
    for found, expected in zip(step, (loss, logits, layer.weight.grad, layer.bias.grad if bias else None)):
        if expected is not None:
            torch.testing.assert_close(found, expected.detach(), rtol=tolerance, atol=tolerance)
            assert not found.requires_grad


@pytest.mark.parametrize('shared', [True, False])
def test_the_errors_of_many_heads_are_autograds_by_their_logits(shared):
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(5, (7,) if shared else (3, 7))
    of_heads = targets.expand(3, 7)
    losses = torch.stack([F.cross_entropy(head.T, target) for head, target in zip(logits, of_heads)])
    losses.sum().backward()
    sums = torch.zeros(2, 3, dtype=torch.float64)
    errors = softmax_errors(logits.detach().clone(), targets, sums)
    torch.testing.assert_close(errors, logits.grad, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(sums[0] / 7, losses.detach(), rtol=1e-12, atol=0)
    assert torch.equal(sums[1], (logits.argmax(1) == of_heads).double().sum(1))


def slopes_by_loops(logits, batch_size, loss):
    """The gradient of the loss of each batch by its logits, by autograd; `loss` gets the batch's logits and rows."""
    logits = logits.detach().clone().requires_grad_()
    for rows in torch.arange(logits.shape[1]).split(batch_size):
        loss(logits[:, rows].T, rows).backward()
    return logits.grad


@pytest.mark.parametrize('batch_size', [1, 3, 7, 20])
@pytest.mark.parametrize('weighted', [True, False])
def test_the_slopes_of_many_batches_are_autograds(batch_size, weighted):
    torch.manual_seed(0)
    logits = torch.randn(5, 19, dtype=torch.float64)
    targets = torch.randint(5, (19,))
    class_weights = torch.rand(5, dtype=torch.float64) + 0.1 if weighted else None
    expected = slopes_by_loops(logits, batch_size, lambda out, rows: F.cross_entropy(out, targets[rows], class_weights))
    found = cross_entropy_slopes(logits.clone(), targets, batch_size, class_weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    expected = slopes_by_loops(logits, batch_size, lambda out, _: out.pow(2).sum(1).mean())
    torch.testing.assert_close(squared_norm_slopes(logits.clone(), batch_size), expected, rtol=1e-12, atol=1e-14)


def test_slopes_leave_out_what_cross_entropy_leaves_out():
    torch.manual_seed(0)
    logits = torch.randn(4, 6, dtype=torch.float64)
    targets = torch.tensor([0, -100, 3, -100, 1, 2])
    expected = slopes_by_loops(logits, 3, lambda out, rows: F.cross_entropy(out, targets[rows]))
    torch.testing.assert_close(cross_entropy_slopes(logits.clone(), targets, 3), expected, rtol=1e-12, atol=1e-14)
    with pytest.raises((IndexError, RuntimeError), match='out of bounds|out of range'):
        cross_entropy_slopes(logits.clone(), targets.where(targets != 3, 4), 3)
