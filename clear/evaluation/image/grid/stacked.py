"""Heads of one shape, stacked: linear classifiers, or networks with a hidden layer, as one tensor per parameter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clear.core.seeding import derive_seed

INITS = ('uniform', 'normal')


@dataclass(frozen=True)
class StackedHeads:
    """G heads: layers of weights with rectifiers between them.

    Args:
        weights: (G, outputs, inputs) of each layer, the first layer first.
        biases: (G, outputs) of each layer.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @classmethod
    def drawn(cls, sizes: Sequence[int], seeds: Sequence[int], dtype: torch.dtype = torch.float32,
              init: str = 'uniform') -> StackedHeads:
        """A head for each seed, by `initial_layers`."""
        heads = [initial_layers(sizes, seed, dtype, init) for seed in seeds]
        weights, biases = (tuple(map(torch.stack, zip(*parts))) for parts in
                           zip(*(zip(*head) for head in heads)))
        return cls(weights, biases)

    def __len__(self) -> int:
        return len(self.weights[0])

    def __getitem__(self, columns: slice | Sequence[int] | Tensor) -> StackedHeads:
        """Some of the heads."""
        return StackedHeads(tuple(weight[columns] for weight in self.weights), tuple(bias[columns] for bias in
                                                                                     self.biases))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All parameters, which may be changed in place."""
        return *self.weights, *self.biases

    def to(self, like: torch.device | str) -> StackedHeads:
        """On a device."""
        return StackedHeads(tuple(weight.to(like) for weight in self.weights),
                            tuple(bias.to(like) for bias in self.biases))

    def clone(self) -> StackedHeads:
        """A copy: a view would keep the heads that it leaves out."""
        return StackedHeads(tuple(weight.clone() for weight in self.weights),
                            tuple(bias.clone() for bias in self.biases))

    def take_from(self, other: StackedHeads, columns: Tensor) -> None:
        """Overwrite some heads, (G,) bool, by those of another stack."""
        for own, its in zip(self.tensors, other.tensors):
            own[columns] = its[columns]

    def are_finite(self) -> Tensor:
        """(G,) bool."""
        return torch.stack([tensor.isfinite().flatten(1).all(1) for tensor in self.tensors]).all(0)

    def logits(self, features: Tensor) -> Tensor:
        """(N, D) features -> (G, C, N): classes before rows, see `train_grid`."""
        first = self.weights[0]
        found = torch.addmm(self.biases[0].reshape(-1, 1), first.reshape(-1, first.shape[2]), features.T)
        found = found.view(*first.shape[:2], len(features))
        for weight, bias in zip(self.weights[1:], self.biases[1:]):
            found = torch.baddbmm(bias[:, :, None], weight, found.relu_())
        return found

    @property
    def widest(self) -> int:
        """The most numbers that a head makes of one row at a time."""
        return max(weight.shape[1] for weight in self.weights)

    def state_dicts(self) -> list[dict[str, Tensor]]:
        """Each head as the state of a `LinearHead`, or of a `MultiEmbeddingHead` if it has a hidden layer."""
        names = _names(len(self.weights))
        return [{f'{name}.{part}': tensors[head].cpu().clone() for index, name in enumerate(names) for part, tensors in
                 (('weight', self.weights[index]), ('bias', self.biases[index]))} for head in range(len(self))]

    @classmethod
    def of_state_dicts(cls, states: Sequence[Mapping[str, Tensor]]) -> StackedHeads:
        """The way back.

        Raises:
            LookupError, RuntimeError: if they are no such states.
        """
        names = _names(len(states[0]) // 2 or 1)
        other = {*states[0]} - {f'{name}.{part}' for name in names for part in ('weight', 'bias')}
        if other:
            raise LookupError(f'{min(other)} is no parameter of such a head')
        weights, biases = (tuple(torch.stack([state[f'{name}.{part}'] for state in states]) for name in names)
                           for part in ('weight', 'bias'))
        return cls(weights, biases)


def _names(num_layers: int) -> list[str]:
    # A rectifier, which has no parameters, stands between two layers of a torch.nn.Sequential.
    return ['head'] if num_layers == 1 else [f'head.{2 * index}' for index in range(num_layers)]


def initial_layers(sizes: Sequence[int], seed: int, dtype: torch.dtype = torch.float32, init: str = 'uniform'
                   ) -> list[tuple[Tensor, Tensor]]:
    """First weight and bias of each layer of a head, by `initial_head`; `sizes` are D, hidden widths, C."""
    if len(sizes) == 2:
        return [initial_head(sizes[1], sizes[0], seed, dtype, init)]
    return [initial_head(outputs, inputs, derive_seed(seed, 'layer', index), dtype, init)
            for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes))]


def initial_head(num_classes: int, dim: int, seed: int, dtype: torch.dtype = torch.float32, init: str = 'uniform'
                 ) -> tuple[Tensor, Tensor]:
    """First weight (C, D) and bias (C,), drawn in float64.

    'uniform' draws both in ±1/sqrt(D), as `torch.nn.Linear` does; 'normal' draws weights of standard deviation 0.01,
    with a bias of 0.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, 'linear probe head'))
    if init == 'normal':
        weight = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64).mul_(0.01)
        return weight.to(dtype), torch.zeros(num_classes, dtype=dtype)
    bound = 1 / math.sqrt(dim)
    draws = torch.rand(num_classes, dim + 1, generator=generator, dtype=torch.float64).mul_(2 * bound).sub_(bound)
    return draws[:, :dim].to(dtype), draws[:, dim].to(dtype)
