"""Softmax over many candidates without ever holding the scores of all of them.

A queue of 65,536 keys and a batch of 256 make 17 million scores. What the losses need of them is one number and one
vector per query: the log of the sum of exponentials, and the candidates' mean under the softmax, which is also the
gradient of the former.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Scores held at a time: on a CPU what fits into its cache, on a GPU few launches (128 MB in float32).
TILE_SCORES = {'cpu': 2**19, 'cuda': 2**25}


def retrieve(queries: Tensor, candidates: Sequence[Tensor], temperature: float) -> tuple[Tensor, Tensor]:
    """Log-sum-exp of `queries @ candidates / temperature`, and the mean candidate under its softmax.

    Gradients flow to the queries through the first result only; candidates are constants.

    Shape:
        queries: (B, D)   candidates: blocks (D, M_i), side by side   returns: (B,), (B, D)
    """
    return _Retrieval.apply(queries, temperature, *[block.detach() for block in candidates])


class _Retrieval(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, temperature: float, *candidates: Tensor) -> tuple[Tensor, Tensor]:
        log_sum, mean = _stream(queries / temperature, candidates)
        ctx.save_for_backward(mean)
        ctx.temperature = temperature
        ctx.num_blocks = len(candidates)
        ctx.mark_non_differentiable(mean)
        return log_sum, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor, _: Tensor) -> tuple:
        [mean] = ctx.saved_tensors
        return (gradient.unsqueeze(1) * mean / ctx.temperature, None) + (None,) * ctx.num_blocks


def _stream(queries: Tensor, candidates: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """One pass over tiles, rescaled whenever a larger score appears."""
    # Queries as columns: of the two products of a tile, the second then needs nothing transposed, which is faster.
    columns = queries.T.contiguous()  # (D, B)
    num_queries = len(queries)
    largest = columns.new_full((1, num_queries), -torch.inf)
    total = torch.zeros_like(largest)
    mean = torch.zeros_like(columns)
    tile_scores = TILE_SCORES.get(queries.device.type, TILE_SCORES['cuda'])
    widest = max(block.shape[1] for block in candidates)
    # One buffer for all tiles: new memory costs more than the arithmetic on it.
    memory = columns.new_empty(min(max(tile_scores, num_queries), num_queries * widest))
    for tile in _tiles(candidates, max(1, tile_scores // num_queries)):
        scores = memory[:num_queries * tile.shape[1]].view(tile.shape[1], num_queries)
        torch.mm(tile.T, columns, out=scores)  # (M, D) @ (D, B) -> (M, B)
        new_largest = torch.maximum(largest, scores.amax(0, keepdim=True))
        shrink = (largest - new_largest).exp_()
        scores.sub_(new_largest).exp_()
        total.mul_(shrink).add_(scores.sum(0, keepdim=True))
        mean.mul_(shrink).addmm_(tile, scores)  # (D, M) @ (M, B) -> (D, B)
        largest = new_largest
    return (largest + total.log()).squeeze(0), (mean / total).T.contiguous()


def _tiles(candidates: Sequence[Tensor], width: int) -> Iterator[Tensor]:
    for block in candidates:
        for start in range(0, block.shape[1], width):
            yield block[:, start:start + width]
