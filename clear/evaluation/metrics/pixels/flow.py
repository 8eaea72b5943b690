"""How far predicted optical flow is from measured flow."""

from __future__ import annotations

from torch import Tensor

PIXELS, SHARE = 3.0, 0.05


class FlowErrors:
    """End-point error, and the share of outliers, over all valid pixels of a data set (KITTI 2015, Menze and Geiger
    2015).

    A pixel is an outlier if its end point is off by more than 3 pixels and by more than 5 % of the true length. Both
    are taken at the size of the measured flow.
    """

    def __init__(self):
        self._pixels = self._outliers = 0
        self._errors = 0.0

    def update(self, predictions: Tensor, targets: Tensor, valid: Tensor) -> None:
        """Add images.

        Args:
            predictions, targets: (N, 2, H, W), u and v in pixels; valid: (N, H, W) bool.

        Raises:
            ValueError: for other shapes, or predictions that are not finite.
        """
        if predictions.shape != targets.shape or targets.ndim != 4 or targets.shape[1] != 2 or \
                valid.shape != targets[:, 0].shape:
            raise ValueError(f'predictions {tuple(predictions.shape)}, flow {tuple(targets.shape)} and valid '
                             f'{tuple(valid.shape)} should be (N, 2, H, W), the same, and (N, H, W).')
        valid = valid.bool()
        errors = (predictions.detach().double() - targets.double()).norm(dim=1)[valid]
        if not errors.isfinite().all():
            raise ValueError('predicted flow is not finite.')
        lengths = targets.double().norm(dim=1)[valid]
        self._pixels += errors.numel()
        self._errors += errors.sum().item()
        self._outliers += int(((errors > PIXELS) & (errors > SHARE * lengths)).sum())

    def values(self) -> dict[str, float]:
        """`epe` in pixels and `fl_all`, a share; lower is better.

        Raises:
            ValueError: if no pixel was valid.
        """
        if not self._pixels:
            raise ValueError('no pixel of any image has a flow.')
        return dict(epe=self._errors / self._pixels, fl_all=self._outliers / self._pixels)
