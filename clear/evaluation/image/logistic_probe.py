"""Logistic regression on frozen features: L-BFGS on the full batch, its strength chosen on validation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError
from clear.evaluation.image.rows import LabelledRows, ProbeData, check_select, read_splits
from clear.evaluation.image.scaling import check_scale, fit_scale
from clear.evaluation.image.sweep import SEARCHES, peak_search, spaced_values
from clear.evaluation.task import TaskData, TaskResult, classification_metrics
from clear.registry import TASKS

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_LOGITS_PER_CHUNK = 2**22


@TASKS.register_module()
class LogisticProbe:
    """Multinomial logistic regression with an L2 penalty; the inverse strength C is chosen on validation.

    Minimises C * (sum of cross-entropies) + |W|^2 / 2 with a free bias: scikit-learn's `LogisticRegression(C=C)`. The
    fit for each C starts from that of the next smaller one. The chosen C is tested once, with the weights fitted on
    the training rows that validation left; a single C needs no validation and uses all.

    `search='peak'` with 97 values from 1e-6 to 1e6 is the sweep of CLIP (Radford et al. 2021, arXiv:2103.00020, A.3):
    `peak_search` over falling C, which is a growing penalty 1 / C. Each of its fits starts from zeros.

    Args:
        cs: candidates, e.g. (0.01, 0.1, 1, 10), or `dict(lowest=, highest=, count=)`, evenly spaced on a log scale.
        search: 'grid' fits all, 'peak' those that `peak_search` asks for.
        max_iterations: of L-BFGS, for each C; whether it converged is in `extras['candidates']`.
        tolerance: largest entry of the gradient of the mean objective at which it stops.
        scale, val_fraction: as in `LinearProbe`.
        refit: fit the chosen C again, on training and validation rows together, and test that.
        select: 'val'; or, with `legacy=True`, 'test', as in `LinearProbe`.

    Raises:
        ConfigError: for a C that is not above 0, or settings that contradict each other.

    Example:
        >>> from clear.evaluation import LabelledRows, ProbeData
        >>> rows = LabelledRows(torch.eye(3).repeat(8, 1), torch.arange(3).repeat(8))
        >>> data = ProbeData(train=rows, test=rows, class_names=['cat', 'dog', 'owl'])
        >>> LogisticProbe(cs=[1.0]).fit(data).value
        1.0
    """

    needs: ClassVar = ('bank',)
    splits: ClassVar = ('train', 'test')
    reads_labels: ClassVar = True

    def __init__(self, *, cs: Sequence[float] | Mapping[str, float] = (1e-3, 1e-2, 1e-1, 1.0, 10.0),
                 search: str = 'grid', max_iterations: int = 500, tolerance: float = 1e-5, scale: str = 'standard',
                 val_fraction: float = 0.1, refit: bool = False, select: str = 'val', legacy: bool = False,
                 seed: int = 0, device: str = 'cpu'):
        self.cs = check_strengths(spaced_values('cs', cs))
        self.search = check_choice('search', search, SEARCHES)
        self.max_iterations, self.tolerance = check_whole('max_iterations', max_iterations, 1), tolerance
        self.scale = check_scale(scale)
        self.refit, self.select = check_flag('refit', refit), check_select(select, legacy)
        if self.refit and self.select == 'test':
            raise ConfigError("refit trains on the rows that C was chosen on, which are those of 'test'. Leave it out.")
        self.val_fraction, self.seed, self.device = val_fraction, seed, device

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Fit, select and test on the banks 'train', 'val' (optional) and 'test'.

        Raises:
            DataError: for banks that do not make a task (see `read_splits`).
        """
        return self.fit(read_splits(data.bank, self.device))

    def fit(self, data: ProbeData) -> TaskResult:
        """The same on tensors."""
        chooses = len(self.cs) > 1
        if chooses:
            data = data.for_choosing(self.select, self.val_fraction, self.seed)
        scale = fit_scale(self.scale, data.train.features)
        train = LabelledRows(scale(data.train.features), data.train.labels)
        table: list[dict[str, object]] = []

        def fitted(c: float, start: LogisticFit | None = None) -> LogisticFit:
            found = self._fit(train, data.num_classes, c, start)
            table.append(dict(c=c, converged=found.converged, iterations=found.iterations))
            if chooses:
                scores = found.logits(scale(data.val.features))
                table[-1]['val_top1'] = classification_metrics(scores, data.val.labels)['top1']
            return found

        best, c = self._by_peak(fitted, table) if self.search == 'peak' else self._by_grid(fitted, table)
        if self.refit and chooses:
            data = data.with_all_for_training()
            scale = fit_scale(self.scale, data.train.features)
            best = self._fit(LabelledRows(scale(data.train.features), data.train.labels), data.num_classes, c)
        metrics = classification_metrics(best.logits(scale(data.test.features)), data.test.labels)
        extras = dict(metrics=metrics, selected=dict(c=c), candidates=table, **data.sizes())
        return TaskResult('top1', metrics['top1'], True, extras)

    def _fit(self, train: LabelledRows, num_classes: int, c: float, start: LogisticFit | None = None) -> LogisticFit:
        return fit_logistic(train.features, train.labels, num_classes, c, start=start,
                            max_iterations=self.max_iterations, tolerance=self.tolerance)

    def _by_grid(self, fitted: Callable[..., LogisticFit], table: list[dict]) -> tuple[LogisticFit, float]:
        fits: list[LogisticFit] = []
        for c in self.cs:
            fits.append(fitted(c, fits[-1] if fits else None))
        # Equal accuracies: the smaller C, which is the simpler model.
        best = max(range(len(fits)), key=lambda index: (table[index].get('val_top1', 0.0), -index))
        return fits[best], self.cs[best]

    def _by_peak(self, fitted: Callable[..., LogisticFit], table: list[dict]) -> tuple[LogisticFit, float]:
        falling = self.cs[::-1]
        fits: dict[int, LogisticFit] = {}

        @functools.cache
        def score(place: int) -> float:
            fits[place] = fitted(falling[place])
            return table[-1].get('val_top1', 0.0)

        found = peak_search(score, len(falling))
        return fits[found.index], falling[found.index]


@dataclass(frozen=True)
class LogisticFit:
    """A fitted model: weight (C, D), bias (C,), and how the optimiser ended."""

    weight: Tensor
    bias: Tensor
    converged: bool
    iterations: int

    def logits(self, features: Tensor) -> Tensor:
        """(N, C) logits."""
        return torch.addmm(self.bias, features, self.weight.T)


def fit_logistic(features: Tensor, labels: Tensor, num_classes: int, c: float = 1.0, *,
                 start: LogisticFit | None = None, max_iterations: int = 500, tolerance: float = 1e-5) -> LogisticFit:
    """Minimise c * sum(cross-entropy) + |W|^2 / 2, divided by c * N, with L-BFGS: scikit-learn's C.

    For two classes it has one vector, the difference of ours, whose penalty is that of our two, |W|^2 in place of half
    of it.

    Products of features are in their dtype, sums over rows and the optimiser's vectors in float64.

    Args:
        features: (N, D) floating; labels: (N,) int64 in 0 ... num_classes-1.
        start: where to begin; zeros if None.
    """
    import numpy as np
    from scipy.optimize import minimize  # not torch.optim.LBFGS: it has no line search that is safe without tuning

    dim = features.shape[1]
    c = c / 2 if num_classes == 2 else c
    first = np.zeros((num_classes, dim + 1))
    if start is not None:
        first[:, :dim], first[:, dim] = start.weight.cpu().numpy(), start.bias.cpu().numpy()

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        head = torch.from_numpy(flat.reshape(num_classes, dim + 1)).to(features.device)
        loss, grad = _mean_loss(features, labels, head)
        weight = head[:, :dim]
        grad[:, :dim] += weight / (c * len(labels))
        return loss + weight.square().sum().item() / (2 * c * len(labels)), grad.cpu().numpy().ravel()

    with _blas_of_scipy().limit(limits=1):
        found = minimize(objective, first.ravel(), jac=True, method='L-BFGS-B',
                         options=dict(maxiter=max_iterations, maxfun=2 * max_iterations, gtol=tolerance, ftol=0.0,
                                      maxcor=20))
    head = torch.from_numpy(found.x.reshape(num_classes, dim + 1)).to(features)
    return LogisticFit(head[:, :dim].contiguous(), head[:, dim].contiguous(),
                       bool(np.abs(found.jac).max() <= tolerance), int(found.nit))


@functools.cache
def _blas_of_scipy() -> ThreadpoolController:
    """The BLAS that moves the optimiser's vectors, not torch's, which makes the products.

    These vectors are short. Shared by threads each step waits for all of them, on a busy machine ten times as long.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(prefix='libscipy_openblas')


def _mean_loss(features: Tensor, labels: Tensor, head: Tensor) -> tuple[float, Tensor]:
    """Mean cross-entropy and its gradient (C, D + 1), float64, in chunks of rows."""
    weight, bias = head[:, :-1].to(features.dtype), head[:, -1].to(features.dtype)
    loss, grad = 0.0, torch.zeros_like(head)
    step = max(1, _LOGITS_PER_CHUNK // len(head))
    for rows, targets in zip(features.split(step), labels.split(step)):
        log_probs = torch.addmm(bias, rows, weight.T).log_softmax(1)
        loss -= log_probs.gather(1, targets[:, None]).sum(dtype=torch.float64).item()
        errors = log_probs.exp_()
        errors.scatter_add_(1, targets[:, None], errors.new_full((len(targets), 1), -1.0))
        grad[:, :-1] += errors.T @ rows
        grad[:, -1] += errors.sum(0, dtype=torch.float64)
    return loss / len(labels), grad / len(labels)


def check_strengths(cs: Sequence[float]) -> list[float]:
    """The candidates in ascending order.

    Raises:
        ConfigError: for none, one twice, or one that is not finite and above 0.
    """
    values = list(cs) if isinstance(cs, (list, tuple)) else [cs]
    for value in values:
        check_number('cs', value, above=0)
    if not values or len({*values}) != len(values):
        raise ConfigError(f'cs is {cs!r}; expected at least one value, none twice.')
    return sorted(float(value) for value in values)
