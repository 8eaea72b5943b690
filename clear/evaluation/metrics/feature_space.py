"""How embeddings of images and texts lie on the sphere: spread within a modality, apart from the other.

All are plain functions of features (N, D), of any norm unless it is said; sums are in float64 and nothing of size
(N, N) is held.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from clear.core.checks import check_choice
from clear.core.errors import DataError

DEFINITIONS = ('distinct', 'positive')
_PAIRS_PER_BLOCK = 2**22


def self_similarity(features: Tensor, definition: str = 'distinct') -> float:
    """Mean cosine between the rows.

    Args:
        definition: 'distinct' is over all pairs of two different rows. 'positive' is over the positive entries of the
            whole matrix, each row with itself included, as ProtoCLIP's code has it (arXiv:2206.10996; it follows Liang
            et al. 2022, arXiv:2203.02053, fig. 2); negative cosines are then left out.

    Raises:
        ConfigError: for another definition.
        DataError: for fewer than two rows, or one of zeros, which has no direction.
    """
    check_choice('definition', definition, DEFINITIONS)
    rows = _unit(features, 2)
    if definition == 'distinct':
        # Over all pairs it is the squared length of the sum of the rows; N of these are of a row with itself.
        return float((rows.sum(0).square().sum() - len(rows)) / (len(rows) * (len(rows) - 1)))
    total, count = 0.0, 0
    for block in rows.split(max(1, _PAIRS_PER_BLOCK // len(rows))):
        cosine = block @ rows.T  # (B, N)
        total += float(cosine.clamp(min=0).sum())
        count += int((cosine > 0).sum())
    return total / count


def modality_gap(images: Tensor, texts: Tensor) -> float:
    """Distance between the mean image and the mean text (Liang et al. 2022, arXiv:2203.02053, section 4.2).

    It is defined on rows of unit length; they are taken as they are. The two may have other numbers of rows.
    """
    return float((images.double().mean(0) - texts.double().mean(0)).norm())


def feature_std(features: Tensor) -> float:
    """Mean over dimensions of the sample standard deviation (N - 1) over rows, which are taken as they are."""
    return float(features.double().std(0).mean())


def alignment(images: Tensor, texts: Tensor) -> float:
    """Mean squared distance between an image and its text, both made unit length: 0 ... 4 (Wang and Isola 2020,
    arXiv:2005.10242, alpha = 2).

    Raises:
        DataError: if they are not as many, or a row is of zeros.
    """
    if images.shape != texts.shape:
        raise DataError(f'images {tuple(images.shape)} and texts {tuple(texts.shape)} should be pairs.')
    return float((_unit(images) - _unit(texts)).square().sum(1).mean())


def uniformity(features: Tensor) -> float:
    """Log of the mean of exp(-2 d^2) over all pairs of two different rows, made unit length (Wang and Isola 2020,
    arXiv:2005.10242, t = 2): 0 if all are the same, at least -8.

    Raises:
        DataError: for fewer than two rows, or one of zeros.
    """
    rows = _unit(features, 2)
    total = 0.0
    for start in range(0, len(rows), step := max(1, _PAIRS_PER_BLOCK // len(rows))):
        block = rows[start:start + step]
        # d^2 = 2 - 2 cos; each pair once, below the diagonal
        weights = (4 * (block @ rows[:start + len(block)].T - 1)).exp()
        total += float(weights[:, :start].sum() + weights[:, start:].tril(-1).sum())
    return math.log(total / (len(rows) * (len(rows) - 1) / 2))


def _unit(features: Tensor, least: int = 1) -> Tensor:
    if features.ndim != 2 or len(features) < least:
        raise DataError(f'features {tuple(features.shape)} should be (N, D) of at least {least} rows.')
    features = features.double()
    if (features == 0).all(1).any():
        row = int((features == 0).all(1).nonzero()[0])
        raise DataError(f'Row {row} of the features is all zeros: it has no direction.')
    return functional.normalize(features, dim=1)
