"""The mix-in under every Avalanche strategy: seeds, sums over processes, progress, and a way to stop."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from clear.core import dist
from clear.core.errors import Interrupted, TrainingError
from clear.core.seeding import derive_seed, seed_everything
from clear.datasets import SampleContext

# Strategies shown to give the same result on 1 and on n processes.
DISTRIBUTED_STRATEGIES = ('Naive',)


class EngineMixin:
    """Comes first among the bases of a strategy class; Avalanche's own class stays as it is.

    Random numbers: the generators are seeded at the start of every experience from (seed, experience) and at the
    start of every epoch from (seed, experience, epoch), so the order of samples is a function of these alone.

    Several processes: every rank draws the same global batches and keeps its rows, rank r the rows r, r + W, ...
    The loss of n_r of N rows is scaled by n_r / N and gradients are summed, which is the gradient of the mean over
    the global batch even where the shards are unequal.

    The engine attributes are set by `attach`, after construction.
    """

    def attach(self, *, seed: int, context: SampleContext | None = None,
               on_iteration: Callable[[EngineMixin], None] | None = None,
               on_epoch: Callable[[EngineMixin], None] | None = None) -> None:
        """Give the strategy what it needs from the engine.

        Args:
            seed: of training.
            context: told the seed, experience and epoch, for augmentations.
            on_iteration, on_epoch: called after each training iteration and epoch.
        """
        self.run_seed = seed
        self.sample_context = context
        self.on_iteration = on_iteration
        self.on_epoch = on_epoch
        self.stop_requested = False
        self.epoch_loss = float('nan')
        self.epoch_accuracy = float('nan')
        self._sums = torch.zeros(3, dtype=torch.float64)  # loss x rows, correct, rows
        self._shards: deque[tuple[int, int]] = deque()
        # Avalanche prints its own remarks about plugins under several processes; ours are checked at the start.
        self._distributed_check = True

    def request_stop(self) -> None:
        """Stop at the end of the current iteration by raising `Interrupted`."""
        self.stop_requested = True

    def check_stop(self) -> None:
        if self.stop_requested:
            raise Interrupted('Stopped by a signal. What was finished is saved; continue with --resume.')

    # Seeds

    def _before_training_exp(self, **kwargs):
        experience = self.clock.train_exp_counter
        seed_everything(derive_seed(self.run_seed, 'experience', experience))
        self._tell_context(experience, 0)
        super()._before_training_exp(**kwargs)

    def _before_training_epoch(self, **kwargs):
        experience, epoch = self.clock.train_exp_counter, self.clock.train_exp_epochs
        super()._before_training_epoch(**kwargs)
        seed_everything(derive_seed(self.run_seed, 'epoch', experience, epoch))
        self._tell_context(experience, epoch)
        self._sums = torch.zeros(3, dtype=torch.float64, device=self.device)

    def _tell_context(self, experience: int, epoch: int) -> None:
        if self.sample_context is not None:
            self.sample_context.seed = self.run_seed
            self.sample_context.experience = experience
            self.sample_context.epoch = epoch

    # Progress

    def _after_training_iteration(self, **kwargs):
        rows = self._local_rows
        if rows:
            correct = (self.mb_output.detach().argmax(1) == self.mb_y).sum()
            self._sums += torch.stack([self._batch_loss * rows, correct.double(), correct.new_tensor(rows).double()])
        super()._after_training_iteration(**kwargs)
        if self.on_iteration is not None:
            self.on_iteration(self)
        self.check_stop()

    def _after_training_epoch(self, **kwargs):
        loss, correct, rows = dist.sum_over_ranks(self._sums).tolist()
        self.epoch_loss, self.epoch_accuracy = loss / rows, correct / rows
        super()._after_training_epoch(**kwargs)
        if self.epoch_loss != self.epoch_loss or self.epoch_loss in (float('inf'), float('-inf')):
            raise TrainingError(f'The training loss is {self.epoch_loss} in experience {self.clock.train_exp_counter}, '
                                f'epoch {self.clock.train_exp_epochs - 1}. Try a smaller learning rate. The last '
                                'finished experience is saved.')
        if self.on_epoch is not None:
            self.on_epoch(self)

    # Several processes

    def make_train_dataloader(self, num_workers=0, shuffle=True, drop_last=False, **kwargs):
        super().make_train_dataloader(num_workers=num_workers, shuffle=shuffle, drop_last=drop_last, **kwargs)
        if dist.world_size() > 1:
            self.dataloader = self._shard(self.dataloader)

    def _shard(self, loader):
        """Rebuild an Avalanche loader so that it draws global batches and loads only this rank's rows."""
        from avalanche.benchmarks.utils.data_loader import MultiDatasetDataLoader

        kwargs = dict(loader.loader_kwargs)
        sharded = MultiDatasetDataLoader(loader.datasets, loader.batch_sizes, distributed_sampling=False,
                                         oversample_small_datasets=loader.oversample_small_datasets, **kwargs)

        def make_loader(datasets, batch_sampler):
            self._shards.clear()
            options = {key: kwargs[key] for key in ('num_workers', 'pin_memory', 'collate_fn') if key in kwargs}
            sampler = ShardedBatches(batch_sampler, dist.rank(), dist.world_size(), self._shards)
            return DataLoader(ConcatDataset(datasets), batch_sampler=sampler, **options)

        sharded._make_pytorch_loader = make_loader
        return sharded

    def _unpack_minibatch(self):
        super()._unpack_minibatch()
        if self.is_training:
            rows = len(self.mb_y)
            self._local_rows, self._global_rows = self._shards.popleft() if self._shards else (rows, rows)

    def backward(self):
        self._batch_loss = self.loss.detach().double().reshape(())
        if dist.world_size() == 1:
            super().backward()
            return
        self.loss = self.loss * (self._local_rows / self._global_rows)
        super().backward()
        dist.sum_flat(parameter.grad for parameter in self.model.parameters() if parameter.grad is not None)


class ShardedBatches:
    """The rows r, r + W, ... of every batch of a batch sampler.

    A rank that gets no row of a short batch takes the batch's first one with weight 0 (a mean over nothing is NaN).
    `shards` receives (own rows, rows of the batch) for every batch, in order.
    """

    def __init__(self, batches, rank: int, world_size: int, shards: deque):
        self.batches = batches
        self.rank = rank
        self.world_size = world_size
        self.shards = shards

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches:
            rows = batch[self.rank::self.world_size]
            self.shards.append((len(rows), len(batch)))
            yield rows or batch[:1]


def average_batch_norm(model: nn.Module) -> None:
    """Average BatchNorm's running statistics over the processes, so that every rank evaluates the same model."""
    if dist.world_size() == 1:
        return
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    buffers = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var) if buffer is not None]
    dist.sum_flat(buffers)
    for buffer in buffers:
        buffer /= dist.world_size()
