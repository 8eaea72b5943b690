"""Mixed precision of continual training: which number format, and whether losses need scaling."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from clear.core.errors import ConfigError
from clear.core.logs import logger

DTYPES = {'bf16': torch.bfloat16, 'fp16': torch.float16}
# Flags of a CPU that multiplies bfloat16 itself.
_BF16_FLAGS = ('avx512_bf16', 'amx_bf16', 'bf16')


def set_precision(model: nn.Module, amp: bool | str, device: torch.device) -> torch.amp.GradScaler | None:
    """Let `model` run its forward pass in mixed precision; the scaler of the loss where one is needed.

    Autocast stands inside the model's forward: around a whole training loop its cache would keep the weights of the
    first iteration, and passes that a strategy makes itself (teachers, importances) would be in float32.

    Args:
        model: a `ComposedClassifier`, or any module with one inside.
        amp: False, 'bf16', 'fp16', or True for bf16 where the device has it, else fp16.

    Raises:
        ConfigError: for another value, or if no part of the model can run under autocast.
    """
    if not amp:
        return None
    if amp is True:
        amp = 'bf16' if device.type != 'cuda' or torch.cuda.is_bf16_supported() else 'fp16'
    if amp not in DTYPES:
        raise ConfigError(f"amp is {amp!r}; expected False, True, 'bf16' or 'fp16'.")
    parts = [module for module in model.modules() if hasattr(module, 'amp_dtype')]
    if not parts:
        raise ConfigError(f'amp: {type(model).__name__} cannot run in mixed precision; leave it out.')
    if amp == 'bf16' and device.type == 'cpu' and not _cpu_has_bf16():
        logger.warning('This CPU has no bfloat16 instructions: mixed precision is slower here than float32.')
    for module in parts:
        module.amp_dtype = DTYPES[amp]
    return torch.amp.GradScaler(device.type) if amp == 'fp16' else None


def _cpu_has_bf16() -> bool:
    try:
        flags = next(line for line in Path('/proc/cpuinfo').read_text().splitlines()
                     if line.startswith(('flags', 'Features')))
    except (OSError, StopIteration):
        return False
    return any(flag in flags.split() for flag in _BF16_FLAGS)
