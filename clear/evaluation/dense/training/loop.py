"""Training of a model for pixels in several settings, each from the same first weights; safe against kills."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from clear.core.errors import ConfigError, DataError, Interrupted, TrainingError
from clear.core.logs import Report, logger, progress_bar
from clear.core.modes import evaluation_mode
from clear.core.programs.signals import on_stop
from clear.core.seeding import derive_seed, seed_torch, seeded_draws
from clear.evaluation.dense.inputs.feeds import Fed, Feed
from clear.evaluation.dense.scores import PixelScores
from clear.evaluation.dense.training.job_files import JobFiles
from clear.evaluation.dense.training.learner import Learner, Schedule, finite
from clear.evaluation.dense.training.plan import Part, Position, Progress, TrainingPlan
from clear.evaluation.dense.training.settings import Setting
from clear.evaluation.image.schedules import lr_factors, momenta

CURVES = ('train_loss', 'train_metric', 'val_loss', 'val_metric')
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # outputs, values, valid


class PixelTraining:
    """Trains, validates after every epoch, keeps the best head, and tests it once.

    Besides, it looks after every epoch at as many training images as validate.

    Sample order and dropout follow from (seed, epoch, iteration) alone. So training that goes on from a state gives the
    bits of one that never stopped; it does so after every epoch, after `checkpoint_every` iterations, and where a
    signal came.

    Args:
        build: a model on the device, with the same weights in each call: (inputs, size) -> (B, O, H, W).
        groups: parameters of a model with their `lr` in a setting.
        train, val, test: `val` is None with `legacy`.
        loss: of a batch.
        new_scores: counts a metric over batches.
        files: where states go.
        classes: kept with the head.
        title: of the progress bar.
    """

    def __init__(self, plan: TrainingPlan, build: Callable[[], nn.Module],
                 groups: Callable[[nn.Module, Setting], list[dict[str, object]]], *, train: Part, val: Part | None,
                 test: Part, loss: Loss, new_scores: Callable[[], PixelScores], files: JobFiles,
                 classes: Sequence[str] = (), title: str = 'train'):
        self.plan, self.build, self.groups = plan, build, groups
        self.train, self.val, self.test = train, val, self._whole_batches(test) if plan.legacy else test
        self._seen = Part(train.feed, self._some(train.rows, len((val or test).rows)))
        self.loss, self.new_scores, self.files, self.classes, self.title = loss, new_scores, files, classes, title
        self.metric, self.higher_is_better = new_scores().metric, new_scores().higher_is_better
        self.at, self.progress = Position(), Progress()
        self._stopped = False
        self._report: Report = lambda done, total: None
        self._dtype = torch.float16 if plan.device.type == 'cuda' and not torch.cuda.is_bf16_supported() \
            else torch.bfloat16

    # All settings

    def run(self) -> dict[str, Any]:
        """Train what is not trained yet; the outcome of the test of the chosen head.

        Raises:
            TrainingError: if every setting diverged.
            Interrupted: after a signal; the state is kept.
        """
        state = self.files.load_state()
        if state is not None:
            self.at, self.progress = Position(**state['position']), Progress(**state['progress'])
            logger.info('%s: goes on in setting %d, epoch %d, iteration %d', self.title, self.at.setting + 1,
                        self.at.epoch + 1, self.at.iteration)
        with seeded_draws(self.plan.seed), on_stop(self._note_stop), progress_bar(self.title, 'iterations') as report:
            self._report = report
            for index in range(self.at.setting, len(self.plan.settings)):
                self._train_setting(index, state)
                state = None
            return self._tested()

    def _whole_batches(self, part: Part) -> Part:
        """What is left of a split without the last batch that is not full.

        Raises:
            ConfigError: if nothing is.
        """
        size = self.plan.test_batch_size
        count = len(part.rows) - len(part.rows) % size
        if not count:
            raise ConfigError(f'{len(part.rows)} test images make no batch of {size}, and legacy drops what is left '
                              'over.')
        return Part(part.feed, part.rows[:count])

    @staticmethod
    def _some(rows: Sequence[int], count: int) -> list[int]:
        """At most so many of the rows, spread evenly."""
        count = min(count, len(rows))
        return [rows[place * len(rows) // count] for place in range(count)]

    def _note_stop(self) -> None:
        self._stopped = True

    def _train_setting(self, index: int, state: dict[str, Any] | None) -> None:
        setting = self.plan.settings[index]
        learner, schedule = self.begun(setting)
        if state is not None and state['learner'] is not None:
            learner.load_state_dict(state['learner'])
        while self.at.epoch < self.plan.epochs and setting.name not in self.progress.diverged:
            self.train_epoch(learner, schedule)
            self._look(learner)
            self.at.epoch, self.at.iteration, learner.sums = self.at.epoch + 1, 0, learner.new_sums()
            if self.at.epoch < self.plan.epochs:
                self._save(learner)
        self.at.setting, self.at.epoch, self.at.iteration = index + 1, 0, 0
        self._save(None)

    def begun(self, setting: Setting) -> tuple[Learner, Schedule]:
        """A model with its first weights and its optimiser, and what its rates will be."""
        model, length = self.build(), (self.plan.epochs, len(self._cuts()))
        return (Learner(model, setting, self.groups(model, setting), self._scaler()),
                Schedule(lr_factors(setting.schedule, *length), momenta(setting.schedule, *length)))

    # One epoch

    def _cuts(self) -> list[tuple[int, int]]:
        """First place and the one after the last of each batch of an epoch.

        A single sample that is left over joins the batch before it: BatchNorm knows no variance of one vector.
        """
        size, count = self.plan.batch_size, len(self.train.rows)
        if self.plan.legacy:
            count -= count % size
        cuts = [(start, min(start + size, count)) for start in range(0, count, size)]
        if len(cuts) > 1 and cuts[-1][1] - cuts[-1][0] == 1:
            cuts[-2:] = [(cuts[-2][0], count)]
        if not cuts:
            raise ConfigError(f'{len(self.train.rows)} training images make no batch of {size}, and legacy drops what '
                              'is left over.')
        return cuts

    def _batches(self, epoch: int, start: int) -> Iterator[Fed]:
        """The batches of an epoch from one on."""
        order = torch.randperm(len(self.train.rows), generator=torch.Generator().manual_seed(
            derive_seed(self.plan.seed, 'pixelwise order', epoch))).tolist()
        rows, cuts = [self.train.rows[place] for place in order], self._cuts()
        size = cuts[0][1]
        longer = cuts[-1][1] - cuts[-1][0] > size
        for piece in (cuts[:-1], cuts[-1:]) if longer else (cuts,):
            if start < len(piece):
                yield from self.train.feed.batches(rows[piece[0][0]:piece[-1][1]], epoch,
                                                   piece[0][1] - piece[0][0], start)
            start = max(0, start - len(piece))

    def train_epoch(self, learner: Learner, schedule: Schedule) -> None:
        """What is left of the epoch that training is in."""
        epoch, per_epoch = self.at.epoch, len(self._cuts())
        done = self.at.setting * self.plan.epochs * per_epoch
        total = len(self.plan.settings) * self.plan.epochs * per_epoch
        learner.model.train()
        for batch in self._batches(epoch, self.at.iteration):
            step = epoch * per_epoch + self.at.iteration
            seed_torch(derive_seed(self.plan.seed, 'pixelwise dropout', step))
            with torch.autocast(self.plan.device.type, self._dtype, enabled=self.plan.amp):
                outputs = self.train.feed.outputs(learner.model, batch)
            learner.set_rates(*schedule.at(step))
            learner.step(self.loss(outputs.float(), batch.values, batch.valid), len(batch))
            self.at.iteration += 1
            self._report(done + step + 1, total)
            every = self.plan.checkpoint_every
            if self._stopped or every and self.at.iteration % every == 0 and self.at.iteration < per_epoch:
                self._save(learner)

    def _look(self, learner: Learner) -> None:
        """What the epoch was worth: the lines of the history, and the head if it is the best one."""
        setting, train_loss = self.plan.settings[self.at.setting], learner.mean_loss()
        curves = self.progress.curves.setdefault(setting.name, {name: [] for name in CURVES})
        found = seen = dict(loss=None, metrics={self.metric: None})
        save = partial(self._save, learner)
        try:
            if train_loss is None:
                raise TrainingError('its loss is not finite')
            with suppress(DataError):  # the few that are looked at may have no pixel that counts
                seen = self.evaluate(learner.model, self._seen, save, self.at.epoch)
            if not self.plan.legacy:
                found = self.evaluate(learner.model, self.val, save)
            elif self.at.epoch + 1 == self.plan.epochs:
                found = self.progress.tests[setting.name] = self.evaluate(learner.model, self.test, save)
        except TrainingError as error:
            self.progress.diverged[setting.name] = self.at.epoch + 1
            logger.info("%s: setting '%s' diverged in epoch %d, %s", self.title, setting.name, self.at.epoch + 1, error)
        value = found['metrics'][self.metric]
        self._keep_best(learner, setting, value)
        looked = (None, None) if self.plan.legacy else (found['loss'], value)
        for name, number in zip(CURVES, (train_loss, seen['metrics'][self.metric], *looked)):
            curves[name].append(number)
        self.files.write_history(self.history())

    def _keep_best(self, learner: Learner, setting: Setting, value: float | None) -> None:
        best = self.progress.best
        if value is None or best is not None and (value <= best['value'] if self.higher_is_better
                                                  else value >= best['value']):
            return
        self.progress.best = dict(setting=self.at.setting, epoch=self.at.epoch, value=value)
        self.files.save_head(learner.model.state_dict(), setting=setting.name, epoch=self.at.epoch + 1,
                             classes=list(self.classes))

    # Evaluation

    def evaluate(self, model: nn.Module, part: Part, save: Callable[[], None] = lambda: None, epoch: int = 0
                 ) -> dict[str, Any]:
        """Metrics and loss of a model on a split, in evaluation mode.

        The loss is the mean over images of that of each, so that it depends on no batch; images without any pixel that
        counts have none.

        Args:
            save: called when a signal has come.
            epoch: of training images, which differ from epoch to epoch.

        Returns:
            dict(loss, metrics, count); a number that is not finite is None.

        Raises:
            TrainingError: for outputs that are not finite.
            Interrupted: after a signal.
        """
        scores, losses, count = self.new_scores(), [], 0
        with evaluation_mode(model):
            for batch in part.feed.batches(part.rows, epoch, self.plan.test_batch_size):
                if self._stopped:
                    save()
                outputs = self.outputs(model, part.feed, batch)
                if not outputs.isfinite().all():
                    raise TrainingError('its outputs are not finite')
                scores.update(outputs, batch.values, batch.valid)
                losses += [self.loss(*each) for each in zip(outputs.split(1), batch.values.split(1),
                                                            batch.valid.split(1)) if each[2].any()]
                count += len(batch)
        if not count:
            raise DataError(f'{self.title}: none of {len(part.rows)} images to be evaluated on can be read.')
        loss = torch.stack(losses).double().mean().item() if losses else math.nan
        try:
            metrics = scores.values()
        except ValueError as error:  # nothing of the kind that a metric is of
            raise DataError(f'{self.title}: {error}') from error
        return dict(loss=finite(loss), count=count, metrics={name: finite(value) for name, value in metrics.items()})

    def outputs(self, model: nn.Module, feed: Feed, batch: Fed) -> Tensor:
        """(B, O, H, W) float32."""
        with torch.autocast(self.plan.device.type, self._dtype, enabled=self.plan.amp):
            return feed.outputs(model, batch).float()

    def chosen(self) -> nn.Module:
        """The chosen model.

        Raises:
            TrainingError: if there is none.
        """
        if self.progress.best is None:
            raise TrainingError(f'{self.title}: no setting gave a finite {self.metric}: '
                                f'{", ".join(setting.name for setting in self.plan.settings)}. Try lower rates.')
        model = self.build()
        model.load_state_dict(self.files.load_head()['state_dict'])
        return model

    def _tested(self) -> dict[str, Any]:
        model = self.chosen()
        name = self.plan.settings[self.progress.best['setting']].name
        if name not in self.progress.tests:
            self.progress.tests[name] = self.evaluate(model, self.test, partial(self._save, None))
            self._save(None)
        self.files.write_history(self.history())
        return self.progress.tests[name]

    # What is written

    def history(self) -> list[dict[str, object]]:
        """One line for each setting and epoch."""
        lines = []
        best = self.progress.best
        for index, setting in enumerate(self.plan.settings):
            curves = self.progress.curves.get(setting.name, {name: [] for name in CURVES})
            for epoch, numbers in enumerate(zip(*(curves[name] for name in CURVES))):
                line = dict(setting=setting.name, epoch=epoch + 1, **dict(zip(CURVES, numbers)))
                tested = self.progress.tests.get(setting.name)
                last = self.plan.epochs - 1 if self.plan.legacy else best and best['epoch']
                if tested is not None and epoch == last and (self.plan.legacy or index == best['setting']):
                    line.update(test_loss=tested['loss'], test_metric=tested['metrics'][self.metric])
                lines.append(line)
        return lines

    def _save(self, learner: Learner | None) -> None:
        """Keep the state.

        Raises:
            Interrupted: if a signal has come.
        """
        self.files.save_state(dict(position=vars(self.at), progress=vars(self.progress),
                                   learner=None if learner is None else learner.state_dict()))
        if self._stopped:
            raise Interrupted(f'{self.title}: stopped by a signal. ' + (
                'Its state is kept.' if self.files.folder is not None else 'Nothing of it was kept.'))

    def _scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.plan.device.type, enabled=self.plan.amp and self._dtype == torch.float16)
