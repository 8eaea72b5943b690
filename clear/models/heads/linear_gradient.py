"""Softmax cross-entropy over a linear layer with the gradient written out, so that no graph is built."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What `F.cross_entropy` leaves out of its mean, and `reduction='mean'` of torch's kernels.
_IGNORED, _MEAN = -100, 1
# Numbers of a batch from which on classes come before samples: of few classes the product then takes two thirds of the
# time and softmax a tenth. Smaller ones keep autograd's last bits: toy runs can be compared with others' exactly.
_LARGE = 2**12
_nll_loss, _nll_loss_slope = torch.ops.aten.nll_loss_forward.default, torch.ops.aten.nll_loss_backward.default


def is_large(numbers: int) -> bool:
    """Whether a batch of so many numbers is worth another order of sums than autograd's."""
    return numbers >= _LARGE


class HeadStep(NamedTuple):
    """A linear classifier on a batch: its loss, logits, and the gradient of the loss.

    Shape:
        loss: ()   logits: (B, C)   weight: (C, D)   bias: (C,), None for a layer without one
    """

    loss: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor | None


def head_step(layer: nn.Linear, inputs: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> HeadStep:
    """What `F.cross_entropy(layer(inputs), targets, class_weights)` and its `backward` give, without a graph.

    For inputs of fewer than 4,096 numbers bit for bit, by the kernels that autograd calls; from there on up to
    rounding.

    Shape:
        inputs: (B, D), of the layer's dtype   targets: (B,) int64   class_weights: (C,)
    """
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    classes = int(not is_large(inputs.numel()))  # the dimension of classes; that of samples is the other
    if classes:
        logits = F.linear(inputs, weight, bias)
    else:
        logits = weight.mm(inputs.T) if bias is None else torch.addmm(bias[:, None], weight, inputs.T)
    logs = logits.log_softmax(classes)
    rows = logs if classes else logs.T
    loss, weight_sum = _nll_loss(rows, targets, class_weights, _MEAN, _IGNORED)
    slope = _nll_loss_slope(torch.ones_like(loss), rows, targets, class_weights, _MEAN, _IGNORED, weight_sum)
    errors = torch._log_softmax_backward_data(slope if classes else slope.T, logs, classes, logs.dtype)
    by_class = errors.T if classes else errors
    return HeadStep(loss, logits if classes else logits.T, by_class.mm(inputs),
                    None if bias is None else by_class.sum(1))


def cross_entropy_slopes(logits: Tensor, targets: Tensor, batch_size: int, class_weights: Tensor | None = None
                         ) -> Tensor:
    """The gradients of `F.cross_entropy` of each of some batches by its logits.

    Shape:
        logits: (C, N), overwritten   targets: (N,) int64   class_weights: (C,)   returns: (C, N)
    """
    minus_one = logits.new_full((), -1.0).expand(logits.shape)
    # What a sample counts: the weight of its class, nothing where it is left out.
    shares = F.nll_loss(minus_one.T, targets, class_weights, ignore_index=_IGNORED, reduction='none')
    errors = torch.softmax(logits, 0, out=logits)
    errors.scatter_add_(0, targets.where(targets != _IGNORED, 0)[None], minus_one[:1])
    return errors.mul_(_over_batch_sums(shares, batch_size))


def squared_norm_slopes(logits: Tensor, batch_size: int) -> Tensor:
    """The gradients of the mean squared norm of the outputs of each of some batches.

    Shape:
        logits: (C, N), overwritten   returns: (C, N)
    """
    return logits.mul_(_over_batch_sums(logits.new_ones(logits.shape[1]), batch_size).mul_(2))


def _over_batch_sums(shares: Tensor, batch_size: int) -> Tensor:
    sums = F.pad(shares, (0, -len(shares) % batch_size)).view(-1, batch_size).sum(1)
    return shares / sums.repeat_interleave(batch_size)[:len(shares)]


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
