"""How far predicted depths are from measured ones."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-3  # metres; ratios need a depth above 0
THRESHOLDS = (1.25, 1.25**2, 1.25**3)


class DepthErrors:
    """L1, absolute relative error, root of the mean square, and shares below three ratios (Eigen et al. 2014,
    arXiv:1406.2283).

    Only pixels with a depth count: finite, above 0, and not beyond `most`. Predictions below a millimetre count as one.
    L1 is the mean over all such pixels; the others are means over images of an image's mean, as tables of depth
    estimation have them, or over all pixels (`pooled=True`). An image without any depth is left out.

    Args:
        most: largest depth that was measured, in metres (NYU: 10); None = no bound.
    """

    def __init__(self, most: float | None = None, pooled: bool = False):
        self.most, self.pooled = most, pooled
        self._pixels, self._images = 0, 0
        self._l1 = 0.0
        self._sums = torch.zeros(2 + len(THRESHOLDS), dtype=torch.float64)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add images.

        Args:
            predictions, targets: (N, H, W) or (N, 1, H, W), metres.

        Raises:
            ValueError: for shapes that differ, or predictions that are not finite where there is a depth.
        """
        if predictions.shape != targets.shape:
            raise ValueError(f'predictions {tuple(predictions.shape)} and depths {tuple(targets.shape)} differ in '
                             'shape.')
        for predicted, target in zip(predictions.detach().double().flatten(1), targets.double().flatten(1)):
            valid = target.isfinite() & (target > 0)
            if self.most is not None:
                valid &= target <= self.most
            if not valid.any():
                continue
            predicted, target = predicted[valid], target[valid]
            if not predicted.isfinite().all():
                raise ValueError('predicted depths are not finite.')
            predicted = predicted.clamp(min=SMALLEST)
            errors = (predicted - target).abs()
            ratio = torch.maximum(predicted / target, target / predicted)
            found = torch.stack([(errors / target).sum(), errors.square().sum(),
                                 *((ratio < threshold).sum().double() for threshold in THRESHOLDS)]).cpu()
            self._l1 += errors.sum().item()
            self._pixels += len(target)
            self._images += 1
            if not self.pooled:
                found /= len(target)
                found[1] = found[1].sqrt()
            self._sums += found

    def values(self) -> dict[str, float]:
        """`l1`, `abs_rel`, `rmse` (metres; lower is better), `delta1` ... `delta3` (shares; higher is better).

        Raises:
            ValueError: if no pixel had a depth.
        """
        if not self._pixels:
            raise ValueError('no pixel of any image has a depth.')
        means = self._sums / (self._pixels if self.pooled else self._images)
        if self.pooled:
            means[1] = means[1].sqrt()
        names = ('abs_rel', 'rmse', *(f'delta{power + 1}' for power in range(len(THRESHOLDS))))
        return dict(l1=self._l1 / self._pixels, **dict(zip(names, means.tolist())))
