"""Measures of a ranking, one number for each query, from where its relevant items stand among the candidates.

Equal scores have one of two rules, never the order of the data: in the worst case ('worst') a relevant item stands
behind all rivals of its score, and the less relevant of two relevant ones comes first; 'expected' is the mean over all
orders of equal scores, in closed form (McSherry and Najork 2008, "Computing information retrieval performance measures
efficiently in the presence of tied scores"). A query without a relevant item has no value and is refused: leave such
queries out and say how many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clear.core.checks import check_choice, check_whole

TIES = ('worst', 'expected')
RECALLS = ('any', 'share')
GAINS = ('linear', 'exponential')
CUTS = ('min', 'hits', 'relevant')


@dataclass(frozen=True)
class RelevantRanks:
    """Where the relevant items of Q queries stand; a row holds one query's, from the best, and `inf` behind them.

    Args:
        worst: (Q, R) float64, ranks from 1, with all ties lost; ascending. A relevant item that a list lacks has any
            rank beyond it.
        first: (Q, R) the best rank that an item of the same score has; None if no scores are equal.
        size: (Q, R) how many candidates have that score, itself among them; None if no scores are equal.
        grades: (Q, R) how relevant the items are, above 0; None for all alike.

    Raises:
        ValueError: for a query without a relevant item.
    """

    worst: Tensor
    first: Tensor | None = None
    size: Tensor | None = None
    grades: Tensor | None = None

    def __post_init__(self) -> None:
        if self.worst.ndim != 2 or not len(self.worst):
            raise ValueError(f'ranks should be (Q, R) for Q > 0 queries, got {tuple(self.worst.shape)}.')
        empty = (~self.worst.isfinite().any(1)).nonzero()
        if len(empty):
            raise ValueError(f'query {int(empty[0])} has no relevant item ({len(empty)} of {len(self.worst)} queries '
                             'have none), so nothing can be found. Leave such queries out and count them.')

    @property
    def counts(self) -> Tensor:
        """(Q,) how many items are relevant."""
        return self.worst.isfinite().sum(1)

    def with_missing(self, missing: Tensor, num_candidates: int) -> RelevantRanks:
        """The same with so many more relevant items (Q,), of the same grade, that stand behind all candidates."""
        number = torch.arange(1, int(missing.max()) + 1)
        behind = torch.where(number <= missing[:, None], num_candidates + number.double(), torch.inf)
        worst, order = torch.cat([self.worst, behind], 1).sort(1)
        first = torch.cat([self.worst if self.first is None else self.first, behind], 1).gather(1, order)
        size = torch.cat([torch.ones_like(self.worst) if self.size is None else self.size, torch.ones_like(behind)], 1)
        return RelevantRanks(worst, first, size.gather(1, order))


def ranks_from_counts(queries: Tensor, above: Tensor, equal: Tensor, num_queries: int, grades: Tensor | None = None
                      ) -> RelevantRanks:
    """Ranks of P relevant items of any query, from comparisons with all candidates.

    Args:
        queries: (P,) the query of each, in 0 ... num_queries-1.
        above: (P,) how many candidates have a higher score, relevant or not.
        equal: (P,) how many have the same score, itself among them.
        grades: (P,) above 0, see `RelevantRanks`.

    Raises:
        ValueError: for a query without a relevant item.
    """
    queries, above, equal = (each.cpu().numpy() for each in (queries, above, equal))
    gains = np.ones(len(queries)) if grades is None else grades.cpu().numpy()
    order = np.lexsort((gains, above, queries))
    queries, above, equal, gains = queries[order], above[order], equal[order], gains[order]
    counts = np.bincount(queries, minlength=num_queries)
    column = np.arange(len(queries)) - (counts.cumsum() - counts)[queries]
    is_last = np.append((queries[1:] != queries[:-1]) | (above[1:] != above[:-1]), True)[:len(queries)]
    group_end = np.flatnonzero(is_last)
    # The last relevant item of a score has its last place, the one before it the place before.
    behind = group_end[np.searchsorted(group_end, np.arange(len(queries)))] - np.arange(len(queries))
    table = torch.full((4, num_queries, max(int(counts.max(initial=0)), 1)), torch.inf, dtype=torch.float64)
    for number, values in enumerate((above + equal - behind, above + 1, equal, gains)):
        table[number, torch.from_numpy(queries), torch.from_numpy(column)] = torch.from_numpy(values).double()
    return RelevantRanks(*table[:3], None if grades is None else table[3])


def rank_relevant(scores: Tensor, relevant: Tensor) -> RelevantRanks:
    """Ranks of relevant items in a matrix of scores.

    Args:
        scores: (Q, C), higher stands before lower.
        relevant: (Q, C), bool, or grades of which those above 0 are relevant.

    Raises:
        ValueError: for other shapes, scores that are NaN, or a query without a relevant item.
    """
    if scores.ndim != 2 or relevant.shape != scores.shape:
        raise ValueError(f'scores {tuple(scores.shape)} and relevant {tuple(relevant.shape)} should both be (Q, C).')
    if scores.isnan().any():
        raise ValueError('scores hold NaN; a rank among them means nothing.')
    is_relevant = relevant > 0
    rows, columns = is_relevant.nonzero().T
    grades = None if relevant.dtype == torch.bool else relevant[rows, columns].double()
    return ranks_from_counts(rows, *counts_among(scores, rows, columns), len(scores), grades)


def counts_among(scores: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """`above` and `equal` of `ranks_from_counts` for P entries of a matrix of scores (Q, C), rows ascending."""
    scores = scores.float() if scores.dtype == torch.bfloat16 else scores  # which NumPy does not know
    own = scores[rows, columns]
    ascending = torch.from_numpy(np.sort(scores.contiguous().cpu().numpy(), axis=1))  # 30 times as fast as torch's
    counts = torch.bincount(rows, minlength=len(scores))
    place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    table = torch.zeros(len(scores), int(counts.max()), dtype=scores.dtype)  # (Q, R)
    rows, place = rows.cpu(), place.cpu()
    table[rows, place] = own.cpu()
    not_above, below = (torch.searchsorted(ascending, table, right=right)[rows, place] for right in (True, False))
    return scores.shape[1] - not_above, not_above - below


def recall_at_k(ranks: RelevantRanks, k: int, *, definition: str = 'any', ties: str = 'worst') -> Tensor:
    """(Q,) recall among the first k.

    Args:
        definition: 'any' is 1 if at least one relevant item is found (R@k of papers on image-text retrieval, "hit
            rate", "accuracy at k"); 'share' is the share of the relevant items that is found (of text retrieval).
    """
    check_choice('definition', definition, RECALLS)
    if definition == 'share':
        return _found(ranks, k, ties) / ranks.counts
    k = _check(k, ties)
    if ties == 'worst':
        return (ranks.worst[:, 0] <= k).double()
    first, size, alike, _ = _groups(ranks)
    first, size, alike = first[:, 0], size[:, 0], alike[:, 0]
    shown = (k + 1 - first).clamp(min=0).minimum(size)
    return 1 - _share_without(size, alike, shown)


def precision_at_k(ranks: RelevantRanks, k: int, *, ties: str = 'worst') -> Tensor:
    """(Q,) share of the first k that is relevant; places beyond the last candidate count as wrong."""
    return _found(ranks, k, ties) / k


def mean_reciprocal_rank(ranks: RelevantRanks, k: int | None = None, *, ties: str = 'worst') -> Tensor:
    """(Q,) one over the rank of the first relevant item, 0 if it is not among the first k. MRR@k is the mean."""
    k = _check(k, ties)
    if ties == 'worst':
        first = ranks.worst[:, 0]
        return torch.where(first <= k, 1 / first, 0.0)
    values = []
    for first, size, alike in zip(*(column[:, 0].tolist() for column in _groups(ranks)[:3])):
        # P(the first relevant one is at least `offset` places into its score) = C(size-offset, alike) / C(size, alike)
        offset = torch.arange(int(size - alike) + 2, dtype=torch.float64)
        reaches = _share_without(*torch.tensor([size, alike], dtype=torch.float64), offset)
        places = first + offset[:-1]
        values.append(((reaches[:-1] - reaches[1:]) / places)[places <= k].sum())
    return torch.stack(values)


def ndcg_at_k(ranks: RelevantRanks, k: int | None = None, *, definition: str = 'linear', ties: str = 'worst'
              ) -> Tensor:
    """(Q,) discounted cumulative gain of the first k over that of the best order, both discounted by log2(1 + rank).

    Args:
        definition: the gain of grade g is g ('linear', Järvelin and Kekäläinen 2002; trec_eval, scikit-learn,
            torchmetrics) or 2^g - 1 ('exponential', Burges et al. 2005). The same where all are relevant alike.
    """
    check_choice('definition', definition, GAINS)
    k = _check(k, ties)
    is_item = ranks.worst.isfinite()
    grades = is_item.double() if ranks.grades is None else ranks.grades.where(is_item, 0.0)
    gains = grades if definition == 'linear' else 2 ** grades - 1
    place = torch.arange(1, gains.shape[1] + 1, dtype=torch.float64)
    ideal = (gains.sort(1, descending=True).values * (place <= k) / torch.log2(1 + place)).sum(1)
    if ties == 'worst':
        discount = (ranks.worst <= k) / torch.log2(1 + ranks.worst)
    else:
        first, size, _, _ = _groups(ranks)
        last = int((first + size)[is_item].max())
        upto = torch.cat([torch.zeros(1, dtype=torch.float64),
                          (1 / torch.log2(1 + torch.arange(1, last, dtype=torch.float64))).cumsum(0)])
        ends = (first + size - 1).clamp(max=k), (first - 1).clamp(max=k)
        discount = (_at(upto, ends[0]) - _at(upto, ends[1])) / size
    return (gains * discount).sum(1) / ideal


def average_precision_at(ranks: RelevantRanks, k: int | None = None, *, definition: str = 'min', ties: str = 'worst'
                         ) -> Tensor:
    """(Q,) sum of the precisions at the ranks of the relevant items among the first k, over what `definition` says.

    Args:
        k: None ranks all candidates, and every definition gives the same.
        definition: 'min' divides by the most that can be found, min(k, R) (sentence-transformers); 'hits' by how many
            are found (torchmetrics; no closed form of `ties='expected'`); 'relevant' by R (trec_eval's map_cut).
    """
    check_choice('definition', definition, CUTS)
    k = _check(k, ties)
    total = _precisions(ranks, torch.full((len(ranks.worst), 1), k, dtype=torch.float64), ties)
    if definition == 'hits' and k < torch.inf:
        if ties == 'expected':
            raise ValueError("definition='hits' divides by a number that depends on the order of equal scores, so "
                             "ties='expected' has no closed form.")
        return total / (ranks.worst <= k).sum(1).clamp(min=1)
    return total / (ranks.counts.clamp(max=k) if definition == 'min' else ranks.counts)


def r_precision(ranks: RelevantRanks, *, ties: str = 'worst') -> Tensor:
    """(Q,) precision among the first R, R being how many items are relevant."""
    check_choice('ties', ties, TIES)
    return _shares(ranks, ranks.counts[:, None], ties).sum(1) / ranks.counts


def map_at_r(ranks: RelevantRanks, *, ties: str = 'worst') -> Tensor:
    """(Q,) average precision among the first R over R (Musgrave et al. 2020, arXiv:2003.08505; ECCV Caption, Chun et
    al. 2022, arXiv:2204.03359). The mean over queries is mAP@R.
    """
    check_choice('ties', ties, TIES)
    return _precisions(ranks, ranks.counts[:, None].double(), ties) / ranks.counts


def median_rank(ranks: RelevantRanks) -> float:
    """Median over queries of the worst-case rank of the first relevant item; the mean of the middle two if even."""
    return float(np.median(ranks.worst[:, 0].numpy()))


def _check(k: int | None, ties: str) -> float:
    check_choice('ties', ties, TIES)
    return torch.inf if k is None else check_whole('k', k, 1)


def _found(ranks: RelevantRanks, k: int, ties: str) -> Tensor:
    """(Q,) how many relevant items are among the first k."""
    return _shares(ranks, torch.tensor(_check(k, ties)), ties).sum(1)


def _shares(ranks: RelevantRanks, k: Tensor, ties: str) -> Tensor:
    """(Q, R) the probability that each is among the first k."""
    if ties == 'worst':
        return (ranks.worst <= k).double()
    first, size, _, _ = _groups(ranks)
    return ((k + 1 - first).clamp(min=0).minimum(size) / size).nan_to_num(0.0)


def _precisions(ranks: RelevantRanks, k: Tensor, ties: str) -> Tensor:
    """(Q,) sum of the precisions at the relevant items of rank up to k (Q, 1)."""
    if ties == 'worst':
        number = torch.arange(1, ranks.worst.shape[1] + 1, dtype=torch.float64)
        return (number / ranks.worst * (ranks.worst <= k)).sum(1)
    first, size, alike, before = _groups(ranks)
    last = int((first + size)[first.isfinite()].max())
    upto = torch.cat([torch.zeros(1, dtype=torch.float64),
                      (1 / torch.arange(1, last, dtype=torch.float64)).cumsum(0)])
    end, begin = (first + size - 1).minimum(k), (first - 1).minimum(k)
    reciprocals = _at(upto, end) - _at(upto, begin)  # sum of 1 / place over the shown places of this score
    # Of the t - 1 places before place first + t - 1 of this score, (alike-1) / (size-1) are relevant if this one is.
    slope = (alike - 1) / (size - 1).clamp(min=1)
    shown = (end - begin).nan_to_num(0.0)
    each = (before + 1) * reciprocals + slope * (shown - first * reciprocals)
    return (each / size).where(first.isfinite(), 0.0).sum(1)


def _groups(ranks: RelevantRanks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(Q, R) each: first place and size of the item's score, how many relevant ones share it, and stand before it."""
    first = ranks.worst if ranks.first is None else ranks.first
    size = torch.ones_like(first) if ranks.size is None else ranks.size
    before = torch.searchsorted(first.contiguous(), first.contiguous())
    upto = torch.searchsorted(first.contiguous(), first.contiguous(), right=True)
    return first, size, (upto - before).double(), before.double()


def _share_without(size: Tensor, alike: Tensor, shown: Tensor) -> Tensor:
    """The probability that none of `alike` among `size` items is among the first `shown`, in random order."""
    rivals = size - alike
    log = (torch.lgamma(rivals + 1) - torch.lgamma((rivals - shown).clamp(min=0) + 1)
           + torch.lgamma(size - shown + 1) - torch.lgamma(size + 1))
    return torch.where(shown > rivals, 0.0, log.exp())


def _at(table: Tensor, place: Tensor) -> Tensor:
    """`table` at whole numbers; 0 where there is no item."""
    is_item = place.isfinite()
    return table[place.where(is_item, 0).long().clamp(max=len(table) - 1)].where(is_item, 0.0)
