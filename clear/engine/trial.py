"""A step of training on a copy of the model, before there is any: what the model says to it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn


def refusal(model: nn.Module, step: Callable[[nn.Module], object]) -> str | None:
    """What a copy of the model in train mode says to a step; None if it takes it. Nothing is left behind."""
    trial = copy.deepcopy(model).train()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            step(trial)
        except ValueError as error:
            return str(error).rstrip('.')
    return None
