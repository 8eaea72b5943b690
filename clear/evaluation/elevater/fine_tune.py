"""Fine-tuning on ELEVATER's sets: the image tower learns with the classifier behind it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from clear.core.checks import check_flag, check_number
from clear.core.errors import TrainingError
from clear.core.logs import logger
from clear.core.modes import evaluation_mode
from clear.core.seeding import derive_seed, seeded_draws
from clear.evaluation.elevater.base import SplitRows, labels_of
from clear.evaluation.elevater.encoders import image_head, image_tower, without_projection
from clear.evaluation.elevater.heads.head import BatchNormHead
from clear.evaluation.elevater.heads.head_grid import head_batches
from clear.evaluation.elevater.heads.protocol import pick_epoch
from clear.evaluation.elevater.heads.scores import score_heads
from clear.evaluation.elevater.heads.search import Candidate
from clear.evaluation.elevater.shown_images import ShownImages
from clear.evaluation.elevater.training import ElevaterTraining, Run
from clear.evaluation.task import TaskData, TaskResult
from clear.registry import TASKS

BACKBONE_SHARE = 0.1


class FineTuned(nn.Module):
    """An image tower, the head that follows it, if any, and the classifier.

    Args:
        encoder: of which a copy of the image side is taken, to train.
    """

    def __init__(self, encoder: nn.Module, classifier: BatchNormHead):
        super().__init__()
        self.tower = copy.deepcopy(image_tower(encoder))
        self.tower.set_trainable(True)
        head = image_head(encoder)
        self.head = None if head is None else copy.deepcopy(head).requires_grad_(True)
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        embedded = self.tower(images)
        return self.classifier(embedded if self.head is None else self.head(embedded))

    def groups(self, lr: float, two_rates: bool) -> list[dict[str, object]]:
        """Groups of an optimiser: with two rates the image side learns at a tenth of that of the classifier."""
        head = [value for value in self.classifier.parameters() if value.requires_grad]
        own = {id(value) for value in self.classifier.parameters()}
        backbone = [value for value in self.parameters() if value.requires_grad and id(value) not in own]
        return [dict(params=backbone, lr=lr * (BACKBONE_SHARE if two_rates else 1)), dict(params=head, lr=lr)]

    def num_trainable(self) -> int:
        """Parameters that train."""
        return sum(value.numel() for value in self.parameters() if value.requires_grad)


@TASKS.register_module()
@dataclass(kw_only=True)
class ElevaterFineTune(ElevaterTraining):
    """The image tower of an encoder learns with BatchNorm and a linear layer behind it (ELEVATER, Li et al. 2022,
    arXiv:2204.08790). The text side does not change.

    Each candidate of the search begins with a copy of the encoder. One whose loss leaves the finite numbers scores 0.
    Images are not augmented.

    Args:
        two_rates: the image side learns at a tenth of the rate of the classifier. In the toolkit as first published
            this did nothing: its schedule gives all parameters one rate before each epoch.
        train_scale: let the logit scale learn.
        memory_mb: prepared images of a split are kept in memory up to this size.
        Others: see `ElevaterTraining`.

    Raises:
        ConfigError: for an unknown set or metric, arguments of prompts that are none, or values that do not go
            together.
    """

    reads_bank: ClassVar = False

    two_rates: bool = False
    train_scale: bool = False
    memory_mb: float = 1024.0

    def __post_init__(self):
        super().__post_init__()
        check_flag('two_rates', self.two_rates)
        check_flag('train_scale', self.train_scale)
        check_number('memory_mb', self.memory_mb, 0)

    def run(self, encoder: nn.Module, data: TaskData) -> TaskResult:
        """Search, learn and test for each seed on the images 'train' and 'test'.

        Raises:
            ConfigError: for an encoder without text where weights begin with it, or without a projection to merge.
            DataError: for splits of other classes, too few images, or names that do not fit.
            TrainingError: if no candidate scores above 0, or the last run diverges.
        """
        self.check_predictions('fine_tune', data, self.seed_list, n_shot=self.shots, two_lr=self.two_rates)
        known = self.classes_of(data.images)
        reader, projection = without_projection(encoder) if self.merge_projection else (encoder, None)
        shown, rows = {}, {}
        for split in self.splits:
            shown[split], rows[split] = self._look(split, reader, data)
        train, test = rows['train'].labelled(self.benchmark.is_multi_label), rows['test']
        runs, said = {}, {}
        for seed in self.seed_list:
            weight, bias, log_scale, said = self.start(encoder, known, reader.embed_dim, seed, projection)
            parts = self.learning_rows(train.labels, len(known), seed)
            trainer = _Trainer(self, reader, (weight, bias, log_scale), shown, train, self.targets(
                train.labels, len(known), torch.float32), test, seed)
            found = self.choose(functools.partial(trainer.scores, train=parts.train, val=parts.val))
            chosen = found.best if found else self.given
            epochs = trainer.best_epoch(chosen, parts.train, parts.val) if self.epoch == 'validation' \
                else self.final_epochs
            epoch, probabilities = pick_epoch(trainer.tested(chosen, parts.final, epochs),
                                              functools.partial(self.score, test) if self.legacy else None)
            value = self.score(test, probabilities)
            runs[seed] = Run(value, chosen, epoch if self.legacy else epochs, found, len(parts.final),
                             trainer.trainable)
            self.write('fine_tune', test, probabilities, value, encoder, data, n_shot=self.shots, seed=seed,
                       trainable=trainer.trainable, classifier=weight.numel() + bias.numel() + 1, two_lr=self.two_rates)
        return self.result(runs, test, said)

    def _look(self, split: str, encoder: nn.Module, data: TaskData) -> tuple[ShownImages, SplitRows]:
        """The images of a split, and which can be read; rows without features."""
        images, spec = data.images[split], encoder.preprocess
        shown = ShownImages(images, spec if self.benchmark.center_crop else replace(spec, squash=True),
                            memory_mb=self.memory_mb, num_workers=self.num_workers)
        readable, labels = shown.look(self.batch_size), labels_of(images)
        return shown, SplitRows(torch.empty(len(readable), 0), [labels[row] for row in readable],
                                torch.tensor(readable), len(images))


class _Trainer:
    """Training of one seed: from the same first weights, with the same batches."""

    def __init__(self, task: ElevaterFineTune, encoder: nn.Module, start: tuple[Tensor, Tensor, float],
                 shown: dict[str, ShownImages], train: SplitRows, targets: Tensor, test: SplitRows, seed: int):
        self.task, self.encoder, self.start, self.shown = task, encoder, start, shown
        self.train, self.targets, self.test, self.seed = train, targets, test, seed
        self.trainable = self._new_model().num_trainable()

    def _new_model(self) -> FineTuned:
        weight, bias, log_scale = self.start
        head = BatchNormHead(weight, bias, log_scale=log_scale, train_scale=self.task.train_scale,
                             normalise=self.task.normalise)
        return FineTuned(self.encoder, head).to(self.task.device)

    def scores(self, candidates: Sequence[Candidate], *, train: list[int], val: list[int]) -> list[float]:
        """The score of each candidate on validation, that of its best epoch; 0 for one that diverges."""
        found = []
        for candidate in candidates:
            each = [0.0]
            try:
                each += self._val_scores(candidate, train, val, self.task.epochs)
            except TrainingError as error:
                logger.info('%s', error)
            found.append(each[-1] if self.task.last_epoch_only else max(each))
        return found

    def best_epoch(self, chosen: Candidate, train: list[int], val: list[int]) -> int:
        """The epoch, from 1, that is best on validation."""
        scores = list(self._val_scores(chosen, train, val, self.task.final_epochs))
        return 1 + scores.index(max(scores))

    def _val_scores(self, candidate: Candidate, train: list[int], val: list[int], epochs: int) -> Iterator[float]:
        targets = self.targets[val]
        for model in self._epochs(candidate, train, epochs):
            logits = self._logits(model, 'train', [int(self.train.places[row]) for row in val])
            yield float(score_heads(self.task.benchmark.metric, logits.T[None], targets))

    def tested(self, chosen: Candidate, rows: list[int], epochs: int) -> Iterator[Tensor]:
        """Probabilities of the test images, after each epoch where the toolkit looks, else after the last."""
        for epoch, model in enumerate(self._epochs(chosen, rows, epochs)):
            if self.task.legacy or epoch == epochs - 1:
                yield self._logits(model, 'test', self.test.places.tolist()).double().softmax(1)

    def _epochs(self, candidate: Candidate, rows: list[int], epochs: int) -> Iterator[FineTuned]:
        """The model after each epoch.

        Raises:
            TrainingError: if its loss leaves the finite numbers.
        """
        task, model = self.task, self._new_model()
        optimizer = torch.optim.SGD(model.groups(candidate.lr, task.two_rates), candidate.lr, momentum=task.momentum,
                                    weight_decay=candidate.l2)
        for epoch in range(epochs):
            model.train()
            order = [[rows[place] for place in batch.tolist()]
                     for batch in head_batches(len(rows), task.batch_size, self.seed, epoch)]
            places = [[int(self.train.places[row]) for row in batch] for batch in order]
            losses = []
            with seeded_draws(derive_seed(self.seed, 'elevater fine-tuning', epoch)):  # dropout of the tower
                for batch, images in zip(order, self.shown['train'].batches(places)):
                    loss = self._loss(model(images.to(task.device)), self.targets[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    losses.append(loss.detach())
            if not torch.stack(losses).isfinite().all():
                raise TrainingError(f'Fine-tuning diverged in epoch {epoch + 1}, at lr {candidate.lr:g} and l2 '
                                    f'{candidate.l2:g}.')
            yield model

    def _loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.task.benchmark.is_multi_label:
            return functional.binary_cross_entropy_with_logits(logits, targets)
        return functional.cross_entropy(logits, targets)

    def _logits(self, model: FineTuned, split: str, places: list[int]) -> Tensor:
        """(N, C) of some images, in evaluation mode."""
        size = self.task.batch_size
        batches = [places[first:first + size] for first in range(0, len(places), size)]
        with evaluation_mode(model):
            return torch.cat([model(images.to(self.task.device)) for images in self.shown[split].batches(batches)])
