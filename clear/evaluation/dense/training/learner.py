"""A model with its optimiser: one update, its rates, its state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clear.evaluation.dense.training.settings import Setting


@dataclass(frozen=True)
class Schedule:
    """What rates are multiplied with in each iteration, and the momentum."""

    factors: Tensor
    momenta: Tensor | None

    def at(self, step: int) -> tuple[float, float | None]:
        return self.factors[step].item(), None if self.momenta is None else self.momenta[step].item()


class Learner:
    """A model with its optimiser, and the losses of the epoch so far."""

    def __init__(self, model: nn.Module, setting: Setting, groups: list[dict[str, object]],
                 scaler: torch.amp.GradScaler):
        self.model, self.scaler = model, scaler
        self.rates = [group['lr'] for group in groups]
        self.optimizer = setting.build_optimizer(groups)
        self.sums = self.new_sums()

    def new_sums(self) -> Tensor:
        """(2,) float64: the sum of losses times samples, and samples."""
        return torch.zeros(2, dtype=torch.float64, device=next(self.model.parameters()).device)

    def set_rates(self, factor: float, momentum: float | None) -> None:
        """Every rate times `factor`; momentum, of Adam the first beta, unless it is None."""
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group['lr'] = rate * factor
            if momentum is not None and 'betas' in group:
                group['betas'] = (momentum, group['betas'][1])
            elif momentum is not None:
                group['momentum'] = momentum

    def step(self, loss: Tensor, count: int) -> None:
        """One update."""
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.sums[0] += loss.detach() * count
        self.sums[1] += count

    def mean_loss(self) -> float | None:
        """The mean over the samples of the epoch; None if it is not finite."""
        return finite((self.sums[0] / self.sums[1]).item())

    def state_dict(self) -> dict[str, Any]:
        return dict(model=self.model.state_dict(), optimizer=self.optimizer.state_dict(),
                    scaler=self.scaler.state_dict(), sums=self.sums)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state['model'])
        self.optimizer.load_state_dict(state['optimizer'])
        if state['scaler']:
            self.scaler.load_state_dict(state['scaler'])
        self.sums = state['sums'].to(self.sums.device)


def finite(value: float) -> float | None:
    """The number; None if it is not finite, as JSON has no other way to say so."""
    return value if math.isfinite(value) else None
