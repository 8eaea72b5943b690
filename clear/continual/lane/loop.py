"""An experience of several strategies at once: their own draws, hooks and memories, one step of arithmetic for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from avalanche.evaluation.metrics import EpochAccuracy, EpochLoss
from torch import Tensor

from clear.continual.lane.objectives import OBJECTIVES, Objective
from clear.continual.lane.pool import SamplePool
from clear.continual.lane.stack import Stack
from clear.continual.lane.updates import UPDATES
from clear.continual.training.loaders import BatchIterator
from clear.continual.training.traits import trait
from clear.core.errors import TrainingError
from clear.core.seeding import RngState, derive_seed, get_rng_state, seed_everything

if TYPE_CHECKING:
    from clear.continual.training.mixin import EngineMixin


class Plan(NamedTuple):
    """The rows of the batches of an epoch, drawn as the strategy's own loop would.

    Attributes:
        rows: (N,) of the pool: of each batch its own rows, then those of each memory.
        sizes: rows of each batch, with and without those of memories.
        places: (M,) places in each memory, of all batches.
    """

    rows: Tensor
    sizes: list[tuple[int, int]]
    places: list[Tensor]


class Sources(NamedTuple):
    """Where the samples that a strategy reads in an experience lie.

    Attributes:
        rows: (N,) of the pool: of all samples of the data sets of its own loader, then of each memory.
        starts: of each loader where each of its data sets begins in them.
    """

    rows: Tensor
    starts: list[list[int]]


class Lane:
    """Trains strategies of one kind side by side.

    Every strategy begins and ends an experience by itself: Avalanche's prologue and epilogue, the plugins' hooks, the
    draws of the memory. In between its epochs are planned with its own random numbers, and the steps of all strategies
    are made together on stacked weights.

    The number of places never changes. A strategy that has nothing to do, because it is ahead or has failed, leaves
    its place to a copy of another one, whose result is thrown away: so the arithmetic of a place does not depend on
    which others are trained.

    Args:
        pool: the samples of the stream.
        width: places.
        has_one_order: all strategies have the same seed, so the same batches; each is read once for all.
        on_epoch: called behind the batches of each epoch, where the state of all strategies can be saved: after
            `store`, with `set_random_numbers` for each.
        on_iteration: called behind each step with the first strategy.
    """

    def __init__(self, pool: SamplePool, width: int, *, has_one_order: bool = False,
                 on_epoch: Callable[[], None] = lambda: None,
                 on_iteration: Callable[[EngineMixin], None] = lambda strategy: None):
        self.pool = pool
        self.width = width
        self.has_one_order = has_one_order
        self.on_epoch = on_epoch
        self.on_iteration = on_iteration
        self._random: dict[EngineMixin, tuple[int, Tensor]] = {}
        self.failures: dict[EngineMixin, TrainingError] = {}
        self.stack: Stack | None = None
        self._buffer = torch.empty(0, dtype=pool.inputs.dtype)

    def train(self, strategies: Sequence[EngineMixin | None], begin: Callable[[EngineMixin], None]
              ) -> dict[EngineMixin, RngState]:
        """Train the strategies on their next experience.

        Args:
            strategies: one for each place; None where there is nothing to do.
            begin: calls a strategy's own `train` for the experience.

        Returns:
            The random numbers of each strategy behind it.
        """
        active = {strategy: place for place, strategy in enumerate(strategies) if strategy is not None}
        first = next(iter(active))
        self._members = [strategy or first for strategy in strategies]
        self._places = active
        states: dict[EngineMixin, RngState] = {}
        self._nest(list(active), begin, states)
        return states

    def _nest(self, left: list[EngineMixin], begin: Callable[[EngineMixin], None],
              states: dict[EngineMixin, RngState]) -> None:
        """Let each strategy's `train` reach its loop, which begins the next one; the innermost trains them all."""
        if not left:
            self._loop()
            return
        strategy = left[0]

        def inside() -> None:
            # Of one that goes on inside an experience.
            self._random[strategy] = strategy.clock.train_exp_epochs, torch.get_rng_state()
            self._nest(left[1:], begin, states)
            self.set_random_numbers(strategy)

        strategy.own_loop = inside
        try:
            begin(strategy)
        finally:
            strategy.own_loop = None
        states[strategy] = get_rng_state()

    # The loop

    def _loop(self) -> None:
        first = self._members[0]
        if self.stack is None:
            self.stack = Stack(first.model, self.width)
            self.update = UPDATES[type(first.optimizer)](self.stack)
        self.stack.load([member.model for member in self._members])
        self.update.load([member.optimizer for member in self._members])
        objective = OBJECTIVES[trait(type(first), 'lane_objective')](self.stack, list(self._members))
        sources = {strategy: self._sources(strategy, objective) for strategy in self._places}
        while self._places and first.clock.train_exp_epochs < first.train_epochs:
            self._train_epoch(objective, sources)
            first = self._members[0]
        self.store()

    def _sources(self, strategy: EngineMixin, objective: Objective) -> Sources:
        loaders = [strategy.dataloader, *(memory.loader for memory in objective.memories(strategy))]
        rows = [[self.pool.rows_of(dataset) for dataset in loader.datasets] for loader in loaders]
        starts = iter(accumulate((len(part) for parts in rows for part in parts), initial=0))
        return Sources(torch.cat([part for parts in rows for part in parts]),
                       [[next(starts) for _ in parts] for parts in rows])

    def _train_epoch(self, objective: Objective, sources: dict[EngineMixin, Sources]) -> None:
        plans: dict[EngineMixin, Plan] = {}
        drawn: dict[EngineMixin, list[BatchIterator]] = {}  # held: a loader knows its iterator by a weak reference
        for strategy in self._places:
            if strategy._resumed:  # the epoch was begun before the stop
                strategy._resumed = False
                self.set_random_numbers(strategy)
            else:
                strategy._before_training_epoch()
            drawn[strategy] = [iter(strategy.dataloader), *objective.memories(strategy)]
            if self.has_one_order and plans:
                self._follow(strategy, next(iter(plans)), drawn, plans)
            else:
                plans[strategy] = _plan(drawn[strategy], sources[strategy])
                self._random[strategy] = strategy.clock.train_exp_epochs, torch.get_rng_state()
        self.update.read_settings([member.optimizer for member in self._members])
        sums = self._train_batches(objective, [plans[member] for member in self._members])
        for strategy, place in self._places.items():
            strategy.epoch_counts.add(sums[place])
            _tell_metrics(strategy, sums[place])
        self.on_epoch()
        for strategy in list(self._places):
            try:
                strategy._after_training_epoch()
            except TrainingError as error:
                self._drop(strategy, error)

    def _follow(self, strategy: EngineMixin, other: EngineMixin, drawn: dict[EngineMixin, list[BatchIterator]],
                plans: dict[EngineMixin, Plan]) -> None:
        """Let a strategy stand where another one of its seed has drawn an epoch: it would draw the same."""
        for mine, its in zip(drawn[strategy], drawn[other], strict=True):
            mine.move_to(its.state_dict())
        plans[strategy], self._random[strategy] = plans[other], self._random[other]

    def _drop(self, strategy: EngineMixin, error: TrainingError) -> None:
        self.failures[strategy] = error
        place = self._places.pop(strategy)
        self._members[place] = next(iter(self._places), strategy)
        self._members = [self._members[place] if member is strategy else member for member in self._members]

    def set_random_numbers(self, strategy: EngineMixin) -> None:
        """As they were when an epoch was planned: of the three generators torch's alone is drawn from."""
        epoch, state = self._random[strategy]
        seed_everything(derive_seed(strategy.run_seed, 'epoch', strategy.clock.train_exp_counter, epoch))
        torch.set_rng_state(state)

    def is_training(self, strategy: EngineMixin) -> bool:
        """Whether a strategy is one of those whose experience goes on."""
        return strategy in self._places

    def store(self) -> None:
        """Give the strategies their weights and the state of their optimisers."""
        for strategy, place in self._places.items():
            self.stack.store(place, strategy.model)
            self.update.store(place, strategy.optimizer)

    def _train_batches(self, objective: Objective, plans: list[Plan]) -> Tensor:
        """Make the steps of an epoch; of each place loss x rows, rows, correct and rows with logits, (S, 4)."""
        if not plans[0].sizes:
            return torch.zeros(self.width, 4, dtype=torch.float64)
        sizes, rows, places = plans[0].sizes, [plan.rows for plan in plans], [plan.places for plan in plans]
        if any(plan.sizes != sizes for plan in plans[1:]):
            raise TrainingError('The batches of the strategies differ in size. Set lane=False to train them one after '
                                'the other.')
        if self.has_one_order:
            rows, memory = rows[0], list(places[0])
        else:
            rows, memory = torch.stack(rows), [torch.stack(each) for each in zip(*places)]
        targets = self.pool.targets[rows]
        losses, hits = [], []
        ends = [0, *accumulate(size for size, _ in sizes)]
        for number, (size, own) in enumerate(sizes):
            batch = slice(ends[number], ends[number + 1])
            beside = (size - own) // len(memory) if memory else 0
            parts = [each[..., number * beside:(number + 1) * beside] for each in memory]
            loss, right = self._step(objective, rows[..., batch], targets[..., batch], parts)
            losses.append(loss)
            hits.append(right)
            self._tick()
        counts = torch.tensor([own for _, own in sizes], dtype=torch.float64)[:, None]
        total = counts.sum().expand(self.width)
        return torch.stack([(torch.stack(losses).double() * counts).sum(0), total,
                            torch.stack(hits).sum(0).double(), total], 1)

    def _step(self, objective: Objective, rows: Tensor, targets: Tensor, places: list[Tensor]
              ) -> tuple[Tensor, Tensor]:
        stack = self.stack
        gradient, loss, hits = objective.errors(stack.forward(self._read(rows)), targets, places)
        stack.backward(gradient)
        loss = loss + objective.penalise()
        self.update.step()
        return loss, hits

    def _read(self, rows: Tensor) -> Tensor:
        """The samples of a batch, (S, N, D) or (N, D), in memory that is used again."""
        count, width = rows.numel(), self.pool.inputs.shape[1]
        if len(self._buffer) < count:
            self._buffer = self.pool.inputs.new_empty((count, width))
        batch = torch.index_select(self.pool.inputs, 0, rows.reshape(-1), out=self._buffer[:count])
        return batch.view(*rows.shape, width)

    def _tick(self) -> None:
        """Count an iteration, and step the schedules that go by iterations."""
        for strategy in self._places:
            strategy.schedule.after_training_iteration(strategy)
            strategy.clock.after_training_iteration(strategy)
        if not self._members[0].schedule.by_epoch:
            self.update.read_settings([member.optimizer for member in self._members])
        self.on_iteration(self._members[0])


def _plan(passes: list[BatchIterator], sources: Sources) -> Plan:
    """Draw the batches of an epoch, in the order in which a strategy's own loop draws them.

    Args:
        passes: over its own data sets, and over each memory.
    """
    batches, *memories = passes
    parts: list[Tensor] = []  # rows of data sets, and below where in `sources.rows` each data set begins
    starts: list[int] = []
    places: list[list[Tensor]] = [[] for _ in memories]
    sizes = []
    while (batch := batches.next_parts()) is not None:
        own = 0
        for group, rows in batch:
            parts.append(rows)
            starts.append(sources.starts[0][group])
            own += rows.shape[0]
        size = own
        for memory, begin, held in zip(memories, sources.starts[1:], places):
            ((_, rows),) = memory.next_parts()
            parts.append(rows)
            starts.append(begin[0])
            held.append(rows)
            size += rows.shape[0]
        sizes.append((size, own))
    if not parts:
        return Plan(torch.empty(0, dtype=torch.int64), sizes, [torch.empty(0, dtype=torch.int64) for _ in memories])
    begins = torch.tensor(starts).repeat_interleave(torch.tensor([rows.shape[0] for rows in parts]))
    return Plan(sources.rows[torch.cat(parts).add_(begins)], sizes, [torch.cat(held) for held in places])


def _tell_metrics(strategy: EngineMixin, sums: Tensor) -> None:
    """Let Avalanche's accuracy and loss of an epoch know what was counted."""
    loss, rows, correct, _ = sums.tolist()
    for metric in strategy.evaluator.metrics if rows else ():
        if isinstance(metric, EpochAccuracy):
            answers = torch.arange(int(rows)) < int(correct)  # as many right ones as there were
            metric._metric.update(answers.long(), torch.ones_like(answers, dtype=torch.int64))
        elif isinstance(metric, EpochLoss):
            metric._metric.update(torch.tensor(loss / rows, dtype=torch.float64), patterns=int(rows))
