"""Means over batches of what their gradients are, for a linear classifier on features: without a graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clear.continual.samples import as_block
from clear.continual.training.linear_head import fits, lone_layer
from clear.continual.training.loaders import SeedTape
from clear.models.heads.linear_gradient import is_large

# Rows whose logits are held at once: what is done for all of them costs little beside the products of each batch.
ROWS_AT_ONCE = 1024
# Maps logits (C, N), targets (N,) and the size of a batch to the gradients (C, N) of each batch's loss by its logits.
Slopes = Callable[[Tensor, Tensor, int], Tensor]


def mean_over_batches(model: nn.Module, slopes: Slopes, measure: Callable[[Tensor], Tensor], dataset, *,
                      device: torch.device, batch_size: int) -> dict[str, Tensor] | None:
    """For each parameter the mean over batches, in order, of `measure` of the gradient of the batch's loss.

    As by a loop with autograd over a loader: up to rounding the numbers are the same, the gradients of the last batch
    are left behind, and the same random numbers are used. Rows are read where they lie.

    Returns:
        By name, in the shape of the parameter; None, and nothing is done, for other models and data, and for batches
        so small that runs keep autograd's last bits.
    """
    layer = lone_layer(model)
    block = None if layer is None else as_block(dataset)
    if block is None or not fits(layer, block.columns[0]) or not is_large(batch_size * layer.in_features):
        return None
    SeedTape().draw()  # as a loader does at the start of a pass
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    sums = {id(parameter): torch.zeros_like(parameter.detach()) for parameter in layer.parameters()}
    gradient, num_batches = torch.empty_like(weight), 0
    for inputs, targets in block.in_order(max(1, ROWS_AT_ONCE // batch_size) * batch_size):
        inputs, targets = inputs.to(device), targets.to(device)
        logits = weight.mm(inputs.T) if bias is None else torch.addmm(bias[:, None], weight, inputs.T)  # (C, N)
        for rows, errors in zip(inputs.split(batch_size), slopes(logits, targets, batch_size).split(batch_size, 1)):
            torch.mm(errors, rows, out=gradient)
            sums[id(layer.weight)] += measure(gradient)
            if bias is not None:
                layer.bias.grad = errors.sum(1)
                sums[id(layer.bias)] += measure(layer.bias.grad)
            num_batches += 1
    layer.weight.grad = gradient
    return {name: sums[id(parameter)].div_(num_batches) for name, parameter in model.named_parameters()}
