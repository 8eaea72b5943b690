"""Retrieval between two lists of embeddings whose rows belong together in groups: an image and its captions, a class
and its images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clear.evaluation.metrics.average_precision import average_precision

_QUERIES_PER_BLOCK = 1024


def first_hits(queries: Tensor, candidates: Tensor, query_groups: Tensor, candidate_groups: Tensor) -> Tensor:
    """(Q,) how many candidates stand before the first one of a query's own group, by falling cosine.

    Equal cosines are in the order of the candidates. A row of zeros has cosine 0 to everything.

    Args:
        queries: (Q, D); candidates: (C, D), of any norm.
        query_groups: (Q,), candidate_groups: (C,), whole numbers: a candidate is right if its group is the query's.

    Raises:
        ValueError: for shapes that do not fit, features that are not finite, or a query without a right candidate.
    """
    _check(queries, candidates, query_groups, candidate_groups)
    queries, candidates = functional.normalize(queries, dim=1), functional.normalize(candidates, dim=1)
    place = torch.arange(len(candidates), device=candidates.device)
    found = []
    for rows, groups in zip(queries.split(_QUERIES_PER_BLOCK), query_groups.split(_QUERIES_PER_BLOCK)):
        cosine = rows @ candidates.T  # (B, C)
        is_right = groups[:, None] == candidate_groups
        best = cosine.masked_fill(~is_right, -torch.inf).amax(1, keepdim=True)
        first = torch.where(is_right & (cosine == best), place, len(place)).amin(1, keepdim=True)
        found.append(((cosine > best) | ((cosine == best) & (place < first))).sum(1))
    return torch.cat(found)


def recall_at(hits: Tensor, ks: Sequence[int]) -> dict[int, float]:
    """Share of the queries whose first right candidate is among the first k, for each k (also one above C).

    Args:
        hits: (Q,), of `first_hits`.
    """
    return {k: (hits < k).double().mean().item() for k in ks}


def ranking_precision(queries: Tensor, candidates: Tensor, query_groups: Tensor, candidate_groups: Tensor
                      ) -> tuple[float, float]:
    """Mean average precision and mean R-precision: the precision among as many candidates as are right.

    Average precision takes candidates of one cosine as one step (see `average_precision`); R-precision takes them in
    their order.

    Args:
        as in `first_hits`.

    Raises:
        ValueError: as `first_hits` does.
    """
    _check(queries, candidates, query_groups, candidate_groups)
    cosine = functional.normalize(queries, dim=1) @ functional.normalize(candidates, dim=1).T
    is_right = query_groups[:, None] == candidate_groups
    average, among_r = [], []
    for scores, right in zip(cosine.double().cpu().numpy(), is_right.cpu().numpy()):
        average.append(average_precision(scores, right.astype(np.int8)))
        order = np.argsort(-scores, kind='stable')
        among_r.append(right[order[:right.sum()]].mean())
    return float(np.mean(average)), float(np.mean(among_r))


def _check(queries: Tensor, candidates: Tensor, query_groups: Tensor, candidate_groups: Tensor) -> None:
    for name, rows, groups in (('queries', queries, query_groups), ('candidates', candidates, candidate_groups)):
        if rows.ndim != 2 or not len(rows) or groups.shape != rows.shape[:1]:
            raise ValueError(f'{name} {tuple(rows.shape)} and their groups {tuple(groups.shape)} should be (N, D) and '
                             '(N,), N > 0.')
        if not rows.isfinite().all():
            raise ValueError(f'{name} are not finite; a rank among them means nothing.')
    if queries.shape[1] != candidates.shape[1]:
        raise ValueError(f'queries have {queries.shape[1]} dimensions, candidates {candidates.shape[1]}.')
    lonely = (~torch.isin(query_groups, candidate_groups)).nonzero()
    if len(lonely):
        raise ValueError(f'query {int(lonely[0])} has no right candidate: none is of its group '
                         f'{int(query_groups[lonely[0]])}.')
