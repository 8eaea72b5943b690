"""How far two samples of features lie apart, with p-values by permutation; where a stream of features changes.

MMD: Gretton et al. 2012, "A kernel two-sample test", equation 3. Fréchet distance of normal distributions: Dowson and
Landau 1982, as of Heusel et al. 2017. Holm 1979 for several tests at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from clear.core.seeding import derive_seed

PERMUTATIONS = 199
COMPONENTS = 64
NEIGHBOURS = 10


@dataclass(frozen=True)
class Comparison:
    """Two samples of features.

    Attributes:
        mmd2: squared maximum mean discrepancy, unbiased (it may be below 0), with a Gaussian kernel as wide as the
            median distance of the pooled rows.
        frechet: squared Fréchet distance of normal distributions on the leading components of the pooled rows.
        knn_overlap: how many of a row's ten nearest other rows are of the other sample, over how many would be by
            chance: 1 = mixed, 0 = apart.
        mmd_p, frechet_p: share of random splits of the pooled rows that are at least as far apart,
            (1 + hits) / (1 + splits).
    """

    mmd2: float
    mmd_p: float
    frechet: float
    frechet_p: float
    knn_overlap: float


def compare(first: np.ndarray, second: np.ndarray, permutations: int = PERMUTATIONS, seed: int = 0) -> Comparison:
    """Compare samples (M, D) and (N, D) of at least two rows each.

    Raises:
        ValueError: if one has fewer than two rows, or all rows are the same.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f'samples of {len(first)} and {len(second)} rows; two of each are needed.')
    rows = torch.from_numpy(np.concatenate([first, second]).astype(np.float64))
    # Column 0 is the split as it is, the others are random ones of the same sizes.
    splits = torch.zeros(len(rows), 1 + permutations, dtype=torch.float64)
    splits[:len(first), 0] = 1
    generator = np.random.default_rng(derive_seed('drift', seed))
    for column in range(1, 1 + permutations):
        splits[torch.from_numpy(generator.permutation(len(rows))[:len(first)]), column] = 1
    distances = torch.cdist(rows, rows)
    mmd2, frechet = _mmd2(distances, splits), _frechet(rows, splits)
    return Comparison(float(mmd2[0]), _p_value(mmd2), float(frechet[0]), _p_value(frechet),
                      _knn_overlap(distances, len(first)))


def mmd2(first: np.ndarray, second: np.ndarray) -> float:
    """Squared maximum mean discrepancy alone, see `Comparison`."""
    rows = torch.from_numpy(np.concatenate([first, second]).astype(np.float64))
    split = torch.zeros(len(rows), 1, dtype=torch.float64)
    split[:len(first)] = 1
    return float(_mmd2(torch.cdist(rows, rows), split)[0])


def enough_permutations(tests: int) -> int:
    """How many random splits each of several tests needs, so that Holm's smallest p-value can fall below .05.

    199, but for more than nine tests more: with 199 alone the smallest of ten would be 10 / 200.
    """
    return max(PERMUTATIONS, 20 * tests)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, each so that all below .05 are wrong together in .05 of cases (Holm 1979)."""
    order = np.argsort(p_values, kind='stable')
    scaled = np.asarray(p_values, float)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


def sampling_keys(ids: Iterable[str]) -> np.ndarray:
    """(N,) uint64 by which rows are chosen: a hash of the id, the same in every data set that holds the image."""
    digests = (hashlib.blake2b(each.encode('utf-8', 'surrogatepass'), digest_size=8).digest() for each in ids)
    return np.frombuffer(b''.join(digests), '<u8')


def change_points(features: np.ndarray, segments: int, blocks: int = 200) -> tuple[list[int], float]:
    """Cut rows in the order of time where they change most: least squares within segments, exact over blocks.

    Args:
        features: (N, D) in the order of time.
        segments: how many there shall be.
        blocks: rows are cut between this many blocks of equal size at most.

    Returns:
        The first row of each segment but the first, and the share of the variance between blocks that lies between
        segments.

    Raises:
        ValueError: for fewer rows than segments.
    """
    blocks = min(blocks, len(features))
    if not 1 <= segments <= blocks:
        raise ValueError(f'{len(features)} rows cannot be cut into {segments} segments.')
    starts = np.linspace(0, len(features), blocks + 1).round().astype(int)
    rows = _leading(torch.from_numpy(np.asarray(features, np.float64))).numpy()
    counts = np.diff(starts).astype(float)
    means = np.add.reduceat(rows, starts[:-1]) / counts[:, None]
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(means * counts[:, None], 0)])
    squares = np.concatenate([[0], np.cumsum((means ** 2).sum(1) * counts)])
    sizes = np.concatenate([[0], np.cumsum(counts)])
    # cost[i, j]: squares within blocks i ... j - 1.
    cost = np.full((blocks + 1, blocks + 1), np.inf)
    for begin in range(blocks):
        ends = np.arange(begin + 1, blocks + 1)
        between = ((sums[ends] - sums[begin]) ** 2).sum(1) / (sizes[ends] - sizes[begin])
        cost[begin, ends] = squares[ends] - squares[begin] - between
    best, came_from = cost[0], []
    for _ in range(segments - 1):
        total = best[:, None] + cost
        came_from.append(total.argmin(0))
        best = total.min(0)
    cuts, end = [], blocks
    for choices in reversed(came_from):
        end = int(choices[end])
        cuts.append(int(starts[end]))
    whole = cost[0, blocks]
    return cuts[::-1], float(1 - best[blocks] / whole) if whole > 0 else 0.0


def _mmd2(distances: torch.Tensor, splits: torch.Tensor) -> torch.Tensor:
    """(S,) of each split: K's means within the samples without the diagonal, less twice the mean between."""
    count = len(distances)
    pairs = torch.triu_indices(count, count, 1)
    width = distances[pairs[0], pairs[1]].median()
    if width <= 0:
        raise ValueError('more than half of the rows are the same: their median distance is 0.')
    kernel = torch.exp(-distances ** 2 / (2 * width ** 2))
    sizes = splits.sum(0)
    others = count - sizes
    first = (splits * (kernel @ splits)).sum(0)
    whole = splits.T @ kernel.sum(1)
    second = kernel.sum() - 2 * whole + first
    return ((first - sizes) / (sizes * (sizes - 1)) + (second - others) / (others * (others - 1))
            - 2 * (whole - first) / (sizes * others))


def _frechet(rows: torch.Tensor, splits: torch.Tensor) -> torch.Tensor:
    """(S,) of each split."""
    rows = _leading(rows)
    moments = rows.T @ rows
    found = []
    for split in splits.T:
        inside = rows[split == 1]
        sizes = len(inside), len(rows) - len(inside)
        means = inside.mean(0), -inside.sum(0) / sizes[1]  # the pooled mean is 0
        squares = inside.T @ inside
        covariances = [(each - size * torch.outer(mean, mean)) / (size - 1)
                       for each, size, mean in zip((squares, moments - squares), sizes, means)]
        values, vectors = torch.linalg.eigh(covariances[0])
        root = vectors * values.clamp(min=0).sqrt() @ vectors.T
        product = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0)
        found.append(((means[0] - means[1]) ** 2).sum() + covariances[0].trace() + covariances[1].trace()
                     - 2 * product.sqrt().sum())
    return torch.stack(found)


def _leading(rows: torch.Tensor) -> torch.Tensor:
    """(N, at most 64), the rows about their mean, on the axes of largest variance."""
    rows = rows - rows.mean(0)
    if rows.shape[1] <= COMPONENTS:
        return rows
    _, vectors = torch.linalg.eigh(rows.T @ rows)  # ascending
    return rows @ vectors[:, -COMPONENTS:]


def _knn_overlap(distances: torch.Tensor, first: int) -> float:
    count = len(distances)
    nearest = distances.clone().fill_diagonal_(torch.inf).topk(min(NEIGHBOURS, count - 1), 1, largest=False).indices
    is_first = torch.arange(count) < first
    by_chance = torch.where(is_first, count - first, first) / (count - 1)
    return float(((is_first[nearest] != is_first[:, None]).double().mean(1) / by_chance).mean())


def _p_value(found: torch.Tensor) -> float:
    return (1 + int((found[1:] >= found[0]).sum())) / len(found)
