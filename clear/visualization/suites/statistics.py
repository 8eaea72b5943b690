"""Correlations of tasks with a reference, ranks of methods, effects of data: what §5 of the ViRB paper asks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from clear.core.seeding import derive_seed
from clear.visualization.suites.scores import Scores

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

LEAST = 3  # encoders; two lie on a line always
DRAWS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Correlation:
    """Of a task with the reference, over the encoders that have both; None where there are too few or no spread.

    Attributes:
        pearson, spearman: on axes where more is better; with two-sided p values.
    """

    task: str
    n: int
    pearson: float | None = None
    pearson_p: float | None = None
    spearman: float | None = None
    spearman_p: float | None = None


def correlations(scores: Scores, reference: str) -> list[Correlation]:
    """Pearson's and Spearman's correlation of every other task with the reference.

    P values are those of scipy: of Student's t for both, so those of Spearman's are approximate below ten encoders.
    """
    return [_correlation(task, *_paired(scores, reference, task)) for task in scores.tasks if task != reference]


def rank_correlations(scores: Scores) -> np.ndarray:
    """(T, T) Spearman's correlation of every pair of tasks over the encoders that have both; NaN for too few."""
    tasks = list(scores.tasks)
    found = np.full((len(tasks), len(tasks)), np.nan)
    for (i, first), (j, second) in itertools.product(enumerate(tasks), repeat=2):
        value = _correlation(second, *_paired(scores, first, second)).spearman
        found[i, j] = np.nan if value is None else value
    return found


def linear_fit(x: ArrayLike, y: ArrayLike, at: ArrayLike) -> tuple[np.ndarray, np.ndarray] | None:
    """The least-squares line and half the width of its 95 % band (of the mean, Student's t); None for too few points
    or equal x.

    Returns:
        (M,) line, (M,) half width, at the M places `at`.
    """
    from scipy.stats import t

    x, y, at = (np.asarray(values, float) for values in (x, y, at))
    spread = ((x - x.mean()) ** 2).sum() if len(x) else 0
    if len(x) < LEAST or spread == 0:
        return None
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    line = y.mean() + slope * (at - x.mean())
    rest = y - y.mean() - slope * (x - x.mean())
    error = np.sqrt((rest ** 2).sum() / (len(x) - 2) * (1 / len(x) + (at - x.mean()) ** 2 / spread))
    return line, t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * error


@dataclass(frozen=True)
class Best:
    """The best encoder of a task, beside a supervised one.

    Attributes:
        gain: (best - supervised) / |supervised| on the axis where more is better; None without a supervised value.
    """

    task: str
    encoder: str
    value: float
    supervised: float | None
    gain: float | None


def best_encoders(scores: Scores, supervised: str | None = None) -> list[Best]:
    """Of every task; of equal encoders the first."""
    found = []
    for task, about in scores.tasks.items():
        column = scores.column(task)
        name = max(column, key=column.get)
        base = column.get(supervised)
        gain = (column[name] - base) / abs(base) if base else None
        found.append(Best(task, name, about.sign * column[name], None if base is None else about.sign * base, gain))
    return found


@dataclass(frozen=True)
class MeanRank:
    """Of the encoders of a method on the tasks of a class; low and high bound 95 % of bootstrap draws."""

    method: str
    task_class: str
    rank: float
    low: float
    high: float
    num_encoders: int
    num_tasks: int


def mean_ranks(scores: Scores, seed: int = 0) -> list[MeanRank]:
    """Mean rank of each method on each class of tasks, 1 the best, among the encoders that did all tasks of the class.

    Equal encoders share the mean of their ranks. The interval is of draws with replacement of both the encoders of the
    method and the tasks of the class; ranks are not made anew. Encoders without a method are methods of their own.
    """
    found = []
    for task_class in dict.fromkeys(task.task_class for task in scores.tasks.values()):
        tasks = [name for name, task in scores.tasks.items() if task.task_class == task_class]
        encoders = [name for name in scores.encoders if all((name, task) in scores.values for task in tasks)]
        if not encoders:
            continue
        ranks = _ranks(np.array([[scores.better(name, task) for task in tasks] for name in encoders]))
        methods = [scores.encoders[name].method or name for name in encoders]
        for method in dict.fromkeys(methods):
            own = ranks[[index for index, name in enumerate(methods) if name == method]]
            generator = np.random.default_rng(derive_seed(seed, 'mean ranks', method, task_class))
            rows = generator.integers(len(own), size=(DRAWS, len(own)))
            columns = generator.integers(len(tasks), size=(DRAWS, len(tasks)))
            draws = own[rows[:, :, None], columns[:, None, :]].mean((1, 2))
            low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            found.append(MeanRank(method, task_class, own.mean().item(), low.item(), high.item(), len(own), len(tasks)))
    return found


@dataclass(frozen=True)
class Effect:
    """Encoders of one method and number of epochs that differ in their pretraining data, on one task.

    Attributes:
        values: data set -> value, the mean over encoders of that data set.
    """

    task: str
    method: str
    epochs: str
    values: dict[str, float]


def dataset_effects(scores: Scores) -> list[Effect]:
    """Every group with two data sets or more; encoders without a method, data set or epochs are in none."""
    found = []
    for task in scores.tasks:
        groups: dict[tuple[str, str], dict[str, list[float]]] = {}
        for name, about in scores.encoders.items():
            if (name, task) in scores.values and about.method and about.pretrain_dataset and about.epochs:
                group = groups.setdefault((about.method, about.epochs), {})
                group.setdefault(about.pretrain_dataset, []).append(scores.values[name, task])
        found += [Effect(task, method, epochs, {name: fmean(values) for name, values in group.items()})
                  for (method, epochs), group in groups.items() if len(group) > 1]
    return found


def _paired(scores: Scores, first: str, second: str) -> tuple[list[float], list[float]]:
    one, two = scores.column(first), scores.column(second)
    both = [name for name in one if name in two]
    return [one[name] for name in both], [two[name] for name in both]


def _correlation(task: str, x: Sequence[float], y: Sequence[float]) -> Correlation:
    from scipy.stats import pearsonr, spearmanr

    if len(x) < LEAST or len({*x}) < 2 or len({*y}) < 2:
        return Correlation(task, len(x))
    linear, ranked = pearsonr(x, y), spearmanr(x, y)
    return Correlation(task, len(x), *(float(value) for value in (linear.statistic, linear.pvalue, ranked.statistic,
                                                                  ranked.pvalue)))


def _ranks(values: np.ndarray) -> np.ndarray:
    """(E, T) ranks within each column, 1 for the largest; equal values share the mean."""
    above = (values[:, None] < values[None]).sum(1)
    equal = (values[:, None] == values[None]).sum(1)
    return above + (equal + 1) / 2
