"""What few-shot, full-shot and fine-tuning share: rows to learn from, first weights, one result over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError, DataError
from clear.evaluation.elevater.base import ElevaterTask, SplitRows
from clear.evaluation.elevater.encoders import pretrained_log_scale
from clear.evaluation.elevater.heads.head import LOGIT_SCALES, first_log_scale, language_weights, random_weights
from clear.evaluation.elevater.heads.protocol import Protocol
from clear.evaluation.elevater.heads.search import Candidate, Found
from clear.evaluation.elevater.sampler import few_shot_rows, protocol_shots, validation_rows
from clear.evaluation.image.rows import seed_list
from clear.evaluation.task import TaskResult, seed_extras

ALL = -1  # shots: every image
STARTS = ('language', 'random')
# Of PatchCamelyon's 262,144 images the search sees these many of each class, as in the toolkit.
_SEARCH_SHOTS = {'patch-camelyon': 10000}


@dataclass(frozen=True)
class LearningRows:
    """Places in the labelled training rows.

    Args:
        train, val: of the search; final: of the last run.
    """

    train: list[int]
    val: list[int]
    final: list[int]


@dataclass(kw_only=True)
class ElevaterTraining(ElevaterTask, Protocol):
    """A classifier that learns from images of a set of ELEVATER. The base of two tasks, and none itself.

    A share of the training images is held out for the search, the first ones of each class; a 'val' split is not read.
    The last run learns from both; its epoch is chosen as `Protocol` has it. Of one shot, two are drawn and the last run
    learns from one of them, as in the toolkit. The search on all of PatchCamelyon sees 10,000 images of each class.

    Args:
        shots: images of each class, 5, 20 or 50 in the benchmark; -1 for all.
        seeds: of the drawing of shots, the order and the first weights: how many, or a list; by default 0, 1 and 2,
            with all images 0.
        init: 'language' begins with the class vectors as weights and a bias of 0, 'random' as `torch.nn.Linear`.
        merge_projection: take the image tower without its last projection, which becomes a part of the first weights.
        normalise: bring features to unit length behind BatchNorm.
        logit_scale: see `first_log_scale`.
        val_fraction: share that is held out.
        Others: see `Protocol` and `ElevaterTask`.
    """

    shots: int = 5
    seeds: int | Sequence[int] | None = None
    init: str = 'language'
    merge_projection: bool = False
    normalise: bool = False
    logit_scale: str = 'none'
    val_fraction: float = 0.2

    def __post_init__(self):
        super().__post_init__()
        if check_whole('shots', self.shots, -1) == 0:
            raise ConfigError('shots is 0; expected how many images of each class, or -1 for all. ElevaterZeroShot '
                              'learns from none.')
        self.seed_list = seed_list((0,) if self.shots == ALL else (0, 1, 2), 0) if self.seeds is None \
            else seed_list(self.seeds, 0)
        check_choice('init', self.init, STARTS)
        check_choice('logit_scale', self.logit_scale, LOGIT_SCALES)
        for name in ('merge_projection', 'normalise'):
            check_flag(name, getattr(self, name))
        if self.merge_projection and self.init != 'language':
            raise ConfigError("merge_projection merges a projection into class vectors: it needs init='language'.")
        check_number('val_fraction', self.val_fraction, above=0, below=1)
        Protocol.__post_init__(self)

    @property
    def uses_text(self) -> bool:
        """Whether classes are encoded as text."""
        return self.init == 'language'

    def start(self, encoder: nn.Module, known: list[str], dim: int, seed: int, projection: Tensor | None = None
              ) -> tuple[Tensor, Tensor, float, dict[str, object]]:
        """First weight (C, D), bias (C,) and logarithm of the scale, and what to say of the prompts."""
        log_scale = first_log_scale(self.logit_scale, len(known), pretrained_log_scale(encoder))
        if self.init == 'random':
            weight, bias = random_weights(len(known), dim, seed)
            return weight.to(self.device), bias.to(self.device), log_scale, {}
        vectors, said = self.class_vectors(encoder, known)
        weight, bias = language_weights(vectors.float(), projection)
        if weight.shape[1] != dim:
            raise DataError(f'Class vectors have {weight.shape[1]} dimensions, the features {dim}.')
        return weight, bias, log_scale, said

    def learning_rows(self, labels: list[list[int]], num_classes: int, seed: int) -> LearningRows:
        """What to learn from.

        Raises:
            DataError: if nothing is left to learn from beside what is held out.
        """
        everything = list(range(len(labels)))
        drawn, merges, final = everything, True, everything
        if self.shots != ALL:
            count, merges = protocol_shots(self.shots)
            drawn = final = few_shot_rows(labels, count, seed, num_classes)
        elif self.benchmark.name in _SEARCH_SHOTS and self.given is None:
            drawn = few_shot_rows(labels, _SEARCH_SHOTS[self.benchmark.name], seed, num_classes)
        train, val = ([drawn[row] for row in part] for part in validation_rows(
            [labels[row] for row in drawn], self.val_fraction, num_classes))
        if self.needs_validation and (len(train) < 2 or not val):
            raise DataError(f'{len(drawn)} training images of {self.set}: {len(train)} to learn from and {len(val)} '
                            'held out are too few. Give more shots, or lr and l2 with search="none".')
        return LearningRows(train, val, final if merges else train)

    def result(self, runs: dict[int, Run], test: SplitRows, said: dict[str, object]) -> TaskResult:
        """The mean over seeds, with what each chose."""
        metric = self.benchmark.metric
        extras = seed_extras({seed: {metric: run.value} for seed, run in runs.items()})
        selected = {str(seed): dict(lr=run.chosen.lr, l2=run.chosen.l2, epoch=run.epoch, n_train=run.n_train,
                                    **run.searched()) for seed, run in runs.items()}
        first = next(iter(runs.values()))
        extras.update(set=self.benchmark.name, n_shot=self.shots, seeds=[*runs], selected=selected, legacy=self.legacy,
                      n_train=first.n_train, n_test=len(test), unreadable=test.total - len(test),
                      num_trainable_params=first.trainable,
                      searched={str(seed): run.found.table() for seed, run in runs.items() if run.found}, **said)
        return TaskResult(metric, extras['metrics'][metric], True, extras)


@dataclass(frozen=True)
class Run:
    """One seed.

    Args:
        value: of the metric; n_train: images of the last run; trainable: parameters that trained.
    """

    value: float
    chosen: Candidate
    epoch: int
    found: Found | None
    n_train: int
    trainable: int

    def searched(self) -> dict[str, float]:
        """The score on validation and how many candidates it was found among; nothing without a search."""
        if self.found is None:
            return {}
        return dict(val_score=self.found.score, candidates=len({candidate for candidate, _ in self.found.visited}))
