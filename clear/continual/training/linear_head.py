"""Iterations of a linear classifier on features without a graph, where their numbers are the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from clear.models.classifier import ComposedClassifier
from clear.models.heads.linear_gradient import head_step

_HOOKS = ('_forward_pre_hooks', '_forward_hooks', '_backward_pre_hooks', '_backward_hooks')


def lone_layer(model: nn.Module) -> nn.Linear | None:
    """The one layer of a linear classifier that is trained in its own precision.

    None where there is more to it: other parts, autocast, frozen parameters, a hook that wants to see what is computed.
    """
    from mmpretrain.models.heads import LinearClsHead  # not before `clear.models` has prepared the library

    parts = [model]
    if type(model) is ComposedClassifier:
        if model.backbone is not None or model.neck is not None or type(model.head) is not LinearClsHead or \
                model.amp_dtype is not None:
            return None
        parts += [model.head, model.head.fc]
    layer = parts[-1]
    if type(layer) is not nn.Linear or nn.modules.module._has_any_global_hook() or \
            any(getattr(part, name) for part in parts for name in _HOOKS):
        return None
    is_plain = layer.weight.dtype in (torch.float32, torch.float64) and all(
        parameter.requires_grad and not parameter._backward_hooks and not parameter._post_accumulate_grad_hooks
        for parameter in layer.parameters())
    return layer if is_plain and not torch.is_autocast_enabled(layer.weight.device.type) else None


def is_cross_entropy(criterion: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether a loss is the mean cross-entropy to the targets, of classes that may have weights."""
    return type(criterion) is nn.CrossEntropyLoss and not any(getattr(criterion, name) for name in _HOOKS) and (
        criterion.label_smoothing, criterion.reduction, criterion.ignore_index) == (0, 'mean', -100)


def fits(layer: nn.Linear, inputs: Tensor) -> bool:
    """Whether a batch is rows of features that the layer takes as they are."""
    return inputs.shape[1:] == layer.weight.shape[1:] and inputs.dtype == layer.weight.dtype and \
        not inputs.requires_grad


def learn(layer: nn.Linear, criterion: nn.CrossEntropyLoss, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Add the gradients of a batch to the layer's; its loss and logits.

    Shape:
        inputs: (B, D)   targets: (B,)   returns: (), (B, C)
    """
    step = head_step(layer, inputs, targets, criterion.weight)
    for parameter, gradient in ((layer.weight, step.weight), (layer.bias, step.bias)):
        if parameter is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return step.loss, step.logits
