"""Few- and full-shot linear classification as ELEVATER has it, on features: search, then one final run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError, TrainingError
from clear.evaluation.elevater.heads.head_grid import HeadGrid, HeadRule
from clear.evaluation.elevater.heads.scores import score_heads
from clear.evaluation.elevater.heads.search import L2S, LRS, Candidate, Found, check_search, search_grid, search_peaks

EPOCHS = ('last', 'validation')
_WEIGHT_BYTES = 2**29  # of heads that train together


@dataclass(frozen=True)
class Part:
    """Rows to train or to test on.

    Args:
        features: (N, D) floating.
        targets: (N,) int64, or (N, C) of 0 and 1 in the dtype of the features.
    """

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> Part:
        """The given rows, in that order."""
        return Part(self.features[rows], self.targets[rows])


@dataclass(frozen=True)
class LinearFit:
    """A classifier that was chosen on validation and tested once.

    Attributes:
        probabilities: (N, C) of the test rows, float64, each row a softmax.
        chosen: rate and weight decay.
        epoch: after which it was tested, from 1.
        found: what the search visited; None without one.
    """

    probabilities: Tensor
    chosen: Candidate
    epoch: int
    found: Found | None


@dataclass(kw_only=True)
class Protocol:
    """How ELEVATER trains a classifier (Li et al. 2022, arXiv:2204.08790, their code).

    Candidates of a search are trained on the training rows and scored on the held-out ones, each by its best epoch (in
    the toolkit, too). The final run trains longer, on both together.

    Unlike there, all candidates see the batches in the same order; and the final run ends after its last epoch, or
    after as many as were best on held-out rows in a run without them, where the toolkit keeps the epoch that is best on
    the test set (`legacy=True`).

    Args:
        search: 'exact' is the toolkit's (see `search_peaks`), 'grid' every rate with every weight decay, 'none' takes
            `lr` and `l2`.
        lrs, l2s: candidates.
        epochs: of a candidate; final_epochs: of the final run.
        epoch: 'last' or 'validation', which epoch of the final run is tested.
        legacy: test the epoch that is best on the test set.
        wd_search_left: see `search_peaks`.
        last_epoch_only: score candidates by their last epoch.
        batch_size, momentum: of SGD.

    Raises:
        ConfigError: for values that do not go together.
    """

    search: str = 'exact'
    lr: float | None = None
    l2: float | None = None
    lrs: Sequence[float] = LRS
    l2s: Sequence[float] = L2S
    epochs: int = 10
    final_epochs: int = 50
    epoch: str = 'last'
    legacy: bool = False
    wd_search_left: bool = False
    last_epoch_only: bool = False
    batch_size: int = 64
    momentum: float = 0.9

    def __post_init__(self):
        self.given: Candidate | None = check_search(self.search, self.lr, self.l2, self.wd_search_left)
        for name in ('epochs', 'final_epochs'):
            check_whole(name, getattr(self, name), 1)
        check_whole('batch_size', self.batch_size, 2)
        check_number('momentum', self.momentum, 0, below=1)
        check_choice('epoch', self.epoch, EPOCHS)
        for name in ('legacy', 'wd_search_left', 'last_epoch_only'):
            check_flag(name, getattr(self, name))
        if self.legacy and self.epoch != 'last':
            raise ConfigError("legacy=True chooses the epoch on the test set; epoch='validation' does on validation.")
        for name in ('lrs', 'l2s'):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or not values:
                raise ConfigError(f'{name} is {values!r}; expected a list of at least one value, ascending.')
            for value in values:
                check_number(name, value, 0 if name == 'l2s' else None, above=0 if name == 'lrs' else None)
            if any(later <= earlier for earlier, later in zip(values, values[1:])):
                raise ConfigError(f'{name} is {values!r}; expected values that are ascending.')
            setattr(self, name, tuple(values))

    @property
    def needs_validation(self) -> bool:
        """Whether rows are held out."""
        return self.given is None or self.epoch == 'validation'

    def choose(self, score: Callable[[list[Candidate]], Sequence[float]]) -> Found | None:
        """The search; None where rate and weight decay are given.

        Args:
            score: see `search_peaks`.
        """
        if self.given is not None:
            return None
        if self.search == 'grid':
            return search_grid(score, self.lrs, self.l2s)
        return search_peaks(score, self.lrs, self.l2s, wd_search_left=self.wd_search_left)

    def fit_linear(self, start: tuple[Tensor, Tensor], train: Part, val: Part, final: Part, test: Tensor, *,
                   metric: str, rule: HeadRule, peek: Callable[[Tensor], float] | None = None) -> LinearFit:
        """Search on `train` and `val`, train on `final`, classify `test`.

        Args:
            start: first weight (C, D) and bias (C,).
            test: (N, D) features.
            metric: one of `METRICS`, which selects.
            rule: its batch size and momentum are those of the protocol.
            peek: with `legacy`, probabilities (N, C) of the test rows -> the metric on them.

        Raises:
            TrainingError: if no candidate scores above 0, or the final run diverges.
            DataError: for fewer than two rows to train on.
        """
        rule = replace(rule, batch_size=self.batch_size, momentum=self.momentum)
        found = self.choose(lambda candidates: self.score_candidates(candidates, start, train, val, metric, rule))
        chosen = found.best if found else self.given
        epochs = self.final_epochs
        if self.epoch == 'validation':
            scores = [float(score_heads(metric, logits[None], val.targets))
                      for logits in self._epochs(chosen, start, train, val.features, rule, epochs)]
            epochs = 1 + scores.index(max(scores))
        shown = self._epochs(chosen, start, final, test, rule, epochs, every=self.legacy)
        epoch, probabilities = pick_epoch((logits.T.double().softmax(1) for logits in shown), peek)
        return LinearFit(probabilities, chosen, epoch if self.legacy else epochs, found)

    def score_candidates(self, candidates: list[Candidate], start: tuple[Tensor, Tensor], train: Part, val: Part,
                         metric: str, rule: HeadRule) -> list[float]:
        """The score of each candidate on validation: that of its best epoch."""
        at_once = max(1, _WEIGHT_BYTES // (2 * start[0].nbytes))
        scores: list[float] = []
        for first in range(0, len(candidates), at_once):
            rates, decays = zip(*candidates[first:first + at_once])
            grid = HeadGrid(*start, rates, decays, rule)
            best = torch.zeros(len(rates), dtype=torch.float64)
            for epoch in range(self.epochs):
                grid.train_epoch(train.features, train.targets, epoch)
                if epoch == self.epochs - 1 or not self.last_epoch_only:
                    best = best.maximum(grid.scores(val.features, val.targets,
                                                    lambda logits, targets: score_heads(metric, logits, targets)))
            scores += best.tolist()
        return scores

    def _epochs(self, chosen: Candidate, start: tuple[Tensor, Tensor], train: Part, shown: Tensor, rule: HeadRule,
                epochs: int, every: bool = True) -> Iterator[Tensor]:
        """Logits (C, N) of the rows `shown` after each epoch, or after the last alone.

        Raises:
            TrainingError: if weights leave the finite numbers.
        """
        grid = HeadGrid(*start, [chosen.lr], [chosen.l2], rule)
        for epoch in range(epochs):
            grid.train_epoch(train.features, train.targets, epoch)
            if not grid.alive:
                raise TrainingError(f'The final run diverged in epoch {epoch + 1}, at lr {chosen.lr:g} and l2 '
                                    f'{chosen.l2:g}.')
            if every or epoch == epochs - 1:
                yield next(grid.logits(shown))[0]


def pick_epoch(shown: Iterable[Tensor], peek: Callable[[Tensor], float] | None) -> tuple[int, Tensor]:
    """The number, from 1, and the probabilities of the first epoch of the highest score; without one of the last.

    Raises:
        TrainingError: for probabilities that are no numbers.
    """
    best, highest = None, -math.inf
    for number, probabilities in enumerate(shown):
        if not probabilities.isfinite().all():
            raise TrainingError('The final run diverged: what it says of test images is not finite. Lower lr, or l2.')
        score = math.inf if peek is None else peek(probabilities)
        if best is None or peek is None or score > highest:
            best, highest = (number + 1, probabilities), score
    return best
