"""The random numbers that a model draws in its forward pass, apart from those that processes must share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from clear.core.seeding import derive_seed, seed_torch


class NoiseStream:
    """A stream of its own for what a model draws, so that the shared one goes on alike in all processes.

    Whether a model draws at all is found out in the first forward pass; where it does not, the others cost nothing.

    Args:
        device: of the model. On a GPU it is taken to draw.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._is_drawn_from: bool | None = None

    @contextmanager
    def seeded(self, *parts: str | int) -> Iterator[None]:
        """Seed from `parts` what is drawn inside, and leave the shared stream as it was."""
        if self._is_drawn_from is False:
            yield
            return
        shared = torch.get_rng_state()
        seed_torch(derive_seed(*parts))
        seeded = torch.get_rng_state()
        try:
            yield
        finally:
            if self._is_drawn_from is None:
                is_cpu = self._device.type == 'cpu'
                self._is_drawn_from = not is_cpu or not torch.equal(torch.get_rng_state(), seeded)
            torch.set_rng_state(shared)
