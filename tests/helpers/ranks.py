"""A few processes of one gloo group, for tests."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as torch_dist


def run_ranks(work: Callable[..., Any], world_size: int, folder: Path, *args: Any, timeout_s: float = 60) -> list:
    """Call `work(rank, *args)` in every process of a group; what each returned, by rank.

    Processes are forked: fresh ones would import everything anew.

    Args:
        work: returns tensors and plain values.
        folder: empty, for the meeting point and the results.
    """
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=_run, args=(work, rank, world_size, str(folder), args))
                 for rank in range(world_size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout_s)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world_size
    return [torch.load(Path(folder) / f'{rank}.pth') for rank in range(world_size)]


def _run(work: Callable[..., Any], rank: int, world_size: int, folder: str, args: tuple) -> None:
    torch.set_num_threads(1)
    torch_dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world_size)
    torch.save(work(rank, *args), Path(folder) / f'{rank}.pth')
    torch_dist.destroy_process_group()
