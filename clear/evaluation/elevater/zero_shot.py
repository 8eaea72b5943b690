"""Zero-shot classification of ELEVATER's sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from clear.evaluation.elevater.base import ElevaterTask, zero_shot_probabilities
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS


@TASKS.register_module()
@dataclass(kw_only=True)
class ElevaterZeroShot(ElevaterTask):
    """Each image is of the class whose vector, made of text, is most similar (ELEVATER, Li et al. 2022,
    arXiv:2204.08790).

    Heads of both sides are applied. Every prompt is taken with every text of the knowledge. Probabilities are the
    softmax of 100 times the cosine, also of a set whose images show several classes.

    Arguments are those of `ElevaterTask`.

    Raises:
        ConfigError: for an unknown set or metric, or arguments of prompts that are none.
    """

    splits: ClassVar = ('test',)

    def run(self, encoder: nn.Module, data: TaskData) -> TaskResult:
        """Classify 'test'.

        Raises:
            ConfigError: for an encoder without text.
            DataError: for names that do not fit, embeddings of two widths, or no image with a label.
        """
        self.check_predictions('zero_shot', data)
        known = self.classes_of(data.images)
        vectors, said = self.class_vectors(encoder, known)
        test = self.rows('test', encoder, data)
        probabilities = zero_shot_probabilities(test.features, vectors)
        value = self.score(test, probabilities)
        self.write('zero_shot', test, probabilities, value, encoder, data)
        metric = self.benchmark.metric
        return TaskResult(metric, value, True, dict(
            metrics={metric: value}, set=self.benchmark.name, n_shot=0, n_test=len(test),
            unreadable=test.total - len(test), **said))
