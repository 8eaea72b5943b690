"""Learning-rate schedules as tables: one factor per iteration, for every column of a grid at once.

Each is torch's of the same idea, stepped after every iteration (`step` and `epoch_cosine`: after every epoch):
`StepLR`, `CosineAnnealingLR`, `OneCycleLR`, `PolynomialLR`. Momentum is left alone, but for `one_cycle` with
`momentum=(lowest, highest)`, which lets it fall as the rate rises, as torch does with `cycle_momentum=True`.

Those that ViRB (Kotar et al. 2021, arXiv:2103.14005) means: `dict(type='step', step_size=50)`, `VIRB_ONE_CYCLE`, and
`dict(type='poly', power=0.9)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from clear.core.checks import check_choice, check_flag, check_number, check_whole
from clear.core.errors import ConfigError, suggestion

Option = float | str | bool | Sequence[float] | None
# Schedule -> its options and their defaults. None for step_size: half of the epochs; for momentum: left alone.
SCHEDULES: dict[str, dict[str, Option]] = {
    'constant': {},
    'step': dict(step_size=None, gamma=0.1),
    'cosine': dict(min_factor=0.0),
    'epoch_cosine': dict(min_factor=0.0),
    'one_cycle': dict(pct_start=0.3, div_factor=25.0, final_div_factor=1e4, anneal='cos', by_epoch=False,
                      momentum=None),
    'poly': dict(power=0.9),
}
ANNEALS = ('cos', 'linear')
# Stepped once an epoch, straight up and down, momentum the other way: what the code of ViRB asks torch for.
VIRB_ONE_CYCLE = dict(type='one_cycle', anneal='linear', by_epoch=True, momentum=(0.85, 0.95))


def lr_factors(schedule: str | dict, epochs: int, iterations_per_epoch: int, *, too_few: bool = False) -> Tensor:
    """What the learning rate is multiplied with in each iteration.

    Args:
        schedule: a name, or `dict(type=name, ...)` with options of `SCHEDULES`.
        too_few: take too few steps for a rise as torch does, see `one_cycle`.

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
        first = 1 / options['div_factor']
        return _cycled(options, (first, 1.0, first / options['final_div_factor']), epochs, iterations_per_epoch,
                       too_few)
    if name == 'poly':
        return (1 - steps / total) ** options['power']
    return torch.ones(total, dtype=torch.float64)


def momenta(schedule: str | dict, epochs: int, iterations_per_epoch: int, *, too_few: bool = False) -> Tensor | None:
    """The momentum of SGD, or the first beta of Adam, in each iteration; None where a schedule leaves it alone.

    Args:
        schedule, too_few: as for `lr_factors`.

    Returns:
        (epochs * iterations_per_epoch,) float64.

    Raises:
        ConfigError: as `lr_factors` does.
    """
    _, options = check_schedule(schedule)
    if options.get('momentum') is None:
        return None
    lowest, highest = options['momentum']
    return _cycled(options, (highest, lowest, highest), epochs, iterations_per_epoch, too_few)


def one_cycle(steps: Tensor, total: int, heights: tuple[float, float, float], pct_start: float = 0.3,
              anneal: str = 'cos', too_few: bool = False) -> Tensor:
    """From the first height to the second and on to the third (Smith and Topin 2018, arXiv:1708.07120).

    Args:
        steps: which of the `total` steps are asked for, float64.
        pct_start: the share of the steps until the second height.
        anneal: 'cos' or 'linear'.
        too_few: where there is no step for the first part, begin within the second, as torch does without a word.

    Raises:
        ConfigError: for so few steps that there is no first or no second part.
    """
    peak, end = pct_start * total - 1, total - 1  # as torch counts: both may be fractions, and peak below zero
    if end <= peak or peak <= 0 and not (too_few and peak < 0):
        raise ConfigError(f'one_cycle: {total} steps with pct_start={pct_start} leave no rise or no fall; train for '
                          'more epochs, or take another schedule.')
    first, second, third = heights
    between = _cosine_between if anneal == 'cos' else _straight_between
    return torch.where(steps <= peak, between(first, second, steps / peak),
                       between(second, third, (steps - peak) / (end - peak)))


def _cycled(options: dict[str, Option], heights: tuple[float, float, float], epochs: int, iterations_per_epoch: int,
            too_few: bool) -> Tensor:
    total = epochs if options['by_epoch'] else epochs * iterations_per_epoch
    values = one_cycle(torch.arange(total, dtype=torch.float64), total, heights, options['pct_start'],
                       options['anneal'], too_few)
    return values.repeat_interleave(iterations_per_epoch) if options['by_epoch'] else values


def _cosine_between(start: float, stop: float, share: Tensor) -> Tensor:
    return stop + (start - stop) / 2 * (1 + (math.pi * share).cos())


def _straight_between(start: float, stop: float, share: Tensor) -> Tensor:
    return (stop - start) * share + start


def check_schedule(schedule: str | dict) -> tuple[str, dict[str, Option]]:
    """(name, all options) of a schedule.

    Raises:
        ConfigError: for an unknown name or option, or a value that makes no schedule.
    """
    options = dict(schedule) if isinstance(schedule, dict) else dict(type=schedule)
    name = options.pop('type', None)
    if name not in SCHEDULES:
        raise ConfigError(f'No schedule {name!r} is known.{suggestion(name, SCHEDULES)} '
                          f"Known: {', '.join(SCHEDULES)}.")
    for key, value in options.items():
        if key not in SCHEDULES[name]:
            raise ConfigError(f"The schedule '{name}' has no option '{key}'. Known: "
                              f"{', '.join(SCHEDULES[name]) or 'none'}.")
        if key == 'anneal':
            check_choice(f"{key} of the schedule '{name}'", value, ANNEALS)
        elif key == 'by_epoch':
            check_flag(f"{key} of the schedule '{name}'", value)
        elif key == 'momentum':
            _check_momentum(value)
        elif key != 'step_size':
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


def _check_momentum(value: object) -> None:
    if value is not None and not (isinstance(value, (list, tuple)) and len(value) == 2):
        raise ConfigError(f"momentum of the schedule 'one_cycle' is {value!r}; expected (lowest, highest), or None to "
                          'leave it alone.')
    for number in value or ():
        # At exactly 0 torch's SGD leaves its state as it was: no cycle goes through that.
        check_number("momentum of the schedule 'one_cycle'", number, above=0, below=1)


def schedule_name(schedule: str | dict) -> str:
    """A short name for tables: 'step', 'poly(power=0.5)'."""
    if not isinstance(schedule, dict):
        return schedule
    options = ','.join(f'{key}={value}' for key, value in schedule.items() if key != 'type')
    return schedule['type'] + (f'({options})' if options else '')
