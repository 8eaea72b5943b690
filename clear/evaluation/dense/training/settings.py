"""How a head is trained: the settings of a task, by name or as a cross product."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import torch

from clear.core.checks import check_choice, check_number, check_text
from clear.core.configs.signatures import check_keys
from clear.core.errors import ConfigError
from clear.evaluation.image.schedules import check_schedule, schedule_name

OPTIMIZERS = ('adam', 'adamw', 'sgd')
DEFAULT = {'adam_1e-4': dict(optimizer='adam', lr=1e-4)}


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Args:
        name: in tables.
        lr: at the peak of the schedule.
        schedule: see `clear.evaluation.image.schedules`.
        momentum: of sgd.

    Raises:
        ConfigError: naming the setting, for a value that is none.
    """

    name: str
    lr: float
    optimizer: str = 'adam'
    schedule: str | Mapping[str, object] = 'constant'
    weight_decay: float = 0.0
    momentum: float = 0.9

    def __post_init__(self):
        where = f"settings['{check_text('a name of settings', self.name)}']"
        check_number(f'{where}.lr', self.lr, above=0)
        check_choice(f'{where}.optimizer', self.optimizer, OPTIMIZERS)
        check_schedule(self.schedule)
        check_number(f'{where}.weight_decay', self.weight_decay, 0)
        check_number(f'{where}.momentum', self.momentum, 0, below=1)

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)

    def build_optimizer(self, groups: Iterable[dict[str, object]]) -> torch.optim.Optimizer:
        """The optimiser of these groups of parameters, each of which has its `lr`."""
        if self.optimizer == 'sgd':
            return torch.optim.SGD(groups, self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        kind = torch.optim.Adam if self.optimizer == 'adam' else torch.optim.AdamW
        return kind(groups, self.lr, weight_decay=self.weight_decay)


def settings_of(named: Mapping[str, Mapping[str, object]] | None, lrs: Sequence[float] | None = None,
                optimizers: Sequence[str] | None = None, schedules: Sequence[str | dict] | None = None, *,
                momentum: float = Setting.momentum) -> tuple[Setting, ...]:
    """The settings of a task: those that are listed by name, or every combination of the lists.

    Args:
        momentum: of those that do not say it.

    Raises:
        ConfigError: for both or an empty list, unknown keys, or values that are none.
    """
    lists = dict(lrs=lrs, optimizers=optimizers, schedules=schedules)
    given = [name for name, values in lists.items() if values is not None]
    if named is not None and given:
        raise ConfigError(f'settings and {" and ".join(given)} were given; expected settings by name, or lists of '
                          'which every combination is one.')
    if not given:
        return _by_name(DEFAULT if named is None else named, momentum)
    if lrs is None:
        raise ConfigError(f'{" and ".join(given)} need lrs, a list of learning rates.')
    for name in given:
        if not isinstance(lists[name], (list, tuple)) or not lists[name]:
            raise ConfigError(f'{name} is {lists[name]!r}; expected a list of at least one.')
    found = []
    for optimizer, lr, schedule in itertools.product(optimizers or ['adam'], lrs, schedules or ['constant']):
        check_number('lrs', lr, above=0)
        check_schedule(schedule)
        name = f'{optimizer}_{lr:g}' + (f'_{schedule_name(schedule)}' if schedules else '')
        found.append(Setting(name, lr, optimizer, schedule, momentum=momentum))
    if len({setting.name for setting in found}) < len(found):
        raise ConfigError(f'{", ".join(given)}: a value is there twice.')
    return tuple(found)


def _by_name(named: Mapping[str, Mapping[str, object]], momentum: float) -> tuple[Setting, ...]:
    if not isinstance(named, Mapping) or not named:
        raise ConfigError(f"settings is {named!r}; expected names with values, dict(adam=dict(optimizer='adam', "
                          'lr=1e-4)).')
    found = []
    for name, values in named.items():
        where = f"settings['{name}']"
        if isinstance(values, Mapping):
            check_keys(where, values, {field.name for field in fields(Setting)} - {'name'}, 'a setting')
        if not isinstance(values, Mapping) or 'lr' not in values:
            raise ConfigError(f"{where} is {values!r}; expected dict(optimizer='adam', lr=1e-4, ...).")
        found.append(Setting(name, **{'momentum': momentum, **values}))
    return tuple(found)
