"""Learning-rate schedules as tables: one factor per iteration, for every column of a grid at once.

Each is torch's of the same idea, stepped after every iteration (`step` and `epoch_cosine`: after every epoch), with the
momentum left alone: `StepLR`, `CosineAnnealingLR`, `OneCycleLR(cycle_momentum=False)`, `PolynomialLR`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clear.core.checks import check_number, check_whole
from clear.core.errors import ConfigError, nearest

# Schedule -> its options and their defaults. None for step_size: half of the epochs.
SCHEDULES: dict[str, dict[str, float | None]] = {
    'constant': {},
    'step': dict(step_size=None, gamma=0.1),
    'cosine': dict(min_factor=0.0),
    'epoch_cosine': dict(min_factor=0.0),
    'one_cycle': dict(pct_start=0.3, div_factor=25.0, final_div_factor=1e4),
    'poly': dict(power=0.9),
}


def lr_factors(schedule: str | dict, epochs: int, iterations_per_epoch: int) -> Tensor:
    """What the learning rate is multiplied with in each iteration.

    Args:
        schedule: a name, or `dict(type=name, ...)` with options of `SCHEDULES`.

    Returns:
        (epochs * iterations_per_epoch,) float64. One-cycle reaches 1 at its peak: a `lr` is its `max_lr`.

    Raises:
        ConfigError: for an unknown name or option.
    """
    name, options = check_schedule(schedule)
    total = epochs * iterations_per_epoch
    steps = torch.arange(total, dtype=torch.float64)
    if name == 'step':
        size = options['step_size'] or max(1, epochs // 2)
        return options['gamma'] ** (steps // iterations_per_epoch // size)
    if name in ('cosine', 'epoch_cosine'):
        low = options['min_factor']
        done = steps / total if name == 'cosine' else (steps // iterations_per_epoch) / epochs
        return low + (1 - low) * (1 + (math.pi * done).cos()) / 2
    if name == 'one_cycle':
        return _one_cycle(steps, total, **options)
    if name == 'poly':
        return (1 - steps / total) ** options['power']
    return torch.ones(total, dtype=torch.float64)


def _one_cycle(steps: Tensor, total: int, pct_start: float, div_factor: float, final_div_factor: float) -> Tensor:
    """Cosine from 1 / div_factor up to 1, then down to 1 / (div_factor * final_div_factor) (Smith and Topin 2018)."""
    first, last = 1 / div_factor, 1 / (div_factor * final_div_factor)
    peak, end = pct_start * total - 1, total - 1  # as torch counts: both may be fractions, and peak below zero
    if end <= peak or peak <= 0:
        raise ConfigError(f'one_cycle: {total} iterations with pct_start={pct_start} leave no rise or no fall; train '
                          'for more epochs, or take another schedule.')
    rise = _cosine_between(first, 1.0, steps / peak)
    return torch.where(steps <= peak, rise, _cosine_between(1.0, last, (steps - peak) / (end - peak)))


def _cosine_between(start: float, stop: float, share: Tensor) -> Tensor:
    return stop + (start - stop) / 2 * (1 + (math.pi * share).cos())


def check_schedule(schedule: str | dict) -> tuple[str, dict[str, float | None]]:
    """(name, all options) of a schedule.

    Raises:
        ConfigError: for an unknown name or option, or a value that makes no schedule.
    """
    options = dict(schedule) if isinstance(schedule, dict) else dict(type=schedule)
    name = options.pop('type', None)
    if name not in SCHEDULES:
        close = nearest(str(name), SCHEDULES)
        raise ConfigError(f'No schedule {name!r} is known.' + (f' Did you mean {close}?' if close else '')
                          + f" Known: {', '.join(SCHEDULES)}.")
    for key, value in options.items():
        if key not in SCHEDULES[name]:
            raise ConfigError(f"The schedule '{name}' has no option '{key}'. Known: "
                              f"{', '.join(SCHEDULES[name]) or 'none'}.")
        if key != 'step_size':
            check_number(f"{key} of the schedule '{name}'", value, 0)
    options = {**SCHEDULES[name], **options}
    step_size = options.get('step_size')
    if step_size is not None:
        check_whole("step_size of the schedule 'step'", step_size, 1)
    if not 0 < options.get('pct_start', 0.5) < 1 or min(options.get('div_factor', 1),
                                                        options.get('final_div_factor', 1)) <= 0:
        raise ConfigError(f"The schedule 'one_cycle' got {schedule!r}; pct_start lies between 0 and 1, the divisors "
                          'are above 0.')
    return name, options


def schedule_name(schedule: str | dict) -> str:
    """A short name for tables: 'step', 'poly(power=0.5)'."""
    if not isinstance(schedule, dict):
        return schedule
    options = ','.join(f'{key}={value}' for key, value in schedule.items() if key != 'type')
    return schedule['type'] + (f'({options})' if options else '')
