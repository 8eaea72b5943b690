"""Several processes: start, rank, and the few collectives that `clear` uses. One process needs no group."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as torch_dist

from clear.core.errors import ClearError, ConfigError, ElsewhereError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


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
