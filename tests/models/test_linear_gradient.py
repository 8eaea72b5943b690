"""The written-out gradients equal autograd's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clear.models.heads.linear_gradient import head_step, softmax_errors


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(('batch', 'dim', 'classes'), [(1, 1, 2), (7, 16, 3), (31, 512, 11), (300, 64, 100)])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('weighted', [True, False])
def test_a_head_step_is_autograds_bit_for_bit(dtype, batch, dim, classes, bias, weighted):
    torch.manual_seed(0)
    layer = nn.Linear(dim, classes, bias=bias, dtype=dtype)
    inputs, targets = torch.randn(batch, dim, dtype=dtype) * 3, torch.randint(classes, (batch,))
    if batch > 1:
        targets[-1] = -100  # left out of the mean
    class_weights = torch.rand(classes, dtype=dtype) + 0.1 if weighted else None
    logits = layer(inputs)
    loss = F.cross_entropy(logits, targets, class_weights)
    loss.backward()
    step = head_step(layer, inputs, targets, class_weights)
    for found, expected in zip(step, (loss, logits, layer.weight.grad, layer.bias.grad if bias else None)):
        if expected is None:
            assert found is None
        else:
            torch.testing.assert_close(found, expected.detach(), rtol=0, atol=0)
            assert found.stride() == expected.stride()


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
