"""Softmax cross-entropy over a linear layer with the gradient written out, so that no graph is built."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

# What `F.cross_entropy` leaves out of its mean, and `reduction='mean'` of torch's kernels.
_IGNORED, _MEAN = -100, 1


class HeadStep(NamedTuple):
    """A linear classifier on a batch: its loss, logits, and the gradient of the loss.

    Shape:
        loss: ()   logits: (B, C)   weight: (C, D)   bias: (C,), None for a layer without one
    """

    loss: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor | None


@torch.no_grad()
def head_step(layer: nn.Linear, inputs: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> HeadStep:
    """What `F.cross_entropy(layer(inputs), targets, class_weights)` and its `backward` give, bit for bit.

    The kernels are those that autograd calls, on operands of the same layout; what is saved is the graph.

    Shape:
        inputs: (B, D), of the layer's dtype   targets: (B,) int64   class_weights: (C,)
    """
    logits = layer(inputs)
    logs = logits.log_softmax(1)
    loss, weight_sum = torch.ops.aten.nll_loss_forward(logs, targets, class_weights, _MEAN, _IGNORED)
    slope = torch.ops.aten.nll_loss_backward(torch.ones_like(loss), logs, targets, class_weights, _MEAN, _IGNORED,
                                             weight_sum)
    errors = torch.ops.aten._log_softmax_backward_data(slope, logs, 1, logs.dtype)
    return HeadStep(loss, logits, errors.t().mm(inputs), None if layer.bias is None else errors.sum(0))


def softmax_errors(logits: Tensor, targets: Tensor, sums: Tensor | None = None) -> Tensor:
    """The gradient of the mean cross-entropy by the logits of many heads: softmax minus one-hot, over the batch size.

    Classes come before samples: softmax over a dimension that is not the last runs over the batch in vector
    registers, which for few classes is several times faster than over rows of C numbers.

    Args:
        logits: overwritten by the result.
        sums: the loss and the hits of each head, summed over the batch, are added to it.

    Shape:
        logits: (G, C, B)   targets: (B,) of all heads, or (G, B)   sums: (2, G)   returns: (G, C, B)
    """
    num_heads, _, size = logits.shape
    torch.softmax(logits, 1, out=logits)
    index = targets.view(-1, 1, size).expand(num_heads, 1, size)
    own = None if sums is None else logits.gather(1, index).squeeze(1)  # (G, B)
    logits.scatter_add_(1, index, logits.new_full((), -1.0).expand(num_heads, 1, size))
    if own is not None:
        # A probability of 0 is one below the smallest number: the loss is then a little too small, not infinite.
        sums[0] -= own.clamp(min=torch.finfo(own.dtype).tiny).log_().sum(1)
        sums[1] += (own > logits.amax(1)).sum(1)  # the own class has at most 0 left, and stands last among equals
    return logits.div_(size)
