"""How similar the two embeddings of a pair are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

SIMILARITIES = ('cosine', 'manhattan', 'euclidean', 'dot')


def pair_similarities(first: Tensor, second: Tensor, kinds: Sequence[str] = SIMILARITIES) -> dict[str, Tensor]:
    """Kind -> (N,) float64 similarities of the rows of (N, D) and (N, D); distances are negative.

    A vector of zeros has cosine 0 to everything. Two equal vectors have a cosine of exactly 1, so that such pairs tie.

    Raises:
        ValueError: for other shapes.
    """
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f'pairs should be (N, D) and (N, D), got {tuple(first.shape)} and {tuple(second.shape)}.')
    first, second = first.double(), second.double()
    found = {}
    for kind in kinds:
        if kind == 'cosine':
            cosine = (functional.normalize(first, dim=1) * functional.normalize(second, dim=1)).sum(1).clamp(-1, 1)
            equal = (first == second).all(1) & (first != 0).any(1)
            found[kind] = torch.where(equal, torch.ones_like(cosine), cosine)
        elif kind == 'dot':
            found[kind] = (first * second).sum(1)
        else:
            found[kind] = -(first - second).norm(p=1 if kind == 'manhattan' else 2, dim=1)
    return found
