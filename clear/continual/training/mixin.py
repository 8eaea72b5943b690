"""The mix-in under every Avalanche strategy: batches by index, seeds, mixed precision, several processes, resume."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clear.continual.samples import index_values
from clear.continual.training import linear_head, sgd
from clear.continual.training.counts import EpochCounts, sums_of_batch
from clear.continual.training.hooks import Hooks
from clear.continual.training.loaders import BatchIterator, batched_reads, translate, translate_iterator
from clear.continual.training.noise import NoiseStream
from clear.continual.training.parallel import average_batch_norm
from clear.continual.training.traits import trait, users_parts
from clear.core import dist
from clear.core.errors import Interrupted, TrainingError
from clear.core.seeding import derive_seed, seed_everything
from clear.datasets import SampleContext
from clear.models.sync_batch_norm import synchronised

# Iterations after which processes with GPUs ask each other whether one was told to stop: it makes them wait.
GPU_STOP_INTERVAL = 20


class EngineMixin:
    """Comes first among the bases of a strategy class; Avalanche's own class stays as it is.

    Batches: a finished loader is translated when it is assigned, into one that reads whole tensors by row number
    (see `loaders`).

    Random numbers: the generators are seeded at the start of every experience from (seed, experience) and at the
    start of every epoch from (seed, experience, epoch), so the order of samples is a function of these alone. A model
    that draws random numbers itself (dropout, stochastic depth) draws them from a stream of its own, seeded from
    (seed, experience, iteration, rank): otherwise the processes' streams would part where their shards are unequal.

    Several processes: see `parallel`. The model stays unwrapped, and gradients are combined in `backward`, before any
    plugin looks at them.

    Mixed precision: the model's own forward runs under autocast (`amp_dtype` of the model), so that teachers and
    importances see it too. float16 losses are scaled in `backward` and gradients unscaled there; plugins see true
    gradients.

    Linear classifiers on features: no graph is built where the loss is cross-entropy, nobody adds to it, and all parts
    are Avalanche's and ours, see `linear_head`.

    The engine attributes are set by `attach`, after construction. What strategies declare of themselves: see `traits`.
    """

    rebuilt = frozenset({
        'run_seed', 'sample_context', 'mode', 'scaler', 'max_iterations', 'max_seconds', 'seconds_used',
        'on_iteration', 'on_epoch', 'save_iteration', 'own_loop', 'stop_requested', '_stop_wanted', 'epoch_loss',
        'epoch_accuracy', 'epoch_counts', '_batch_loss', '_batch_sums', '_num_rows', '_noise', '_pending', '_resumed',
        '_passed_epochs', '_is_told_to_stop', '_dataloader', '_clock_started', '_is_plain_forward'})

    def attach(self, *, seed: int, context: SampleContext | None = None, mode: str = 'replicate',
               scaler: torch.amp.GradScaler | None = None, max_iterations: int | None = None,
               max_seconds: float | None = None, on_iteration: Callable[[EngineMixin], None] | None = None,
               on_epoch: Callable[[EngineMixin], None] | None = None,
               save_iteration: Callable[[], None] | None = None) -> None:
        """Give the strategy what it needs from the engine.

        Args:
            seed: of training.
            context: told the seed, experience and epoch, for augmentations.
            mode: how several processes divide the work, one of `parallel.MODES`.
            scaler: of the loss, for float16.
            max_iterations, max_seconds: budget of each experience; training ends where the first is used up.
            on_iteration, on_epoch: called after each training iteration and epoch.
            save_iteration: called where the state inside an experience can be saved, also right before a stop.
        """
        self.run_seed = seed
        self.sample_context = context
        self.mode, self.scaler = mode, scaler
        self.max_iterations = max_iterations
        self.max_seconds, self.seconds_used = max_seconds, 0.0
        self.on_iteration = on_iteration
        self.on_epoch = on_epoch
        self.save_iteration = save_iteration
        self.own_loop: Callable[[], None] | None = None  # trains an experience in place of the loop below
        self.stop_requested = self._stop_wanted = self._resumed = False
        self.epoch_loss = self.epoch_accuracy = float('nan')
        self.epoch_counts = EpochCounts()
        self._batch_loss: Tensor | None = None
        self._batch_sums: Tensor | None = None  # what a batch adds to the sums, of all processes
        self._num_rows = (0, 0)  # own rows and rows of the batch
        self._noise: NoiseStream | None = None
        self._pending: Callable[[], None] | None = None
        # Avalanche prints its own remarks about plugins under several processes; ours are checked at the start.
        self._distributed_check = True

    def request_stop(self) -> None:
        """Stop at the end of this iteration, or of one that several processes agree on, by raising `Interrupted`."""
        self._stop_wanted = True
        self.stop_requested |= dist.world_size() == 1

    def agree_to_stop(self) -> None:
        """A signal reaches processes in different iterations; here they learn of it together. All take part."""
        if dist.world_size() > 1:
            self.stop_requested = dist.any_rank(self._stop_wanted, self.device)

    def check_stop(self) -> None:
        if self.stop_requested:
            raise Interrupted('Stopped by a signal. What was finished is saved; continue with --resume.')

    # Loaders

    @property
    def dataloader(self) -> Any:
        return self._dataloader

    @dataloader.setter
    def dataloader(self, loader: Any) -> None:
        is_divided = self.is_training and dist.world_size() > 1 and self.mode == 'shard'
        self._dataloader = translate(loader, shard=(dist.rank(), dist.world_size()) if is_divided else None)

    def make_train_dataloader(self, **kwargs):
        index_values(self.adapted_dataset.targets_task_labels)  # a loader balanced by task asks for them
        super().make_train_dataloader(**kwargs)

    def _translate_memory_loaders(self) -> None:
        """Translate the loaders over memories that strategies and plugins keep as attributes."""
        from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader

        for owner in (self, *self.plugins):
            for name, value in list(vars(owner).items()):
                is_loader = isinstance(value, DataLoader) and name != '_dataloader'
                new = translate(value) if is_loader else translate_iterator(value)
                if new is not value and not isinstance(value, MultiDatasetDataLoader):
                    setattr(owner, name, new)

    # Seeds

    def _before_training_exp(self, **kwargs):
        experience = self.clock.train_exp_counter
        seed_everything(derive_seed(self.run_seed, 'experience', experience))
        self._tell_context(experience, 0)
        self._noise = NoiseStream(self.device)
        self.seconds_used = 0.0
        with batched_reads():
            super()._before_training_exp(**kwargs)
        self._translate_memory_loaders()
        if self._pending is not None:
            self._pending()
            self._pending, self._resumed = None, True
            self._tell_context(experience, self.clock.train_exp_epochs)
        self._clock_started = time.monotonic() - self.seconds_used

    def _after_training_exp(self, **kwargs):
        average_batch_norm(self.model)
        with batched_reads():
            super()._after_training_exp(**kwargs)
        self._translate_memory_loaders()

    def _before_training_epoch(self, **kwargs):
        if self._resumed:
            return
        experience, epoch = self.clock.train_exp_counter, self.clock.train_exp_epochs
        super()._before_training_epoch(**kwargs)
        seed_everything(derive_seed(self.run_seed, 'epoch', experience, epoch))
        self._tell_context(experience, epoch)
        self.epoch_counts = EpochCounts(self.device)

    def _tell_context(self, experience: int, epoch: int) -> None:
        if self.sample_context is not None:
            self.sample_context.seed = self.run_seed
            self.sample_context.experience = experience
            self.sample_context.epoch = epoch

    # The loop

    def _train_exp(self, experience, eval_streams=None, **kwargs):
        """Avalanche's loop over epochs or a user's; those before a stop are passed through without doing anything."""
        if self.own_loop is not None:
            self.own_loop()
            return
        if self._resumed:
            self._passed_epochs, self._is_told_to_stop, self._stop_training = 0, self._stop_training, False
        super()._train_exp(experience, eval_streams, **kwargs)

    def training_epoch(self, **kwargs):
        """Avalanche's epoch; where it is the plain one, without the calls that nobody listens to."""
        from avalanche.training.templates.update_type.sgd_update import SGDUpdate

        if self._resumed:
            if self._passed_epochs < self.clock.train_exp_epochs:
                return
            # Also where training was about to stop: the epoch ends as it would have.
            self._resumed, self._stop_training = False, self._is_told_to_stop
        if super().training_epoch.__func__ is not SGDUpdate.training_epoch:
            super().training_epoch(**kwargs)
            return
        hooks = Hooks(self, kwargs)
        # A plugin may put terms into the loss before the criterion does, and one of users look at and change anything.
        is_loss_shared = hooks.listens('before_forward', 'after_forward', 'before_backward') or bool(users_parts(self))
        layer = None if is_loss_shared else self._lone_layer()
        for batch in self._read_batches():
            self.mbatch = batch
            if self._stop_training:
                break
            self._unpack_minibatch()
            hooks.call('before_training_iteration')
            sgd.zero_grad(self.optimizer)
            if layer is not None and linear_head.fits(layer, self.mb_x):
                self.loss, self.mb_output = linear_head.learn(layer, self._criterion, self.mb_x, self.mb_y)
                self._batch_loss = self.loss
            else:
                self._learn_by_autograd(hooks, is_loss_shared)
            hooks.call('after_backward')
            hooks.call('before_update')
            self.optimizer_step()
            hooks.call('after_update')
            self._after_training_iteration(**kwargs)
            del batch

    def _learn_by_autograd(self, hooks: Hooks, is_loss_shared: bool) -> None:
        if is_loss_shared:
            self.loss = self._make_empty_loss()
        hooks.call('before_forward')
        self.mb_output = self.forward()
        hooks.call('after_forward')
        criterion = self.criterion()
        self.loss = self.loss + criterion if is_loss_shared else criterion
        hooks.call('before_backward')
        self.backward()

    def _lone_layer(self) -> nn.Linear | None:
        """The layer of a model that is nothing else, if its batches need no graph."""
        from avalanche.training.templates.base_sgd import BaseSGDTemplate
        from avalanche.training.templates.problem_type.supervised_problem import SupervisedProblem

        is_plain = self._is_plain_forward and super().criterion.__func__ is SupervisedProblem.criterion and \
            super().backward.__func__ is BaseSGDTemplate.backward and self.scaler is None and \
            linear_head.is_cross_entropy(self._criterion) and not self.retain_graph and \
            (dist.world_size() == 1 or self.mode == 'replicate')
        return linear_head.lone_layer(self.model) if is_plain else None

    def _read_batches(self) -> Iterator[list[Tensor]]:
        """The batches of an epoch; where they are read at once, each after the one before it was let go of."""
        batches = iter(self.dataloader)
        while True:
            if isinstance(batches, BatchIterator) and batches.is_about_to_read():
                self.mbatch = None
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            del batch

    def _unpack_minibatch(self):
        super()._unpack_minibatch()
        if self.is_training:
            rows = len(self.mb_y)
            iterator = getattr(self._dataloader, 'iterator', None)
            self._num_rows = iterator.shard_rows if iterator is not None and iterator.shard_rows else (rows, rows)

    def forward(self):
        if not self.is_training:
            return super().forward()
        clock = self.clock
        with self._noise.seeded(self.run_seed, 'noise', clock.train_exp_counter, clock.train_exp_iterations,
                                0 if self.mode == 'replicate' else dist.rank()):
            if self.mode == 'replicate' or dist.world_size() == 1:
                return self._forward_batch()
            if self.mode == 'shard':
                with synchronised(self._num_rows[0]):
                    return self._forward_batch()
            return self._forward_own_rows()

    def _forward_batch(self) -> Any:
        if not self._is_plain_forward:
            return super().forward()
        # What Avalanche's own does for a model without task labels, after asking the experience for them.
        return self.model(self.mb_x)

    @functools.cached_property
    def _is_plain_forward(self) -> bool:
        from avalanche.models import MultiTaskModule
        from avalanche.training.templates.problem_type.supervised_problem import SupervisedProblem

        return super().forward.__func__ is SupervisedProblem.forward and not isinstance(self.model, MultiTaskModule)

    def _forward_own_rows(self) -> Tensor:
        """Run the model on this rank's rows of the batch; the output for all rows."""
        whole = self.mbatch
        rank, world_size = dist.rank(), dist.world_size()
        num_own = len(range(rank, len(whole[0]), world_size))
        # A rank without a row runs one whose gradient is 0.
        own = slice(rank, None, world_size) if num_own else slice(0, 1)
        self.mbatch = [column[own] for column in whole]
        try:
            with synchronised(num_own):
                return dist.gather_strided_rows(self._forward_batch(), len(whole[0]))
        finally:
            self.mbatch = whole

    def backward(self):
        whole = self.loss
        self._batch_loss = loss = whole.detach().reshape(())
        if dist.world_size() > 1 and self.mode != 'replicate':
            own, rows = self._num_rows
            self.loss = self.loss * (own / rows if self.mode == 'shard' else 1 / dist.world_size())
        if self.scaler is not None:
            self.loss = self.scaler.scale(self.loss)
        super().backward()
        self.loss = whole
        if dist.world_size() > 1 and self.mode != 'replicate':
            gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
            if self.mode == 'shard':
                # With the gradients: the process that saves must know the sums of all, whose number may change.
                self._batch_sums = sums_of_batch(loss, self._judged_output(), self.mb_y, own)
                gradients.append(self._batch_sums)
            dist.sum_flat(gradients)
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
            # The scaler has noted an overflow and will leave the step out; plugins must not remember infinities.
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

    def optimizer_step(self):
        if self.scaler is None:
            sgd.take_step(super().optimizer_step, self.optimizer)
        else:
            self.scaler.step(self.optimizer)  # skipped where a gradient overflowed
            self.scaler.update()

    # Progress

    def _after_training_iteration(self, **kwargs):
        self._count_batch()
        super()._after_training_iteration(**kwargs)
        self._check_budget()
        if self.device.type == 'cpu' or self.clock.train_exp_iterations % GPU_STOP_INTERVAL == 0:
            self.agree_to_stop()
        if self.on_iteration is not None:
            self.on_iteration(self)
        if self.save_iteration is not None:
            self.save_iteration()
        self.check_stop()

    def _count_batch(self) -> None:
        if self._batch_sums is not None:
            self.epoch_counts.add(self._batch_sums)
            self._batch_sums = None
            return
        rows = self._num_rows[0]
        if not rows:
            return
        # Strategies with a backward pass of their own leave no loss of the batch behind but this.
        loss = self.loss if self._batch_loss is None else self._batch_loss
        self.epoch_counts.note(loss.detach().reshape(()), self._judged_output(), self.mb_y, rows)

    def _judged_output(self) -> Tensor | None:
        """The logits of the batch; None where the output is none."""
        output = self.mb_output
        are_logits = isinstance(output, Tensor) and output.ndim == 2 and len(output) == len(self.mb_y)
        return output.detach() if are_logits and not self.embeds_in_training else None

    def _check_budget(self) -> None:
        if self.max_iterations is not None and self.clock.train_exp_iterations >= self.max_iterations:
            self.stop_training()
        if self.max_seconds is not None:
            self.seconds_used = time.monotonic() - self._clock_started
            if dist.any_rank(self.seconds_used >= self.max_seconds, self.device):
                self.stop_training()

    def _after_training_epoch(self, **kwargs):
        if self._resumed:
            self._passed_epochs += 1
            return
        loss, accuracy = self.epoch_counts.means()
        self.epoch_loss = math.nan if loss is None else loss
        self.epoch_accuracy = math.nan if accuracy is None else accuracy
        super()._after_training_epoch(**kwargs)
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(f'The training loss is {loss} in experience {self.clock.train_exp_counter}, '
                                f'epoch {self.clock.train_exp_epochs - 1}. {self._divergence_remedy()} The last '
                                'finished experience is saved.')
        if self.on_epoch is not None:
            self.on_epoch(self)

    def _divergence_remedy(self) -> str:
        keys = [key for part in (self, *self.plugins) for key in trait(part, 'penalty_keys')]
        if not keys or self.clock.train_exp_counter == 0:  # where nothing is held on to yet
            return 'Try a smaller learning rate.'
        return (f"The likely cause is {' or '.join(keys)}: the penalty is too strong for the learning rate. Try a "
                'tenth of it, or a smaller learning rate.')

    def continue_from(self, restore: Callable[[], None]) -> None:
        """Let `restore` put back the state of an iteration, at the end of the next experience's prologue."""
        self._pending = restore
