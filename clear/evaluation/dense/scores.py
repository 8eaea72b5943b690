"""Metrics of predictions for pixels, counted batch by batch so that none of them depends on how batches were cut."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from clear.core.checks import check_choice, check_text, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError, DataError
from clear.datasets.dense.targets import VOID
from clear.evaluation.metrics.pixels.depth import DepthErrors
from clear.evaluation.metrics.pixels.flow import FlowErrors
from clear.evaluation.metrics.pixels.segmentation import ConfusionMatrix
from clear.evaluation.metrics.pixels.virb import batch_binary_iou, batch_iou, neighbour_accuracy

LEGACY = 'legacy_'
_NEAR = 0.05  # of luminance, as in ViRB


class PixelScores(ABC):
    """The metrics of one kind of target.

    Attributes:
        metric: the one that decides; higher_is_better: which way.
    """

    # Name -> whether higher is better. Names that begin with `legacy_` are there with `legacy` alone.
    KNOWN: ClassVar[Mapping[str, bool]]

    def __init__(self, metric: str, legacy: bool):
        known = self.known() if legacy else {name: up for name, up in self.known().items() if LEGACY not in name}
        self.metric = check_choice('metric', metric, known)
        self.higher_is_better = known[metric]
        self._legacy = _BatchMeans(self.of_batch) if legacy else None

    def known(self) -> Mapping[str, bool]:
        """Metrics that may decide."""
        return self.KNOWN

    @torch.no_grad()
    def update(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        """Add images.

        Args:
            outputs: (N, O, H, W) of a head; values, valid: as of `DenseBatch`, at the same H and W.

        Raises:
            ValueError: for shapes that do not fit, or outputs that are not finite where a pixel is valid.
        """
        if len(outputs) != len(values) or outputs.shape[-2:] != values.shape[-2:] or \
                valid.shape != (len(values), *values.shape[-2:]):
            raise ValueError(f'outputs {tuple(outputs.shape)}, targets {tuple(values.shape)} and valid '
                             f'{tuple(valid.shape)} do not fit each other.')
        self._add(outputs, values, valid.bool())
        if self._legacy is not None:
            self._legacy.add(outputs, values, valid.bool())

    def values(self) -> dict[str, float]:
        """Every metric by its name; NaN for one that is the mean of nothing.

        Raises:
            DataError: for depth and flow, if no pixel was valid.
        """
        try:
            found = self._values()
        except ValueError as error:
            raise DataError(str(error)) from error
        return found if self._legacy is None else found | self._legacy.values()

    @abstractmethod
    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None: ...

    @abstractmethod
    def _values(self) -> dict[str, float]: ...

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        """The earlier system's metrics of a batch; by default none."""
        return {}


class ClassScores(PixelScores):
    """`miou`, `aacc`, `macc` and `iou_<class>` from one confusion matrix (see `ConfusionMatrix` for what counts).

    Args:
        means: name -> classes: further means of IoU over some classes, such as the hands without the background; a
            class that is nowhere is left out, as in `miou`.
    """

    KNOWN: ClassVar = dict(miou=True, aacc=True, macc=True, legacy_iou=True)

    def __init__(self, metric: str, legacy: bool, num_classes: int, means: Mapping[str, Sequence[int]] | None = None):
        if check_whole('num_classes', num_classes, 1) > VOID:
            raise ConfigError(f'num_classes is {num_classes}; ids are bytes, and {VOID} is void.')
        if not isinstance(means or {}, Mapping):
            raise ConfigError(f'metric_options.means is {means!r}; expected names with lists of classes.')
        self.means = {check_text('metric_options.means', name): [check_whole(f'metric_options.means.{name}', each, 0,
                                                                             num_classes - 1) for each in classes]
                      for name, classes in (means or {}).items()}
        super().__init__(metric, legacy)
        self.num_classes = num_classes
        self._matrix: ConfusionMatrix | None = None

    def known(self) -> Mapping[str, bool]:
        return {**self.KNOWN, **dict.fromkeys(self.means, True)}

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        if outputs.shape[1] != self.num_classes:
            raise ValueError(f'outputs {tuple(outputs.shape)} are not of {self.num_classes} classes.')
        if self._matrix is None:
            self._matrix = ConfusionMatrix(self.num_classes, VOID, outputs.device)
        self._matrix.update(outputs.argmax(1), values.masked_fill(~valid, VOID))

    def _values(self) -> dict[str, float]:
        matrix = self._matrix or ConfusionMatrix(self.num_classes)
        iou = matrix.iou().cpu()
        return (dict(miou=matrix.mean_iou(), aacc=matrix.pixel_accuracy(), macc=matrix.mean_class_accuracy())
                | {name: iou[classes].nanmean().item() for name, classes in self.means.items()}
                | {f'iou_{number}': value for number, value in enumerate(iou.tolist())})

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        return dict(legacy_iou=batch_iou(outputs, values.masked_fill(~valid, VOID), VOID))


class MaskScores(PixelScores):
    """`iou` of the foreground over all pixels, and `aacc`. A pixel is foreground where its logit is above 0."""

    KNOWN: ClassVar = dict(iou=True, aacc=True, legacy_iou=True)

    def __init__(self, metric: str, legacy: bool):
        super().__init__(metric, legacy)
        self._matrix: ConfusionMatrix | None = None

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        if self._matrix is None:
            self._matrix = ConfusionMatrix(2, VOID, outputs.device)
        self._matrix.update((_one(outputs) > 0).to(torch.uint8), values.masked_fill(~valid, VOID))

    def _values(self) -> dict[str, float]:
        matrix = self._matrix or ConfusionMatrix(2)
        return dict(iou=matrix.iou()[1].item(), aacc=matrix.pixel_accuracy())

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        inside = valid[:, None]
        return dict(legacy_iou=batch_binary_iou(outputs.masked_fill(~inside, -1), values[:, None] * inside))


class DepthScores(PixelScores):
    """`l1`, `abs_rel`, `rmse` and `delta1` ... `delta3`, see `DepthErrors`.

    Args:
        most, pooled: of `DepthErrors`.
    """

    KNOWN: ClassVar = dict(l1=False, abs_rel=False, rmse=False, delta1=True, delta2=True, delta3=True, legacy_l1=False)

    def __init__(self, metric: str, legacy: bool, most: float | None = None, pooled: bool = False):
        super().__init__(metric, legacy)
        self._errors = DepthErrors(most, pooled)

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        self._errors.update(outputs, values.masked_fill(~valid[:, None], 0))

    def _values(self) -> dict[str, float]:
        return self._errors.values()

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        return dict(legacy_l1=(outputs - values).abs().double().mean().item())


class FlowScores(PixelScores):
    """`epe` and `fl_all`, see `FlowErrors`."""

    KNOWN: ClassVar = dict(epe=False, fl_all=False)

    def __init__(self, metric: str, legacy: bool):
        super().__init__(metric, legacy)
        self._errors = FlowErrors()

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        self._errors.update(outputs, values, valid)

    def _values(self) -> dict[str, float]:
        return self._errors.values()


class ErrorScores(PixelScores):
    """`l1` over valid pixels and all channels."""

    KNOWN: ClassVar = dict(l1=False, legacy_l1=False)

    def __init__(self, metric: str, legacy: bool):
        super().__init__(metric, legacy)
        self._sum, self._count = 0.0, 0

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        errors = (outputs - values).abs().double().masked_fill(~valid[:, None], 0)
        self._sum += errors.sum().item()
        self._count += int(valid.sum()) * values.shape[1]

    def _values(self) -> dict[str, float]:
        return dict(l1=_ratio(self._sum, self._count))

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        return dict(legacy_l1=(outputs - values).abs().double().mean().item())


class LuminanceScores(ErrorScores):
    """`l1`, and `neighbour_accuracy`: the share of valid pixels whose output is at most 0.05 away."""

    KNOWN: ClassVar = dict(l1=False, neighbour_accuracy=True, legacy_neighbour_accuracy=True)

    def __init__(self, metric: str, legacy: bool):
        super().__init__(metric, legacy)
        self._near = 0

    def _add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        super()._add(outputs, values, valid)
        self._near += int((((outputs - values).abs() <= _NEAR) & valid[:, None]).sum())

    def _values(self) -> dict[str, float]:
        return super()._values() | dict(neighbour_accuracy=_ratio(self._near, self._count))

    def of_batch(self, outputs: Tensor, values: Tensor, valid: Tensor) -> dict[str, float]:
        return dict(legacy_neighbour_accuracy=neighbour_accuracy(outputs, values, _NEAR))


KINDS: dict[str, type[PixelScores]] = dict(classes=ClassScores, mask=MaskScores, depth=DepthScores, edges=ErrorScores,
                                           flow=FlowScores, luminance=LuminanceScores, image=ErrorScores)


def pixel_scores(target_kind: str, num_classes: int | None, metric: str, /, *, legacy: bool = False, **options: object
                 ) -> PixelScores:
    """What counts the metrics of a kind of target.

    Args:
        num_classes: of 'classes'; None of others.
        metric: the one that decides.
        legacy: also ViRB's own metrics, called `legacy_*`: means over batches of means over their images, which depend
            on how batches were cut.
        options: of the class of that kind.

    Raises:
        ConfigError: for a kind, metric or option that there is not.

    Example:
        >>> scores = pixel_scores('mask', None, 'iou')
        >>> scores.update(torch.tensor([[[[2.0, 1.0, -1.0]]]]), torch.tensor([[[1, 0, 1]]]), torch.ones(1, 1, 3))
        >>> scores.values()['iou'], scores.higher_is_better
        (0.3333333333333333, True)
    """
    kind = KINDS[check_choice('target_kind', target_kind, KINDS)]
    own = set(inspect.signature(kind).parameters) - {'metric', 'legacy', 'num_classes'}
    check_keys('metric_options', options, own, f'targets of kind {target_kind}')
    return kind(metric, legacy, **(dict(num_classes=num_classes) if kind is ClassScores else {}), **options)


class _BatchMeans:
    """Means over batches, by their number of images, as ViRB's code takes them."""

    def __init__(self, of_batch: Callable[[Tensor, Tensor, Tensor], dict[str, float]]):
        self._of_batch = of_batch
        self._sums: dict[str, float] = {}
        self._images = 0

    def add(self, outputs: Tensor, values: Tensor, valid: Tensor) -> None:
        for name, value in self._of_batch(outputs, values, valid).items():
            self._sums[name] = self._sums.get(name, 0.0) + value * len(outputs)
        self._images += len(outputs)

    def values(self) -> dict[str, float]:
        return {name: value / self._images for name, value in self._sums.items()}


def _one(outputs: Tensor) -> Tensor:
    """(N, H, W) of (N, 1, H, W)."""
    if outputs.shape[1] != 1:
        raise ValueError(f'outputs {tuple(outputs.shape)} of a mask should be (N, 1, H, W).')
    return outputs[:, 0]


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float('nan')
