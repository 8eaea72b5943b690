"""Several runs of one config in one lane: built, resumed, trained together, each measured and saved in its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clear.continual.evaluate import TestCount
from clear.continual.lane.loop import Lane
from clear.continual.lane.pool import NoLane, SamplePool
from clear.continual.lane.stack import linear_layers
from clear.continual.strategies import quiet_avalanche
from clear.core.config import to_plain
from clear.core.errors import Interrupted, TrainingError
from clear.core.logs import logger, run_log
from clear.core.programs.signals import on_stop
from clear.core.programs.startup import resume_collection
from clear.core.results import config_text
from clear.core.seeding import set_rng_state
from clear.engine.checkpoint import ITERATION, is_begun
from clear.engine.continual.resume import place_inside
from clear.engine.continual.runner import ContinualRunner
from clear.engine.continual.state import SECONDS_BETWEEN, WRITING_SHARE
from clear.engine.repeats import is_finished
from clear.engine.work_dir import claimed, keep_config, replacing

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch.utils.data import Dataset

    from clear.continual.training.mixin import EngineMixin

# Runs in one lane at most: their strategies' calls are nested, and their activations are all in memory.
MOST_RUNS = 32


@dataclass
class Seat:
    """A run of a lane.

    Args:
        cfg: of a single run; `seed` and `work_dir` are its own.
        folder: its work_dir.
        label: begins the lines about it, e.g. 'seed 3'.
    """

    cfg: Config
    folder: Path
    label: str
    resume: bool = False
    runner: ContinualRunner | None = field(default=None, repr=False)
    log: logging.Handler | None = field(default=None, repr=False)
    next: int = 0  # experiences that are finished
    error: TrainingError | None = None

    @property
    def is_open(self) -> bool:
        """Whether something is left to train."""
        return self.runner is not None and self.error is None and self.next < self.runner.record.total


def run_lane(seats: Sequence[Seat], resume: bool, on_built: Callable[[], None]) -> None:
    """Run configs that differ in seed, or in keys of `lane.support.differing_keys`, as one lane.

    A run whose training diverges is given up alone: its `error` says why.

    Args:
        resume: go on where a run was left, and leave finished ones as they are.
        on_built: called when all are built, before training.

    Raises:
        NoLane: if it shows, when they are built, that they cannot be; nothing was trained then.
    """
    open_seats = []
    for seat in seats:
        if resume and is_finished(seat.folder):  # else it is one that is about to be replaced
            logger.info('%s is finished: %s', seat.label, seat.folder)
        else:
            open_seats.append(seat)
    if not open_seats:
        return
    with ExitStack() as stack:
        if resume:
            _align(open_seats)
        for seat in open_seats:
            seat.resume = resume and is_begun(seat.folder)
            stack.enter_context(claimed(seat.folder, seat.resume, not seat.resume))
        with ExitStack() as building:
            for seat in open_seats:
                building.enter_context(replacing(seat.folder, not seat.resume))
                seat.log = stack.enter_context(_open_log(seat.folder))
                # Not `pretty_text`: its formatter would take longer than the training of a small run.
                keep_config(seat.folder, partial(config_text, to_plain(dict(seat.cfg))), is_resumed=seat.resume)
            _build(open_seats)
            lane = LaneRun(seats)
        on_built()
        lane.run()


def _build(seats: Sequence[Seat]) -> None:
    for seat in seats:
        seat.runner = ContinualRunner(seat.cfg, seat.folder, is_checked=True)
        if seat is not seats[0]:
            seat.runner.share_data(seats[0].runner)
        seat.runner.build()


def _align(seats: Sequence[Seat]) -> None:
    """Drop what runs saved inside an experience, if they did not all save it at the same place: a kill came between."""
    places = {seat.folder: place_inside(seat.folder / ITERATION) for seat in seats}
    if len(set(places.values())) > 1:
        logger.info('The runs were left at different places inside an experience; they begin it anew.')
        for folder in places:
            (folder / ITERATION).unlink(missing_ok=True)


@contextmanager
def _open_log(folder: Path) -> Iterator[logging.Handler]:
    handler = run_log(folder)
    try:
        yield handler
    finally:
        handler.close()


class LaneRun:
    """Trains the runs of a lane through their stream.

    Args:
        seats: all of the lane; those without a runner are finished, and keep their places.
    """

    def __init__(self, seats: Sequence[Seat]):
        self.seats = list(seats)
        self.built = [seat for seat in seats if seat.runner is not None]
        self.lead = self.built[0].runner
        if self.lead.info.protocol == 'task-incremental' or linear_layers(self.lead.model) is None:
            raise NoLane('the model is no linear classifier or MLP of one head')
        self.lane = Lane(SamplePool([item.dataset for item in self.lead.experiences]), len(seats),
                         has_one_order=len({seat.cfg['seed'] for seat in seats}) == 1, on_epoch=self._after_epoch,
                         on_iteration=self._after_iteration)
        self._counts: dict[int, torch.Tensor] = {}
        self._is_stopping = False
        self._next_save = time.monotonic() + SECONDS_BETWEEN
        self._console = list(logger.handlers)

    def run(self) -> None:
        """Train, measure, save, and write the results of every run.

        Raises:
            Interrupted: after a signal; what was finished is saved.
        """
        logger.info('%d runs in one lane', len(self.seats))
        for place, seat in enumerate(self.seats):
            if seat.runner is not None:
                self._begin(place, seat)
        resume_collection()
        try:
            with self._logging_to(self.built), on_stop(self._request_stop), quiet_avalanche():
                while any(seat.is_open for seat in self.seats):
                    self._run_experience()
                    self._check_stop()
        except BaseException:
            for seat in self.built:
                seat.runner.close()
            raise
        for seat in self.built:
            if seat.error is not None:
                seat.runner.close()
            else:
                seat.runner.progress.close()
                with self._logging_to([seat]):
                    logger.info('\n%s', seat.label)
                    seat.runner.finish()

    def _begin(self, place: int, seat: Seat) -> None:
        runner = seat.runner
        runner.lane_width = len(self.seats)
        runner.label = f'{seat.label}  '
        runner.count = lambda dataset, _: self._count(place, dataset)
        with self._logging_to([seat]):
            logger.info('\n%s\n%s', seat.label, runner.describe())
            seat.next = runner.begin(seat.resume, is_silent=runner is not self.lead)

    @contextmanager
    def _logging_to(self, seats: Sequence[Seat]) -> Iterator[None]:
        """Inside, the log goes to the run.log of these runs beside the console."""
        before = logger.handlers[:]
        logger.handlers[:] = [*self._console, *(seat.log for seat in seats)]
        try:
            yield
        finally:
            logger.handlers[:] = before

    # Training

    def _run_experience(self) -> None:
        """Train the runs that are furthest behind on their next experience, measure and save them."""
        experience = min(seat.next for seat in self.seats if seat.is_open)
        active = [seat if seat.is_open and seat.next == experience else None for seat in self.seats]
        runners = {seat.runner.strategy: seat.runner for seat in active if seat is not None}
        started = time.monotonic()
        states = self.lane.train([seat and seat.runner.strategy for seat in active],
                                 lambda strategy: runners[strategy].learn(experience))
        seconds = (time.monotonic() - started) / len(runners)
        self._counts.clear()
        for seat in active:
            if seat is None:
                continue
            strategy = seat.runner.strategy
            if strategy in self.lane.failures:
                seat.error = self.lane.failures[strategy]
                logger.warning('%s is given up: %s', seat.label, seat.error)
                continue
            set_rng_state(states[strategy])
            with self._logging_to([seat]):
                seat.runner.conclude(experience, seconds)
            seat.next += 1

    def _count(self, place: int, dataset: Dataset) -> TestCount:
        """What `count_correct` counts, of all runs in one pass over the test set."""
        if id(dataset) not in self._counts:
            correct = torch.zeros(len(self.seats), dtype=torch.int64)
            for rows, classes in self.lane.stack.predict(dataset.inputs):
                correct += (classes == dataset.labels[rows]).sum(1)
            self._counts[id(dataset)] = correct
        return TestCount(int(self._counts[id(dataset)][place]), len(dataset), [])

    def _after_iteration(self, strategy: EngineMixin) -> None:
        for seat in self.built:
            if seat.runner.progress is not self.lead.progress:
                seat.runner.progress.done += 1
        self.lead._on_iteration(strategy)

    # Stopping and saving inside an experience

    def _request_stop(self) -> None:
        self._is_stopping = True

    def _check_stop(self) -> None:
        if self._is_stopping:
            raise Interrupted('Stopped by a signal. What was finished is saved; continue with --resume.')

    def _after_epoch(self) -> None:
        if not self._is_stopping and time.monotonic() < self._next_save:
            return
        started = time.monotonic()
        self.lane.store()
        for strategy, runner in ((seat.runner.strategy, seat.runner) for seat in self.built):
            if self.lane.is_training(strategy):
                self.lane.set_random_numbers(strategy)
                runner.state.write_iteration()
        now = time.monotonic()
        self._next_save = now + max(SECONDS_BETWEEN, WRITING_SHARE * (now - started))
        self._check_stop()
