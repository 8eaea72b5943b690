"""Several processes: start, rank, and the few collectives that `clear` uses. One process needs no group."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as torch_dist

from clear.core.errors import ClearError, ConfigError, ElsewhereError


def start(launcher: str = 'none') -> None:
    """Join the process group that `launcher` describes: NCCL where there is a GPU per process, else gloo.

    Raises:
        ConfigError: if the environment does not hold what the launcher sets.
    """
    if launcher == 'none' or torch_dist.is_initialized():
        return
    backend = 'nccl' if torch.cuda.is_available() else 'gloo'
    if launcher == 'pytorch':
        missing = [name for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT') if name not in os.environ]
        if missing:
            raise ConfigError(f'--launcher pytorch, but {", ".join(missing)} is not set. Start with '
                              'tools/dist_train.sh or torchrun.')
        if backend == 'nccl':
            torch.cuda.set_device(local_rank())
        torch_dist.init_process_group(backend)
        return
    from mmengine.dist import init_dist

    # Asking settles the start method; mmengine would set 'spawn', and every epoch's workers would import torch anew.
    torch.multiprocessing.get_start_method()
    try:
        init_dist(launcher, backend=backend)
    except KeyError as error:
        raise ConfigError(f'--launcher {launcher}, but {error} is not set: did {launcher} start this job?') from error


def stop() -> None:
    """Leave the process group, if there is one."""
    if torch_dist.is_initialized():
        torch_dist.destroy_process_group()


def rank() -> int:
    return torch_dist.get_rank() if torch_dist.is_initialized() else 0


def world_size() -> int:
    return torch_dist.get_world_size() if torch_dist.is_initialized() else 1


def local_rank() -> int:
    return int(os.environ.get('LOCAL_RANK', 0))


def is_main() -> bool:
    """True in the one process that writes files and prints."""
    return rank() == 0


def barrier() -> None:
    if torch_dist.is_initialized():
        torch_dist.barrier()


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of `tensor` over all processes, in place; `tensor` itself in one process."""
    if torch_dist.is_initialized():
        torch_dist.all_reduce(tensor)
    return tensor


def from_main(tensors: Iterable[torch.Tensor]) -> None:
    """Overwrite tensors with those of the first process, one by one."""
    if torch_dist.is_initialized():
        for tensor in tensors:
            torch_dist.broadcast(tensor, 0)


def any_rank(flag: bool, device: torch.device | str = 'cpu') -> bool:
    """True if `flag` is true in any process."""
    if not torch_dist.is_initialized():
        return flag
    return bool(sum_over_ranks(torch.tensor(int(flag), device=device)).item())


def in_agreement(work: Callable[[], None], group: torch_dist.ProcessGroup | None = None) -> None:
    """Do `work` and wait for the others; if it fails with a user error in any process, every process raises one.

    Args:
        group: processes that agree, over gloo; None for all.
    """
    error: ClearError | None = None
    try:
        work()
    except ClearError as found:
        error = found
    if torch_dist.is_initialized():
        device = 'cuda' if torch_dist.get_backend(group) == 'nccl' else 'cpu'
        failed = torch.tensor(int(error is not None), device=device)
        torch_dist.all_reduce(failed, group=group)
        if failed and error is None:
            error = ElsewhereError('Another process could not go on; its message says why.')
    if error is not None:
        raise error


@contextmanager
def patient_group() -> Iterator[torch_dist.ProcessGroup | None]:
    """A process group without a practical time limit; None for one process.

    After hours of work, processes end further apart than the ten minutes that NCCL waits for the last.
    """
    if world_size() == 1:
        yield None
        return
    group = torch_dist.new_group(backend='gloo', timeout=timedelta(days=365))
    try:
        yield group
    finally:
        torch_dist.destroy_process_group(group)


def sum_flat(tensors: Iterable[torch.Tensor]) -> None:
    """Sum many tensors over all processes, in place, with one collective per dtype."""
    if not torch_dist.is_initialized():
        return
    by_dtype: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype, []).append(tensor)
    for group in by_dtype.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group])
        torch_dist.all_reduce(flat)
        for tensor, part in zip(group, flat.split([tensor.numel() for tensor in group])):
            tensor.copy_(part.view_as(tensor))


# Three collectives that gradients flow through. They differ in what a process's loss is: a part of a sum, the loss of
# the global batch whose gradients are averaged afterwards, or the whole loss computed in every process.


def sum_with_gradient(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of `tensor` over all processes, a new tensor that gradients flow through.

    Backwards the gradients of all processes' losses are summed too, so that what the processes hold together is the
    gradient of the sum of their losses.
    """
    return tensor if world_size() == 1 else _SumOverRanks.apply(tensor)


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.contiguous().clone()
        torch_dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _SumOverRanks.apply(gradient)


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """The rows of all processes, in order of rank; the gradient of a row is summed over the processes that used it.

    Shape:
        rows: (B, ...), of the same shape in every process   returns: (world size * B, ...)
    """
    return rows if world_size() == 1 else _GatherRows.apply(rows)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: torch.Tensor) -> torch.Tensor:
        ctx.num_rows = len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        torch_dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        torch_dist.all_reduce(gradient)
        start = rank() * ctx.num_rows
        return gradient[start:start + ctx.num_rows]


def gather_strided_rows(own: torch.Tensor, num_rows: int) -> torch.Tensor:
    """The rows of all ranks in the order of the global batch, where rank r holds the rows r, r + W, ...

    Backwards each rank takes the gradient of its own rows, times W: the loss over the whole batch is computed on
    every rank and divided by W before gradients are summed.

    Shape:
        own: (rows of this rank, ...); a dummy row where it has none   returns: (num_rows, ...)
    """
    return _GatherStridedRows.apply(own, num_rows)


class _GatherStridedRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, own: torch.Tensor, num_rows: int) -> torch.Tensor:
        ctx.rank, ctx.world_size, ctx.num_own = rank(), world_size(), len(own)
        most = -(-num_rows // ctx.world_size)
        padded = own.new_zeros((most, *own.shape[1:]))
        padded[:len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(ctx.world_size)]
        torch_dist.all_gather(parts, padded.contiguous())
        return torch.stack(parts, 1).flatten(0, 1)[:num_rows]

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        own = grad[ctx.rank::ctx.world_size] * ctx.world_size
        if len(own) < ctx.num_own:  # a dummy row stands in for none
            own = grad.new_zeros((ctx.num_own, *grad.shape[1:]))
        return own, None
