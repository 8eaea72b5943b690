"""Few- and full-shot linear classification of ELEVATER's sets, on banks."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import nn

from clear.evaluation.elevater.encoders import without_projection
from clear.evaluation.elevater.heads.head_grid import HeadRule
from clear.evaluation.elevater.heads.protocol import Part
from clear.evaluation.elevater.training import ElevaterTraining, Run
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
@dataclass(kw_only=True)
class ElevaterLinear(ElevaterTraining):
    """BatchNorm and a linear layer on the features of a locked encoder (ELEVATER, Li et al. 2022, arXiv:2204.08790).

    The encoder is in evaluation mode (in the toolkit in training mode, which is the same for towers without BatchNorm
    and dropout). Candidates that differ in rate and weight decay learn together, see `HeadGrid`.

    Arguments are those of `ElevaterTraining`.

    Raises:
        ConfigError: for an unknown set or metric, arguments of prompts that are none, or values that do not go
            together.
    """

    @property
    def reads_bank(self) -> bool:
        """Whether the runner's banks serve."""
        return super().reads_bank and not self.merge_projection

    def run(self, encoder: nn.Module, data: TaskData) -> TaskResult:
        """Search, learn and test for each seed on the images 'train' and 'test'.

        Raises:
            ConfigError: for an encoder without text where weights begin with it, or without a projection to merge.
            DataError: for splits of other classes, too few images, names that do not fit, or embeddings of two widths.
            TrainingError: if no candidate scores above 0, or the last run diverges.
        """
        self.check_predictions('linear_probe', data, self.seed_list, n_shot=self.shots)
        known, multi_label = self.classes_of(data.images), self.benchmark.is_multi_label
        reader, projection = without_projection(encoder) if self.merge_projection else (encoder, None)
        train = self.rows('train', reader, data).labelled(multi_label)
        test = self.rows('test', reader, data)
        learned = Part(train.features, self.targets(train.labels, len(known), train.features.dtype))
        runs, said = {}, {}
        for seed in self.seed_list:
            weight, bias, log_scale, said = self.start(encoder, known, learned.features.shape[1], seed, projection)
            rows = self.learning_rows(train.labels, len(known), seed)
            rule = HeadRule(log_scale=log_scale, normalise=self.normalise, multi_label=multi_label, seed=seed)
            fit = self.fit_linear((weight, bias), learned.take(rows.train), learned.take(rows.val),
                                  learned.take(rows.final), test.features, metric=self.benchmark.metric, rule=rule,
                                  peek=functools.partial(self.score, test) if self.legacy else None)
            trainable = weight.numel() + bias.numel()
            value = self.score(test, fit.probabilities)
            runs[seed] = Run(value, fit.chosen, fit.epoch, fit.found, len(rows.final), trainable)
            self.write('linear_probe', test, fit.probabilities, value, encoder, data, n_shot=self.shots, seed=seed,
                       trainable=trainable, classifier=trainable + 1)  # and the scale
        return self.result(runs, test, said)
