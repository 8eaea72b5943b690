"""BatchNorm whose statistics can be taken over the batches of all processes, on a CPU as well as on GPUs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from mmengine.model.utils import _BatchNormXd
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clear.core import dist
from clear.core.errors import ConfigError

# Rows that this process contributes to the global batch; None where statistics are local.
_num_rows: ContextVar[int | None] = ContextVar('num_rows', default=None)


@contextmanager
def synchronised(num_rows: int) -> Iterator[None]:
    """Within this block, converted layers in train mode normalise by the statistics of all processes' batches.

    Every process must enter it for the same forward passes, and run backward over them: both communicate. Leave it
    out around passes that every process makes with the same data (teachers, importances, memory batches): these have
    the right statistics already, and counting them once per process would distort the unbiased running variance.

    Args:
        num_rows: rows of this process's shard of the global batch. 0 says that its batch is a stand-in that must
            not count, for a process without rows; its outputs mean nothing and its loss must be weighted by 0.

    Raises:
        ValueError: if `num_rows` is negative.
    """
    if num_rows < 0:
        raise ValueError(f'num_rows is {num_rows}, expected at least 0.')
    token = _num_rows.set(num_rows)
    try:
        yield
    finally:
        _num_rows.reset(token)


def convert_sync_batch_norm(model: nn.Module) -> int:
    """Let every BatchNorm layer of a model follow `synchronised`, in place; returns how many there are.

    Outside that block, in eval mode and with one process a converted layer is what it was. Parameters, buffers,
    hooks, names and the state dict stay the same, and so do the objects. A second call changes nothing.

    Raises:
        ConfigError: if a layer is a BatchNorm of a kind of its own (with an activation inside, say).
    """
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, _BatchNorm)]
    for name, module in layers:
        if type(module) not in _SYNCHRONISED and not isinstance(module, _Synchronised):
            raise ConfigError(f'{name or "the model"} is a {type(module).__name__}, which is no plain BatchNorm: its '
                              'statistics cannot be synchronised. Use one process.')
    for _, module in layers:
        # The class alone decides where statistics come from, so other references to the layer stay valid.
        module.__class__ = _SYNCHRONISED.get(type(module), type(module))
    return len(layers)


class _Synchronised(_BatchNorm):
    """Mix-in: BatchNorm in train mode with mean and variance of the global batch, by count, sum and squared deviations.

    Two reductions forward and two backward; gradients flow through them, so that summed over processes they are those
    of one process with the whole batch.

    Shape:
        x: (N, C) or (N, C, ...)   returns: the same

    Raises:
        ValueError: if the global batch has one value per channel, as torch does, or `num_rows` does not fit `x`.
    """

    def forward(self, x: Tensor) -> Tensor:
        num_rows = _num_rows.get()
        if num_rows is None or not self.training or dist.world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        if num_rows and len(x) % num_rows:
            raise ValueError(f'A batch of {len(x)} rows reaches BatchNorm in a process that said num_rows={num_rows}.')
        # float32 at least: sums over a batch in half precision lose the small values.
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count, mean, variance = _global_statistics(values if num_rows else values[:0])
        self._update_running(count, mean, variance)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        out = (values - mean.view(shape)) * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    @torch.no_grad()
    def _update_running(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        # Without a momentum torch keeps the plain average of all batches.
        factor = 1.0 / self.num_batches_tracked if self.momentum is None else self.momentum
        unbiased = variance * count / (count - 1)
        for running, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            running.add_((new.to(running.dtype) - running) * factor)


def _global_statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values per channel (), mean (C,) and biased variance (C,) over all processes; `values` may have no rows."""
    axes = [axis for axis in range(values.ndim) if axis != 1]
    per_row = math.prod(values.shape[2:])
    count = values.new_full((1,), float(len(values) * per_row))
    total = dist.sum_with_gradient(torch.cat([values.sum(axes), count]))  # (C + 1,)
    count = total[-1].detach()
    if per_row == 1 and count < 2:  # Maps have more than one value per row: no need to wait for the device.
        raise ValueError('Expected more than 1 value per channel when training, got a global batch of one row.')
    mean = total[:-1] / count
    centred = values - mean.view((1, -1) + (1,) * (values.ndim - 2))
    # Deviations from the global mean: the difference of two large sums would lose digits.
    return count, mean, dist.sum_with_gradient(centred.square().sum(axes)) / count


class SynchronisedBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    """`nn.BatchNorm1d` that follows `synchronised`."""


class SynchronisedBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    """`nn.BatchNorm2d` that follows `synchronised`."""


class SynchronisedBatchNorm3d(_Synchronised, nn.BatchNorm3d):
    """`nn.BatchNorm3d` that follows `synchronised`."""


class SynchronisedBatchNormXd(_Synchronised):
    """What mmengine makes of an `nn.SyncBatchNorm` on a CPU, following `synchronised`; inputs of any rank."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        pass


_SYNCHRONISED = {_BatchNormXd: SynchronisedBatchNormXd, nn.BatchNorm1d: SynchronisedBatchNorm1d,
                 nn.BatchNorm2d: SynchronisedBatchNorm2d, nn.BatchNorm3d: SynchronisedBatchNorm3d}
