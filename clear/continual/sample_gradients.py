"""Means over single samples of what their gradients are, which do not depend on how samples are batched."""

from __future__ import annotations

from collections.abc import Callable

import torch
from avalanche.models import MultiTaskModule, avalanche_forward
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from clear.continual.batch_gradients import Slopes, mean_over_rows
from clear.continual.training.linear_head import fits, lone_layer
from clear.continual.training.loaders import IndexLoader
from clear.core.logs import logger
from clear.core.modes import eval_mode

# Gradients held at once, as numbers: 128 MB of float32.
MAX_HELD = 2**25
# Rows of a pass over one layer, which holds no gradients: a pass costs about as much as 500 rows of 2,048 features.
LAYER_ROWS = 1024
# Maps the outputs (1, C) and the target (1,) of one sample to what is differentiated.
SampleLoss = Callable[[Tensor, Tensor], Tensor]


def mean_over_samples(model: nn.Module, loss: SampleLoss, measure: Callable[[Tensor], Tensor], dataset, *,
                      device: torch.device, batch_size: int, num_workers: int = 0, slopes: Slopes | None = None
                      ) -> dict[str, Tensor]:
    """For each trained parameter the mean over samples of `measure` of the gradient of the sample's loss.

    The model is in evaluation mode meanwhile, and in its own modes afterwards. Gradients come in vectorised passes
    where the model can be vectorised, else sample by sample; the numbers are the same.

    Args:
        measure: of a gradient, element by element: its square, its magnitude. Of a product it must be the product of
            the factors' measures.
        dataset: gives (input, target, ..., task).
        batch_size: samples of a vectorised pass, at most.

    Returns:
        By name, in the shape of the parameter.
    """
    found = None if slopes is None else mean_over_rows(model, slopes, measure, dataset, device=device)
    if found is not None:
        return found
    sums = {name: torch.zeros_like(value) for name, value in model.named_parameters() if value.requires_grad}
    chunk = max(1, min(batch_size, MAX_HELD // max(sum(value.numel() for value in sums.values()), 1)))
    if lone_layer(model) is not None:
        chunk = max(chunk, LAYER_ROWS)
    can_vectorise = not isinstance(model, MultiTaskModule)
    with eval_mode(model):
        for batch in IndexLoader([dataset], [chunk], shuffle=False, num_workers=num_workers):
            inputs, targets, tasks = (column.to(device) for column in (batch[0], batch[1], batch[-1]))
            parts = sum_vectorised(model, loss, measure, inputs, targets) if can_vectorise else None
            if parts is None:
                can_vectorise = False
                parts = sum_one_by_one(model, loss, measure, inputs, targets, tasks)
            for name, value in parts.items():
                sums[name] += value
    return {name: value / len(dataset) for name, value in sums.items()}


def sum_vectorised(model: nn.Module, loss: SampleLoss, measure: Callable[[Tensor], Tensor], inputs: Tensor,
                   targets: Tensor) -> dict[str, Tensor] | None:
    """For each trained parameter the sum over samples of `measure` of the gradient of the sample's loss.

    Shape:
        inputs: (N, ...)   targets: (N,)
        returns: by name, the shape of the parameter; None for a model that cannot be vectorised
    """
    layer = lone_layer(model)
    try:
        if layer is not None and fits(layer, inputs):
            return _sum_of_layer(model, layer, loss, measure, inputs, targets)
        gradients = _gradients(model, loss, inputs, targets)
    except (RuntimeError, NotImplementedError) as error:
        logger.info('%s cannot be vectorised (%s); one backward pass per sample instead.', type(model).__name__,
                    str(error).splitlines()[0])
        return None
    return {name: measure(gradient).sum(0) for name, gradient in gradients.items()}


def _gradients(model: nn.Module, loss: SampleLoss, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradient of each sample by each trained parameter, with a first dimension of samples."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}
    trained = {name: value for name, value in parameters.items() if model.get_parameter(name).requires_grad}
    fixed = {**parameters, **dict(model.named_buffers())}

    def loss_of(weights: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return loss(functional_call(model, {**fixed, **weights}, (one[None],)), target[None])

    return vmap(grad(loss_of), in_dims=(None, 0, 0), randomness='error')(trained, inputs, targets)


def _sum_of_layer(model: nn.Module, layer: nn.Linear, loss: SampleLoss, measure: Callable[[Tensor], Tensor],
                  inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradient of a sample is its slope at the logits times its input, so the sum of what is measured is one
    product of two matrices: single gradients, which fill the memory, are never made.
    """
    def loss_of(logits: Tensor, target: Tensor) -> Tensor:
        return loss(logits[None], target[None])

    slopes = measure(vmap(grad(loss_of), randomness='error')(layer(inputs).detach(), targets))  # (N, C)
    sums = {id(layer.weight): slopes.T.mm(measure(inputs)), id(layer.bias): slopes.sum(0)}
    return {name: sums[id(value)] for name, value in model.named_parameters()}


def sum_one_by_one(model: nn.Module, loss: SampleLoss, measure: Callable[[Tensor], Tensor], inputs: Tensor,
                   targets: Tensor, tasks: Tensor) -> dict[str, Tensor]:
    """As `sum_vectorised`, one backward pass per sample; `tasks` (N,) choose the head of a multi-task model."""
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in trained.items()}
    for row in range(len(inputs)):
        one = slice(row, row + 1)
        value = loss(avalanche_forward(model, inputs[one], tasks[one]), targets[one])
        gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, gradients):
            if gradient is not None:
                sums[name] += measure(gradient)
    return sums
