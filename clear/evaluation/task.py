"""What a task reads and what it reports: one number, whether higher is better, and everything behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from clear.core.checks import check_choice
from clear.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from clear.core.types import Options
    from clear.datasets import ImageTable
    from clear.evaluation.image.rows import Bank
    from clear.features import FeatureBank

NEEDS = ('bank', 'maps', 'images', 'text', 'text_encoder')


@dataclass(frozen=True)
class TaskData:
    """What a task said that it needs, split -> what it reads there; the other fields are empty.

    Attributes:
        bank: the features.
        maps: banks that hold the feature maps of the task's `levels`, see `FeatureBank.maps`.
        images: the images themselves, `images.open_image(row)`, with their ids and labels.
        text: the captions of each image, a list of any length.
        encoder_name: of the encoder, for messages.
        vectors: what tasks made of texts by this very encoder, weights and all, for those that come after them.
        storage: how a task that makes banks or map caches of its own keeps them: what the `banks` of the config say of
            root, dtype, batch_size and max_bad_fraction, arguments of `clear.features.extract`.
        folder: where the task may keep files: histories, heads, the state that it goes on from after a kill. What lies
            there is of this very task, encoder and data. None where nothing is written.
        jobs: task -> the folder of that task on the same encoder, for each of the task's `reads_jobs`.
    """

    bank: Mapping[str, Bank] = field(default_factory=dict)
    maps: Mapping[str, FeatureBank] = field(default_factory=dict)
    images: Mapping[str, ImageTable] = field(default_factory=dict)
    text: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)
    encoder_name: str = 'features'
    vectors: dict[str, Tensor] = field(default_factory=dict)
    storage: Options = field(default_factory=dict)
    folder: Path | None = None
    jobs: Mapping[str, Path] = field(default_factory=dict)


@runtime_checkable
class EncodesText(Protocol):
    """An encoder of images that encodes text into the same space."""

    def encode_text(self, texts: list[str]) -> Tensor:
        """N texts -> (N, D)."""


@runtime_checkable
class CountsTruncated(Protocol):
    """An encoder of text that knows what it does not read."""

    def num_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than it reads."""


@runtime_checkable
class ChecksClasses(Protocol):
    """A task that knows some classes by name."""

    def check_classes(self, known: Sequence[str]) -> None:
        """Raise DataError if these are others."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A task that reads files of its own, which are no data set of a config."""

    def files_fingerprint(self) -> str:
        """A text that changes when what these files hold changes; raises DataError if they cannot be read."""


@runtime_checkable
class ChecksFit(Protocol):
    """A task that can say before anything is encoded whether an encoder and data fit it; a dry run asks."""

    def check_fit(self, encoder: nn.Module, data: TaskData) -> None:
        """Raise ConfigError or DataError as `run` would before it begins."""


class Task(Protocol):
    """What every task offers.

    Attributes:
        needs: some of `NEEDS`: a field of `TaskData`, or 'text_encoder' for an encoder that
            `EncodesText` too. A task that needs 'maps' also says which `levels`, 0 (fine) to 4 (coarse). One that needs
            'text_encoder' alone gets no data: it reads files of its own, and then also `ReadsFiles`.

    A class that says `reads_grid = True` (its base does not count) takes the arguments in the `grid` of a probing
    config where it has none of its own. One that says `reads_labels = True` is refused data without any label before
    anything is encoded, one that says `splits = ('test',)` data without these, and one with `check_classes(names)` is
    asked about the classes of 'test', before a model trains. One that trains the encoder or makes banks of its own
    says `encodes_by_itself = True`, and is not measured while a model trains.

    One that reads what other tasks of the config left in their folders names them, `reads_jobs = ('imagenet',)`; it
    is run after them, and `data.jobs` has their folders. A class that says `one_seed_per_job = True` has an argument
    `seed`; with `seeds=3` in its entry, which is no argument of it, every seed is a job, and the engine joins them.
    """

    needs: ClassVar[tuple[str, ...]]

    def run(self, encoder: nn.Module | None, data: TaskData) -> TaskResult:
        """Measure an encoder; a task that reads banks alone gets None, since a bank may come without its encoder."""


def needs_of(task: Task) -> tuple[str, ...]:
    """What a task reads.

    Raises:
        ConfigError: if it does not say so.
    """
    needs, name = getattr(task, 'needs', None), type(task).__name__
    if not isinstance(needs, (tuple, list)) or not needs or any(need not in NEEDS for need in needs):
        raise ConfigError(f"{name}.needs is {needs!r}; expected what the task reads, some of "
                          f"{', '.join(map(repr, NEEDS))}: needs = ('bank',).")
    if 'maps' in needs and not getattr(task, 'levels', None):
        raise ConfigError(f'{name} needs maps but does not say of which levels: levels = [0, 4].')
    return tuple(needs)


def reads_text_alone(needs: Sequence[str]) -> bool:
    """Whether a task with these needs gets no data."""
    return set(needs) == {'text_encoder'}


def encodes_by_itself(task: Task) -> bool:
    """Whether a task trains the encoder, or makes banks of its own."""
    return getattr(task, 'encodes_by_itself', False)


def one_seed_per_job(task: Task | type[Task]) -> bool:
    """Whether each seed of a task is a job of its own."""
    return getattr(task, 'one_seed_per_job', False)


def reads_jobs(task: Task) -> tuple[str, ...]:
    """The tasks of a config whose folders a task reads.

    Raises:
        ConfigError: if it does not name them so.
    """
    names = getattr(task, 'reads_jobs', ())
    if not isinstance(names, (tuple, list)) or any(not isinstance(name, str) for name in names):
        raise ConfigError(f'{type(task).__name__}.reads_jobs is {names!r}; expected names of tasks: '
                          "reads_jobs = ('imagenet',).")
    return tuple(names)


def reads_labels(task: Task) -> bool:
    """Whether a task can do nothing without labels."""
    return getattr(task, 'reads_labels', False)


def check_images(task: Task, name: str, images: Mapping[str, ImageTable]) -> None:
    """Refuse images that a task cannot be measured on, before any of them is encoded.

    Args:
        images: 'train', 'val', 'test' -> the images of that split.

    Raises:
        ConfigError: for a split that is not there.
        DataError: for one without labels or captions, or of other classes than the task knows.
    """
    splits = getattr(task, 'splits', ())
    lacking = [split for split in splits if split not in images]
    if lacking:
        raise ConfigError(f"{name} needs images called {' and '.join(map(repr, splits))}; data has "
                          f'{", ".join(map(repr, images)) or "none"}.')
    for split, table in images.items():
        if 'text' in needs_of(task) and 'caption' not in table:
            raise DataError(f'{name} needs captions, and the images of {split} have none.')
        if reads_labels(task) and not (table.label_array() >= 0).any():
            raise DataError(f'{name} needs labels, and the images of {split} have none.')
    if isinstance(task, ChecksClasses) and 'test' in images:
        task.check_classes(images['test'].class_names)


@dataclass(frozen=True)
class TaskResult:
    """The outcome of one task on one encoder.

    Args:
        metric: name of `value`, as in 'top1'.
        value: the number to report; the mean over seeds where there are several.
        higher_is_better: how to compare two values of this metric.
        extras: plain values (dicts, lists, numbers, text). Tasks agree on `metrics` (every metric of the run, `value`
            among them), `higher_is_better` (metric -> bool, of those that differ from `value` in it), of several seeds
            `per_seed` (seed as text -> metrics), `std` (metric -> sample standard deviation) and `interval` (metric ->
            [low, high], 95 %), `n_train`, `n_val`, `n_test` (rows used), `unlabelled` (split -> rows left out for want
            of a label), `selected` (the hyper-parameters chosen on validation) and `grid` (every candidate with its
            validation accuracy).
    """

    metric: str
    value: float
    higher_is_better: bool = True
    extras: dict[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; `TaskResult(**result.to_dict())` is the way back."""
        return dict(metric=self.metric, value=self.value, higher_is_better=self.higher_is_better, extras=self.extras)


def classification_metrics(scores: Tensor, targets: Tensor, ties: str = 'worst') -> dict[str, float]:
    """Accuracies of class scores.

    Args:
        scores: (N, C), higher is more likely; a class of -inf is no answer and never a hit.
        targets: (N,) int64 in 0 ... C-1.
        ties: 'worst' puts the true class behind all others of its score, so that equal scores for all classes are
            wrong; 'expected' is the mean over all orders of equal scores.

    Returns:
        `top1`; `top5` where there are more than five classes; `mean_per_class`, the mean over the classes that occur
        in `targets` of the top-1 accuracy on each.

    Raises:
        ConfigError: for another rule.
        ValueError: for no rows, other shapes, or scores that are NaN (which would compare as neither more nor less).
    """
    if scores.ndim != 2 or len(scores) != len(targets) or not len(targets):
        raise ValueError(f'scores should be (N, C) for N > 0 targets, got {tuple(scores.shape)} for {len(targets)}.')
    if scores.isnan().any():
        raise ValueError('scores hold NaN; a rank among them means nothing.')
    return accuracies(*counts_of(scores, targets, ties), targets, scores.shape[1])


def counts_of(scores: Tensor, targets: Tensor, ties: str = 'worst') -> tuple[Tensor, Tensor]:
    """Of every row, how many classes stand before the target for sure, and how many places it may have from there.

    With `ties='worst'` it has one place, behind all others of its score. All C classes stand before a target of -inf.

    Returns:
        (N,) before, (N,) places, both float64.
    """
    check_choice('ties', ties, ('worst', 'expected'))
    own = scores.gather(1, targets[:, None])  # (N, 1)
    # Of all that is not below, one is the target itself. Bytes are summed six times as fast as truth values.
    not_below = (scores >= own).view(torch.uint8).sum(1, dtype=torch.int32).double()
    before = not_below - 1 if ties == 'worst' else (scores > own).view(torch.uint8).sum(1, dtype=torch.int32).double()
    before = before.masked_fill(own.squeeze(1) == -torch.inf, scores.shape[1])
    return before, torch.ones_like(before) if ties == 'worst' else not_below - before


def accuracies(before: Tensor, places: Tensor, targets: Tensor, num_classes: int) -> dict[str, float]:
    """`classification_metrics` from `counts_of`, which may have come in parts."""
    def among(k: int) -> Tensor:
        return ((k - before) / places).clamp(0, 1)  # the probability of a place among the first k

    hits = among(1)
    counts = torch.bincount(targets, minlength=num_classes)
    hits_per_class = torch.bincount(targets, weights=hits, minlength=num_classes)
    occurs = counts > 0
    metrics = dict(top1=hits.mean().item())
    if num_classes > 5:
        metrics['top5'] = among(5).mean().item()
    metrics['mean_per_class'] = (hits_per_class[occurs] / counts[occurs]).mean().item()
    return metrics


def over_seeds(per_seed: dict[int, dict[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and sample standard deviation of each metric over seeds; no deviations for a single seed."""
    names = next(iter(per_seed.values()))
    columns = {name: torch.tensor([metrics[name] for metrics in per_seed.values()], dtype=torch.float64)
               for name in names}
    means = {name: column.mean().item() for name, column in columns.items()}
    return means, {name: column.std().item() for name, column in columns.items()} if len(per_seed) > 1 else {}


def half_interval(count: int) -> float:
    """Half the 95 % interval of the mean of so many normally distributed numbers, in standard deviations.

    Student's t with count - 1 degrees of freedom, over the root of the count.
    """
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1)) / count ** 0.5


def seed_extras(per_seed: dict[int, dict[str, float]]) -> dict[str, object]:
    """The entries `metrics`, and for several seeds `std`, `interval` and `per_seed`, of `TaskResult.extras`."""
    means, deviations = over_seeds(per_seed)
    extras: dict[str, object] = dict(metrics=means)
    if len(per_seed) > 1:
        half = half_interval(len(per_seed))
        intervals = {name: [means[name] - half * std, means[name] + half * std] for name, std in deviations.items()}
        extras.update(std=deviations, interval=intervals,
                      per_seed={str(seed): metrics for seed, metrics in per_seed.items()})
    return extras
