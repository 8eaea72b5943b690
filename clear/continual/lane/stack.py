"""Weights of several equal linear or MLP classifiers as one tensor per layer, with forward and backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clear.registry import MODELS

# Values in one activation of an evaluation pass, 64 MB of float32.
ACTIVATION_VALUES = 2**24


@dataclass
class Layer:
    """One linear layer of each of S learners.

    Shape:
        weight, weight_grad: (S, O, I)   bias, bias_grad: (S, O, 1)
    """

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor
    is_rectified: bool  # a ReLU follows


def linear_layers(model: nn.Module) -> list[tuple[nn.Linear, bool]] | None:
    """The linear layers of a classifier of features, each with whether a ReLU follows; None for another model."""
    head = getattr(model, 'head', None)
    if getattr(model, 'backbone', None) is not None or getattr(model, 'neck', None) is not None:
        return None
    if type(head) is MODELS.require('LinearClsHead'):
        found = [(head.fc, False)]
    elif type(head) is MODELS.require('StackedLinearClsHead'):
        if any(block.norm is not None or block.dropout is not None or
               not (block.act is None or type(block.act) is nn.ReLU) for block in head.layers):
            return None
        found = [(block.fc, block.act is not None) for block in head.layers]
    else:
        return None
    parameters = [parameter for layer, _ in found for parameter in (layer.weight, layer.bias)]
    # Its order is the optimiser's, too.
    same = [id(one) for one in parameters] == [id(one) for one in model.parameters()]
    return found if same and all(one.requires_grad for one in parameters) else None


class Stack:
    """S classifiers of the same layers.

    Samples come last in all activations: a softmax over classes then runs over the batch in vector registers, and
    `weight @ inputs.T` is the faster of the two products for few classes.

    Args:
        model: one of them, for the shapes.
        width: S.
    """

    def __init__(self, model: nn.Module, width: int):
        self.width = width
        self.layers: list[Layer] = []
        for linear, is_rectified in linear_layers(model):
            weight = linear.weight.detach().new_zeros((width, *linear.weight.shape))
            bias = weight.new_zeros((width, len(linear.bias), 1))
            self.layers.append(Layer(weight, bias, torch.zeros_like(weight), torch.zeros_like(bias), is_rectified))
        self._inputs: list[Tensor] = []

    @property
    def parameters(self) -> list[Tensor]:
        """(S, ...) each, in the order of a model's `parameters()`."""
        return [part for layer in self.layers for part in (layer.weight, layer.bias)]

    @property
    def inputs(self) -> Tensor:
        """Of the last `forward`."""
        return self._inputs[0]

    @property
    def gradients(self) -> list[Tensor]:
        return [part for layer in self.layers for part in (layer.weight_grad, layer.bias_grad)]

    def load(self, models: Sequence[nn.Module]) -> None:
        """Take the weights of S models."""
        for place, model in enumerate(models):
            for mine, own in self._pairs(place, model):
                mine.copy_(own)

    def store(self, place: int, model: nn.Module) -> None:
        """Give a model the weights of its place."""
        for mine, own in self._pairs(place, model):
            own.copy_(mine)

    def _pairs(self, place: int, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        for mine, own in zip(self.parameters, model.parameters(), strict=True):
            yield mine[place].view(own.shape), own.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits of a batch, keeping what `backward` needs.

        Shape:
            inputs: (S, N, D), or (N, D) of all learners   returns: (S, C, N)
        """
        self._inputs = [inputs]
        for layer in self.layers:
            self._inputs.append(_apply(layer, self._inputs[-1], is_first=len(self._inputs) == 1))
        return self._inputs[-1]

    def backward(self, errors: Tensor) -> None:
        """Fill the gradients from those by the logits of the last `forward`, (S, C, N)."""
        for position in reversed(range(len(self.layers))):
            layer, inputs = self.layers[position], self._inputs[position]
            torch.sum(errors, 2, keepdim=True, out=layer.bias_grad)
            if position == 0 and inputs.ndim == 2:
                torch.mm(errors.flatten(0, 1), inputs, out=layer.weight_grad.flatten(0, 1))
            elif position == 0:
                torch.bmm(errors, inputs, out=layer.weight_grad)
            else:
                torch.bmm(errors, inputs.transpose(1, 2), out=layer.weight_grad)
                errors = torch.bmm(layer.weight.transpose(1, 2), errors)
                if self.layers[position - 1].is_rectified:
                    errors.mul_(inputs > 0)

    def predict(self, inputs: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The likeliest class of (N, D) inputs by every learner: (rows, (S, rows)), some rows at a time."""
        widest = max(inputs.shape[1], *(layer.bias.numel() for layer in self.layers))
        size = max(ACTIVATION_VALUES // widest, 1)
        for start in range(0, len(inputs), size):
            rows = slice(start, min(start + size, len(inputs)))
            values = inputs[rows]
            for position, layer in enumerate(self.layers):
                values = _apply(layer, values, is_first=position == 0)
            # Of equal logits the first, as argmax has it, which is slow over a dimension that is not the last.
            yield rows, values.max(1).indices


def _apply(layer: Layer, inputs: Tensor, *, is_first: bool) -> Tensor:
    if is_first and inputs.ndim == 2:
        outputs = torch.mm(layer.weight.flatten(0, 1), inputs.t()).view(*layer.weight.shape[:2], len(inputs))
    else:
        outputs = torch.bmm(layer.weight, inputs.transpose(1, 2) if is_first else inputs)
    outputs.add_(layer.bias)
    return outputs.relu_() if layer.is_rectified else outputs
