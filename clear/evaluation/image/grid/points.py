"""The columns of a grid: what each head is trained with, from lists that are crossed or settings that have names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch

from clear.core.checks import check_choice, check_number, check_text, check_whole
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.core.seeding import derive_seed
from clear.evaluation.image.schedules import check_schedule, schedule_name

OPTIMIZERS = ('sgd', 'adam', 'adamw')


class Setting(TypedDict):
    """The hyper-parameters of a column, without its seed; name and momentum where they were given."""

    name: NotRequired[str]
    lr: float
    weight_decay: float
    optimizer: str
    schedule: str
    momentum: NotRequired[float]


@dataclass(frozen=True)
class GridPoint:
    """One column: the hyper-parameters of a head and the seed of its first weights.

    Args:
        momentum: of SGD; None is that of the whole grid.
        name: of the setting, where it has one.
    """

    lr: float
    weight_decay: float = 0.0
    optimizer: str = 'sgd'
    schedule: str | dict = 'constant'
    seed: int = 0
    momentum: float | None = None
    name: str | None = None

    def setting(self) -> Setting:
        """The hyper-parameters without the seed, as plain values."""
        setting = Setting(lr=self.lr, weight_decay=self.weight_decay, optimizer=self.optimizer,
                          schedule=schedule_name(self.schedule))
        if self.momentum is not None:
            setting['momentum'] = self.momentum
        return setting if self.name is None else Setting(name=self.name, **setting)

    def label(self) -> str:
        """The name of the setting, else what it is made of."""
        return self.name or (f'{self.optimizer}-lr{self.lr:g}-wd{self.weight_decay:g}-{schedule_name(self.schedule)}')


def expand_grid(lrs: Sequence[float], weight_decays: Sequence[float] = (0.0,), optimizers: Sequence[str] = ('sgd',),
                schedules: Sequence[str | dict] = ('constant',), seeds: Sequence[int] = (0,)) -> list[GridPoint]:
    """Every combination; the seeds of one setting stand next to each other.

    Raises:
        ConfigError: for an empty list, a value that no column can be trained with, or one given twice.
    """
    axes = dict(lrs=lrs, weight_decays=weight_decays, optimizers=optimizers, schedules=schedules, seeds=seeds)
    for name, values in axes.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ConfigError(f'{name} is {values!r}; expected a list of at least one value.')
        if any(value in values[:index] for index, value in enumerate(values)):
            raise ConfigError(f'{name} holds a value twice: {list(values)}.')
    for value in lrs:
        check_number('lrs', value, above=0)
    for value in weight_decays:
        check_number('weight_decays', value, 0)
    for name in optimizers:
        check_choice('an item of optimizers', name, OPTIMIZERS)
    for schedule in schedules:
        check_schedule(schedule)
    return [GridPoint(float(lr), float(decay), optimizer, schedule, seed) for lr, decay, optimizer, schedule, seed
            in itertools.product(lrs, weight_decays, optimizers, schedules, seeds)]


def named_points(settings: Mapping[str, Mapping[str, object]], seeds: Sequence[int], optimizer: str = 'sgd',
                 schedule: str | dict = 'constant') -> list[GridPoint]:
    """The settings of a list, name -> `dict(lr=...)` with `optimizer`, `schedule`, `weight_decay` and `momentum`.

    Args:
        optimizer, schedule: of a setting that names none.

    Raises:
        ConfigError: for no settings, a misspelt key, or a value that no column can be trained with.
    """
    if not isinstance(settings, Mapping) or not settings:
        raise ConfigError(f"settings is {settings!r}; expected names with what they stand for, as in "
                          "dict(adam_slow=dict(optimizer='adam', lr=1e-4)).")
    return [point for name, setting in settings.items() for point in _named(name, setting, seeds, optimizer, schedule)]


def _named(name: str, setting: object, seeds: Sequence[int], optimizer: str, schedule: str | dict) -> list[GridPoint]:
    where = f'settings.{check_text("a name in settings", name)}'
    if not isinstance(setting, Mapping) or 'lr' not in setting:
        raise ConfigError(f'{where} is {setting!r}; expected dict(lr=...), with optimizer, schedule, weight_decay and '
                          'momentum where they are not the usual ones.')
    check_keys(where, setting, {'lr', 'optimizer', 'schedule', 'weight_decay', 'momentum'}, 'a setting')
    optimizer, schedule = setting.get('optimizer', optimizer), setting.get('schedule', schedule)
    check_choice(f'{where}.optimizer', optimizer, OPTIMIZERS)
    check_schedule(schedule)
    momentum = setting.get('momentum')
    if momentum is not None:
        check_number(f'{where}.momentum', momentum, 0, below=1)
    lr = float(check_number(f'{where}.lr', setting['lr'], above=0))
    decay = float(check_number(f'{where}.weight_decay', setting.get('weight_decay', 0.0), 0))
    return [GridPoint(lr, decay, optimizer, schedule, seed, momentum, name) for seed in seeds]


def drawn_pairs(count: int, seed: int) -> list[tuple[float, float]]:
    """Different random pairs of learning rate and weight decay: a * 10^-b with a in 1 ... 8 and b in 1 ... 2 for the
    rate, 5 ... 9 for the decay (the search of ITRA and ProtoCLIP)."""
    check_whole('draws', count, 1, 100)
    generator = torch.Generator().manual_seed(derive_seed(seed, 'linear probe draws'))
    found: dict[tuple[float, float], None] = {}
    while len(found) < count:  # there are 640 pairs
        a, b, c, d = (int(torch.randint(low, high + 1, (), generator=generator))
                      for low, high in ((1, 8), (1, 2), (1, 8), (5, 9)))
        found[float(f'{a}e-{b}'), float(f'{c}e-{d}')] = None
    return list(found)
