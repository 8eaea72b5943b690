"""Means over batches or samples of what gradients are, for a linear classifier on features: without a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from clear.continual.samples import Block, as_block
from clear.continual.training.linear_head import fits, lone_layer
from clear.continual.training.loaders import SeedTape
from clear.models.heads.linear_gradient import is_large

# Rows whose logits are held at once: what is done for all of them costs little beside the products of each batch.
ROWS_AT_ONCE = 1024
# Rows that are measured at once: new memory for more would cost as much as the measure.
MEASURED_ROWS = 256
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
    layer, block = _layer_and_rows(model, dataset)
    if block is None or not is_large(batch_size * layer.in_features):
        return None
    sums = {id(parameter): torch.zeros_like(parameter.detach()) for parameter in layer.parameters()}
    gradient, num_batches = torch.empty_like(layer.weight.detach()), 0
    for inputs, errors in _errors(layer, block, slopes, batch_size, device):
        for rows, part in zip(inputs.split(batch_size), errors.split(batch_size, 1)):
            torch.mm(part, rows, out=gradient)
            sums[id(layer.weight)] += measure(gradient)
            if layer.bias is not None:
                layer.bias.grad = part.sum(1)
                sums[id(layer.bias)] += measure(layer.bias.grad)
            num_batches += 1
    layer.weight.grad = gradient
    return {name: sums[id(parameter)].div_(num_batches) for name, parameter in model.named_parameters()}


def mean_over_rows(model: nn.Module, slopes: Slopes, measure: Callable[[Tensor], Tensor], dataset, *,
                   device: torch.device) -> dict[str, Tensor] | None:
    """For each parameter the mean over samples of `measure` of the gradient of the sample's loss.

    The gradient of a sample is its slope at the logits times its input, so the sum of what is measured is one product
    of two matrices; gradients are left as they are.

    Args:
        measure: of a gradient, element by element; of a product it must be the product of the factors' measures.

    Returns:
        By name, in the shape of the parameter; None, and nothing is done, for other models and data.
    """
    layer, block = _layer_and_rows(model, dataset)
    if block is None:
        return None
    sums = {id(parameter): torch.zeros_like(parameter.detach()) for parameter in layer.parameters()}
    for inputs, errors in _errors(layer, block, slopes, 1, device):
        errors = measure(errors)
        for rows, part in zip(inputs.split(MEASURED_ROWS), errors.split(MEASURED_ROWS, 1)):
            sums[id(layer.weight)].addmm_(part, measure(rows))
        if layer.bias is not None:
            sums[id(layer.bias)] += errors.sum(1)
    return {name: sums[id(parameter)].div_(len(dataset)) for name, parameter in model.named_parameters()}


def _layer_and_rows(model: nn.Module, dataset) -> tuple[nn.Linear, Block] | tuple[None, None]:
    layer = lone_layer(model)
    block = None if layer is None else as_block(dataset)
    return (None, None) if block is None or not fits(layer, block.columns[0]) else (layer, block)


def _errors(layer: nn.Linear, block: Block, slopes: Slopes, batch_size: int, device: torch.device
            ) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs (N, D) of some batches, and the gradients (C, N) of the batches' losses by the logits."""
    SeedTape().draw()  # as a loader does at the start of a pass
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    for inputs, targets in block.in_order(max(1, ROWS_AT_ONCE // batch_size) * batch_size):
        inputs = inputs.to(device)
        logits = weight.mm(inputs.T) if bias is None else torch.addmm(bias[:, None], weight, inputs.T)  # (C, N)
        yield inputs, slopes(logits, targets.to(device), batch_size)
