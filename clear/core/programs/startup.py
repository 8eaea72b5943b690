"""What a program settles while it starts: the garbage collector, threads, the device.

torch is imported where it is used: `pause_collection` comes before it.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pause_collection() -> None:
    """Collect nothing until `resume_collection`.

    Importing torch and Avalanche makes a million objects and no garbage; looking through them again and again takes a
    fifth of the time to start.
    """
    gc.disable()


def resume_collection() -> None:
    """Collect again, and take what exists by now for old, so that it is not looked through at once."""
    gc.freeze()
    gc.unfreeze()  # to the oldest generation, not back to where it was
    gc.enable()


def set_threads(threads: int | None) -> None:
    """Let torch use so many threads; None leaves its choice, within what this process may use.

    That is the CPUs it is bound to and the quota of its container, which torch does not look at; without GPUs the
    processes of a run share it.
    """
    import torch

    from clear.core import dist
    from clear.core.machine.host import processor

    if threads is not None:
        torch.set_num_threads(threads)
        return
    usable = processor().usable
    if dist.world_size() > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, usable // dist.world_size()))
    elif torch.get_num_threads() > usable:
        torch.set_num_threads(usable)


def choose_device(name: str | None) -> torch.device:
    """The device of that name; None takes this process's GPU if there is one, else the CPU.

    Raises:
        ConfigError: if torch does not know the name, or a GPU is asked for and absent.
    """
    import torch

    from clear.core import dist
    from clear.core.checks import check_text
    from clear.core.errors import ConfigError

    if name is None or name == 'cuda':
        if torch.cuda.is_available():
            return torch.device('cuda', dist.local_rank())
        if name == 'cuda':
            raise ConfigError("device is 'cuda', but torch sees no GPU here. Leave device out, or use --device cpu.")
        return torch.device('cpu')
    if check_text('device', name).startswith('meta'):
        raise ConfigError("device is 'meta', which holds no numbers; leave device out, or use 'cpu' or 'cuda'.")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device is {name!r}, which torch cannot use here: {str(error).splitlines()[0]}') from error
    return device
